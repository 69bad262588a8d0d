// Reads and writes of every form, seen as the one that has all of it: a message.
#ifndef HIJACK_MESSAGE_H_
#define HIJACK_MESSAGE_H_

#include <limits.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "hijack/hijacked_fd.h"

namespace rump::hijack {

// A msghdr for one buffer, with room for its iovec.
class BufferMessage {
 public:
  BufferMessage(const void* buffer, size_t size, const void* name, socklen_t name_len)
      : iov_{const_cast<void*>(buffer), size} {
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
