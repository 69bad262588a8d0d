// The border between the sysproxy server and the kernel behind it. The server knows frames,
// connections and cookies; the kernel knows processes and system calls. Another kernel can be put
// behind the server by implementing Kernel and KernelProcess.
//
// Threads: all of this belongs to the one thread that runs the server's loop. The server calls the
// kernel there, and only there may the kernel call Call's functions, drop its last reference to a
// Call, and call the `done` of an Exec. A kernel whose calls run on threads of their own hands
// every such step to EventLoop::Post. What the kernel gives its threads it must keep alive itself:
// a KernelProcess may be destroyed while calls of it still run.
#ifndef SP_SERVER_SERVER_KERNEL_INTERFACE_H_
#define SP_SERVER_SERVER_KERNEL_INTERFACE_H_

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "protocol/errno.h"
#include "protocol/frame.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

// Gets the bytes of a copyin.
class CopyInSink {
 public:
  // kOk and the bytes (valid during the call; a string with its NUL), or why there are none: EFAULT
  // for memory that the client does not give, EIO when the client is gone.
  virtual void OnCopyIn(Errno error, std::span<const std::byte> data) = 0;

 protected:
  ~CopyInSink() = default;
};

// Is told when a client has room for what a call has to send.
class OutputWaiter {
 public:
  virtual void OnOutputRoom() = 0;

 protected:
  ~OutputWaiter() = default;
};

// One system call of a client, with the client's memory as far as the call reaches it. Implemented
// by the server, used by the kernel. Its functions may be called until Complete; they have no
// effect once the client is gone.
class Call {
 public:
  static constexpr size_t kMaxArgs = 6;

  virtual ~Call() = default;

  uint32_t number() const { return number_; }
  // Argument `i`; 0 where the client sent fewer.
  uint64_t arg(size_t i) const { return args_[i]; }
  // How many the client sent.
  size_t nargs() const { return nargs_; }

  // Asks for `len` bytes (at most kMaxCopy) at `addr` of the client. `sink` must live until told,
  // which may be before this returns, or taken back. A call asks for one thing at a time.
  virtual void CopyIn(uint64_t addr, size_t len, CopyInSink* sink) = 0;
  // The `len` bytes at `addr` if they came along with the request, else none. They are there until
  // SystemCall returns. CopyIn looks here first.
  virtual std::span<const std::byte> InRequest(uint64_t addr, size_t len) const = 0;
  // What keeps the bytes of InRequest for longer, as long as it lives; nullptr: nothing does. From
  // kWorthKeeping bytes on it takes not much more memory than they do.
  static constexpr size_t kWorthKeeping = 32 * 1024;
  virtual std::shared_ptr<const void> KeepRequest() const { return nullptr; }
  // CopyIn for a string of at most `max` bytes, its NUL included.
  virtual void CopyInStr(uint64_t addr, size_t max, CopyInSink* sink) = 0;
  // Asks the client to map `len` bytes of zeroes. `sink` gets the 8 bytes of their address; ENOMEM
  // if the client could not.
  virtual void AnonMmap(size_t len, CopyInSink* sink) = 0;
  // Takes the sink back that has not been told yet, if there is one: the client's answer, should it
  // ever come, is ignored.
  virtual void CancelCopyIn() = 0;
  // Sends bytes to the client's memory; they are there when the call returns. Of any length.
  virtual void CopyOut(uint64_t addr, std::span<const std::byte> data) = 0;
  // The same for a string, which gets its NUL on the way. Of at most kMaxCopy - 1 bytes.
  virtual void CopyOutStr(uint64_t addr, std::string_view text) = 0;
  // Whether the client has read so much of what it was sent that this call may copy out more than a
  // few hundred bytes. A call that does not wait for that can cost its client the connection, which
  // has to end when too much is unread.
  virtual bool HasOutputRoom() const = 0;
  // Tells `waiter` once when there is room, or the client is gone. It must live until told or taken
  // back by nullptr; a call has one at a time.
  virtual void AwaitOutputRoom(OutputWaiter* waiter) = 0;
  // Makes the client raise `signo` on itself.
  virtual void Raise(int signo) = 0;
  // Takes the descriptor that came with the request ("hostfd"); invalid if none did. To be called
  // before SystemCall returns, which drops it otherwise. The client has made it: whoever does not
  // know what it is gives it to EventLoop::closer.
  virtual UniqueFd TakeFd() = 0;
  // Gives a descriptor to go with the response ("hostfd").
  virtual void AttachFd(UniqueFd fd) = 0;
  // Ends the call. The last use of the object; no sink is waiting.
  virtual void Complete(Errno error, uint64_t retval0, uint64_t retval1) = 0;

