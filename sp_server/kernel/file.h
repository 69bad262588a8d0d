// An open file of the kernel: what file descriptors refer to. Pipes and sockets implement it.
#ifndef SP_SERVER_KERNEL_FILE_H_
#define SP_SERVER_KERNEL_FILE_H_

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <span>
#include <utility>

#include "protocol/errno.h"
#include "sp_server/kernel/wait_queue.h"

namespace rump {

class Socket;

// POLL* bits that come together.
inline constexpr uint32_t kReadable = POLLIN | POLLRDNORM;
inline constexpr uint32_t kWritable = POLLOUT | POLLWRNORM;
inline constexpr uint32_t kEverything = kReadable | kWritable | POLLRDHUP | POLLHUP | POLLERR;

// No operation blocks: one that would answers EAGAIN, and the caller waits on waiters(). Operations
// never touch client memory either; the system calls copy.
class File {
 public:
  // `flags`: O_NONBLOCK, O_ASYNC and the access mode, as F_GETFL shows them.
  explicit File(int flags) : flags_(flags) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  virtual ~File() = default;

  // Reads up to buffer.size() bytes; 0 is the end of the file. EAGAIN: nothing there yet.
  virtual Result<size_t> Read(std::span<std::byte> buffer) = 0;
  // Writes up to data.size() bytes, at least one. EAGAIN: no room yet; EPIPE: nobody will read. Of
  // no bytes: whether this is a file to write to that somebody will read.
  virtual Result<size_t> Write(std::span<const std::byte> data) = 0;
  // The same of bytes that are there as long as `keeper` is, unless that is nullptr: to keep them
  // may cost less than to copy them.
  virtual Result<size_t> WriteKept(std::span<const std::byte> data,
                                   const std::shared_ptr<const void>& /*keeper*/) {
    return Write(data);
  }
  // The POLL* bits of poll(2) that hold now.
  virtual uint32_t Poll() const = 0;
  // ioctl(2) on this kind of file; `arg` is the argument's memory, copied in before and out after.
  // ENOTTY: not for this file.
  virtual Errno Ioctl(uint64_t request, std::span<std::byte> arg);
  // This file as a socket, or nullptr.
  virtual Socket* AsSocket() { return nullptr; }

  int flags() const { return flags_; }
  void set_flags(int flags) { flags_ = flags; }
  bool nonblocking() const { return (flags_ & O_NONBLOCK) != 0; }

  // Told whenever Poll() may have gained bits.
  WaitQueue& waiters() { return waiters_; }

  // Who gets SIGIO and SIGURG, as F_SETOWN says; 0 for nobody. The waiter that sends it is the
  // file's.
  int owner() const { return owner_; }
  void set_owner(int owner) { owner_ = owner; }
  void set_owner_waiter(std::shared_ptr<Waiter> waiter) {
    owner_waiter_ = std::move(waiter);
    if (owner_waiter_ != nullptr) waiters_.Add(owner_waiter_.get());
  }

 private:
  int flags_;
  int owner_ = 0;
  WaitQueue waiters_;
  std::shared_ptr<Waiter> owner_waiter_;
};

inline Errno File::Ioctl(uint64_t, std::span<std::byte>) { return Errno(ENOTTY); }

}  // namespace rump

#endif  // SP_SERVER_KERNEL_FILE_H_
