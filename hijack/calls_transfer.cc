// What moves bytes without a buffer of the program's. On connected streams that is the host's
// business; here is what the program's end of any other socket would answer wrongly.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>

#include "hijack/calls.h"
#include "hijack/fd_cache.h"
#include "hijack/hijacked_fd.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"
#include "rumpclient/core/user_memory.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// No datagram is longer.
constexpr size_t kMaxDatagram = 65536;

// Memory for a datagram, more than there is on some threads' stacks.
class DatagramBuffer {
 public:
  DatagramBuffer()
      : memory_(RawSyscall(SYS_mmap, nullptr, kMaxDatagram, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~DatagramBuffer() {
    if (error() == 0) RawSyscall(SYS_munmap, memory_, kMaxDatagram);
  }
  DatagramBuffer(const DatagramBuffer&) = delete;
  DatagramBuffer& operator=(const DatagramBuffer&) = delete;

  // 0 or -errno.
  long error() const { return std::min(memory_, 0L); }
  void* data() const { return reinterpret_cast<void*>(memory_); }

 private:
  const long memory_;
};

// sendfile(2) to a datagram socket: what there is of `size` bytes becomes one datagram.
long SendFileAsDatagram(int fd, int file, off_t* offset, size_t size) {
  // Nobody may leave by siglongjmp(3) with the buffer.
  const client::SignalBlock block;
  off_t start;
  if (offset == nullptr) {
    start = RawSyscall(SYS_lseek, file, 0, SEEK_CUR);
  } else if (!client::ReadUserMemory(&start, ToSlot(offset), sizeof start)) {
    return -EFAULT;
  }
  // What cannot be read again if sending fails. Callers then read and write by themselves.
  if (start < 0) return -EINVAL;
  const DatagramBuffer buffer;
  if (buffer.error() != 0) return buffer.error();
  const long got =
      RawSyscall(SYS_pread64, file, buffer.data(), std::min(size, kMaxDatagram), start);
  if (got == -ESPIPE) return -EINVAL;
  if (got <= 0) return got;
  const Outcome sent = CallSendto(MakeArgs(fd, buffer.data(), got));
  // Another thread has given the number to a descriptor of the host.
  if (!sent.handled) return -EBADF;
  if (sent.result < 0) return sent.result;
  if (offset != nullptr) {
    *offset += sent.result;
  } else {
    RawSyscall(SYS_lseek, file, start + sent.result, SEEK_SET);
  }
  return sent.result;
}

// Whether vectors at `offset` are what readv(2) and writev(2) take: without flags that only files
// know, and without a place in a file. The host refuses all others on sockets.
bool IsPlainVector(int64_t offset, int flags) {
  constexpr int kForSockets = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;
  return offset == -1 && (flags & ~kForSockets) == 0;
}

int MessageFlags(int flags) { return (flags & RWF_NOWAIT) != 0 ? MSG_DONTWAIT : 0; }

bool IsPipe(int fd) { return RawSyscall(SYS_fcntl, fd, F_GETPIPE_SZ) >= 0; }

// Whether splice(2) between the two comes as far as the socket.
bool IsSpliceable(const Args& args) {
  const bool from_pipe = IsPipe(args.fd());
  const int other = args.get<int>(from_pipe ? 2 : 0);
  return args.slot[1] == 0 && args.slot[3] == 0 && (from_pipe || IsPipe(args.get<int>(2))) &&
         !IsPipe(other);
}

}  // namespace

Outcome CallSendfile(const Args& args) {
  HijackedFd hijacked;
  if (!Identify(args.fd(), &hijacked)) return kPass;
  if (hijacked.kind == FdKind::kDatagram) {
    return Done(SendFileAsDatagram(args.fd(), args.get<int>(1), args.get<off_t*>(2), args.slot[3]));
  }
  return SendNothing(args.fd());
}

Outcome CallSplice(const Args& args) {
  const int in = args.fd();
  const int out = args.get<int>(2);
  if (fd_cache.BytesPass(in) && fd_cache.BytesPass(out)) return kPass;
  HijackedFd hijacked;
  const bool writes = Identify(out, &hijacked);
  if (!writes && !Identify(in, &hijacked)) return kPass;
  if (IsConnected(hijacked.kind) || !IsSpliceable(args)) return kPass;
  // Datagrams are no bytes in a pipe of the host. Callers then read and write by themselves.
  if (hijacked.kind == FdKind::kDatagram) return Done(-EINVAL);
  return writes ? SendNothing(out) : CallRecvfrom(MakeArgs(in));
}

Outcome CallPreadv2(const Args& args) {
  const int flags = args.get<int>(5);
  if (!IsPlainVector(args.get<int64_t>(3), flags)) return kPass;
  return ReceiveVector(args.fd(), args.get<const iovec*>(1), args.get<int>(2), MessageFlags(flags));
}

Outcome CallPwritev2(const Args& args) {
  const int flags = args.get<int>(5);
  if (!IsPlainVector(args.get<int64_t>(3), flags)) return kPass;
  return SendVector(args.fd(), args.get<const iovec*>(1), args.get<int>(2), MessageFlags(flags));
}

}  // namespace rump::hijack