  // A note of the kernel's, by which it knows the call again in KernelProcess::Interrupt.
  void* kernel_note() const { return kernel_note_; }
  void set_kernel_note(void* note) { kernel_note_ = note; }

 protected:
  uint32_t number_ = 0;
  size_t nargs_ = 0;
  uint64_t args_[kMaxArgs] = {};

 private:
  void* kernel_note_ = nullptr;
};

// What the server knows of a client, for reports.
class ClientInfo {
 public:
  virtual ~ClientInfo() = default;
  // Such as "unix pid 4711 uid 0" or "tcp://127.0.0.1:40000/".
  virtual std::string Describe() const = 0;
  virtual size_t calls_in_flight() const = 0;
  // Both directions, since the connection was made.
  virtual uint64_t bytes_moved() const = 0;
  // Whether the client is on this machine and belongs to root or to the server's own user.
  virtual bool trusted() const = 0;
};

// What the server has counted since it started.
struct ServerCounters {
  static constexpr size_t kErrors = static_cast<size_t>(WireError::kMalformedRequest) + 1;

  uint64_t clients = 0;  // ever accepted
  uint64_t preforks = 0;
  uint64_t copyins = 0;  // frames of each kind, strings included
  uint64_t copyouts = 0;
  uint64_t bytes_in = 0;  // of all clients
  uint64_t bytes_out = 0;
  uint64_t errors[kErrors] = {};  // frames of class ERROR, by WireError
};

// What the server knows of itself, for reports.
class ServerInfo {
 public:
  virtual ~ServerInfo() = default;
  // Connected now.
  virtual size_t clients() const = 0;
  // Forked processes that wait to be claimed.
  virtual size_t preforks() const = 0;
  // Bits of Extension that clients are offered.
  virtual uint32_t extensions() const = 0;
  virtual const ServerCounters& counted() const = 0;
};

// A process of the kernel. Destroying it is its exit: calls in flight are interrupted and what it
// held is freed.
class KernelProcess {
 public:
  virtual ~KernelProcess() = default;

  // A child with a copy of this process's descriptors, as they are now. It has no client yet.
  virtual Result<std::unique_ptr<KernelProcess>> Fork() = 0;
  // Tells the process who its client is; `client` outlives the process or is taken back by nullptr.
  virtual void SetClient(const ClientInfo* client) = 0;
  // Interrupts all calls in flight, and when they have ended (none of them answers its client)
  // closes the close-on-exec descriptors, takes the new name and calls `done`. One at a time.
  virtual void Exec(std::string_view command, std::function<void(Errno)> done) = 0;
  // Runs a system call, which ends by call->Complete, maybe before this returns.
  virtual void SystemCall(std::shared_ptr<Call> call) = 0;
  // Ends `call`, which has not completed, as a signal would: soon, with EINTR or what it has done
  // so far.
  virtual void Interrupt(Call& call) = 0;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  // A new process, child of init, with a clean descriptor table.
  virtual Result<std::unique_ptr<KernelProcess>> Spawn(std::string_view command) = 0;
  // Tells the kernel who serves it; taken back by nullptr. Not every kernel makes reports.
  virtual void SetServer(const ServerInfo*) {}
};

}  // namespace rump

#endif  // SP_SERVER_SERVER_KERNEL_INTERFACE_H_
