// Reads and writes of every form, seen as the one that has all of it: a message.
#ifndef HIJACK_MESSAGE_H_
#define HIJACK_MESSAGE_H_

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>

#include "hijack/hijacked_fd.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {

// MAX_RW_COUNT of the kernel: no call moves more, whatever it is asked for.
inline constexpr size_t kMaxTransfer = 0x7ffff000;

// A msghdr for one buffer, with room for its iovec.
class BufferMessage {
 public:
  BufferMessage(const void* buffer, size_t size, const void* name, socklen_t name_len)
      : iov_{const_cast<void*>(buffer), std::min(size, kMaxTransfer)} {
    header_.msg_name = const_cast<void*>(name);
    header_.msg_namelen = name_len;
    header_.msg_iov = &iov_;
    header_.msg_iovlen = 1;
  }
  BufferMessage(const BufferMessage&) = delete;
  BufferMessage& operator=(const BufferMessage&) = delete;

  msghdr* header() { return &header_; }

 private:
  iovec iov_;
  msghdr header_ = {};
};

// Whether readv(2) and writev(2) with `count` buffers get to the socket: none move nothing, and too
// many are an error that the host gives as well.
inline bool IsVectorCount(int count) { return count > 0 && count <= IOV_MAX; }

// Whether `pointer` may be one at all, which costs nothing to see: neither in the first page, as
// those of null objects are, nor of the kernel's.
inline bool IsPointer(const void* pointer) { return reinterpret_cast<intptr_t>(pointer) >= 4096; }

// What the kernel says of `msg` before it moves anything: 0, or -errno.
inline long CheckMessage(const msghdr& msg) {
  if (msg.msg_name != nullptr && msg.msg_namelen > INT_MAX) return -EINVAL;
  if (msg.msg_iovlen > IOV_MAX) return -EMSGSIZE;
  if (msg.msg_iovlen > 0 && !IsPointer(msg.msg_iov)) return -EFAULT;
  for (size_t i = 0; i < msg.msg_iovlen; ++i) {
    if (msg.msg_iov[i].iov_len > SSIZE_MAX) return -EINVAL;
  }
  return 0;
}

// Receives from `fd` a record with a descriptor, as listeners send them. recvmsg(2)'s
// result; *received: the descriptor, or -1 if there is none, as the kernel drops one that the
// process has no room for.
inline long ReceiveRecord(int fd, void* record, size_t size, int flags, int* received) {
  iovec iov = {record, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  *received = -1;
  const long r = client::RawSyscall(SYS_recvmsg, fd, &msg, flags);
  if (r < 0) return r;
  const cmsghdr* const cmsg = CMSG_FIRSTHDR(&msg);
  if (cmsg != nullptr && cmsg->cmsg_type == SCM_RIGHTS) {
    memcpy(received, CMSG_DATA(cmsg), sizeof *received);
  }
  return r;
}

// A msghdr for readv(2) and writev(2).
inline msghdr VectorMessage(const iovec* iov, int count) {
  msghdr header = {};
  header.msg_iov = const_cast<iovec*>(iov);
  header.msg_iovlen = static_cast<size_t>(count);
  return header;
}

// What a stream that carries no bytes says to a reader or writer: the error that it waits to
// report, or else `error`.
long PendingError(const HijackedFd& hijacked, int error);

}  // namespace rump::hijack

#endif  // HIJACK_MESSAGE_H_
