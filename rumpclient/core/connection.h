// One connection to a rump kernel server, which is one process there: the client half of RUMPSP.
//
// Runs inside other people's programs, in signal handlers and after fork: it issues its own system
// calls, calls nothing in libc, allocates nothing, and takes no lock but a futex of its own. An
// object is constant-initialised and needs no destructor.
//
// Any number of threads may have calls in flight. One of them at a time reads the socket and serves
// COPYIN, COPYOUT and RAISE for all; the others sleep on a futex until they are handed their answer
// or the reader's role.
#ifndef RUMPCLIENT_CORE_CONNECTION_H_
#define RUMPCLIENT_CORE_CONNECTION_H_

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <string_view>

#include "protocol/banner.h"
#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "protocol/url.h"
#include "rumpclient/core/call.h"
#include "rumpclient/core/call_memory.h"
#include "rumpclient/core/futex.h"

namespace rump::client {

class Connection {
 public:
  constexpr Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Connects to `endpoint` and reads the banner. The descriptor is close-on-exec and moved to a
  // high number. 0, or -errno: connect(2)'s, EPROTONOSUPPORT for a banner of another major version,
  // EPROTO for no banner at all, ETIMEDOUT for none within 10 seconds, EALREADY if it is open.
  // Not thread-safe against other functions of the same object.
  long Open(const Endpoint& endpoint);

  // The handshakes, each after Open: 0 or -errno (the wire's error or the handshake's own).
  long Guest(std::string_view command);
  // Claims the process that `cookie` names; with `cancel` drops it, and the connection is closed.
  long Fork(const PreforkCookie& cookie, bool cancel);
  // Renames the process after an exec; drains its other calls.
  long Exec(std::string_view command);

  // Forks the process in the server at this moment: *cookie claims the copy. 0 or -errno.
  long Prefork(PreforkCookie* cookie);

  // Sends `call` and waits for its answer, serving the server's requests meanwhile. 0: call->error
  // and call->retval are valid. -ENOTCONN: the connection is lost or was never open.
  // The server can read and write only memory that some call in flight was given, by the table of
  // system calls.
  long Issue(Call* call);

  // Closes the descriptor and forgets all state, calls of other threads included. For the child of
  // a fork, where those threads do not exist.
  void Abandon();

  // Moves the descriptor to another number, close-on-exec, and frees the one it has: for a program
  // that wants that number. 0 or -errno (EBADF if not open). Waits for calls in flight.
  long MoveFd();

  // True from Open until the connection is lost.
  bool open() const { return fd_.load(std::memory_order_relaxed) >= 0; }
  // The descriptor, -1 if not open: for callers that must keep it from being closed.
  int fd() const { return fd_.load(std::memory_order_relaxed); }
  // Bits of Extension that the server announced.
  uint32_t extensions() const { return extensions_; }

 private:
  // A request that waits for its response. Lives on the requester's stack, in list_ from before it
  // is sent until the reader completes it; the reader may use it without the lock meanwhile.
  struct Pending;

  static constexpr size_t kReceiveBuffer = 8192;
  static constexpr size_t kMaxQueuedFds = 8;
  // Address space that ANONMMAP may take over the life of a connection.
  static constexpr uint64_t kMaxAnonymousMemory = uint64_t{1} << 30;

  long ReadBanner();

  // Sends the request and waits for its response. 0, or -ENOTCONN, or for a response of class
  // ERROR its -errno.
  long Transact(Pending* pending, uint32_t u, const void* payload, size_t payload_size,
                int send_fd = -1);
  void Await(Pending* pending);
  void Complete(Pending* pending, long result);
  void GiveFd(Call* call);
  size_t CountWantedFds() const;  // under lock_
  void KeepFds(size_t most);
  void Lose();
  void RaiseSignals();
  Pending* FindMemory(const CopyPayload& range, Access access);

  // One frame, whole: other threads' frames come before or behind it. 0 or -errno; after any error
  // but EFAULT the stream cannot be used. EFAULT: the last part of the frame is memory that cannot
  // be read, and an empty or zero-filled part was sent in its place.
  long Send(FrameHeader header, const void* payload, size_t payload_size, int send_fd = -1);

  // The reader's side, for the thread that holds the role. False: the connection is lost.
  bool ReadFrame();
  bool ServeRequest(const FrameHeader& header);
  bool ServeCopyIn(const FrameHeader& header);
  bool ServeCopyOut(const FrameHeader& header);
  bool ServeAnonMmap(const FrameHeader& header);
  bool TakeResponse(const FrameHeader& header);
  // Consumes the header and the fixed part of the payload; false if the frame is too short for it.
  template <typename T>
  bool TakePayload(const FrameHeader& header, T* payload);
  // Makes `n` unread bytes (at most kReceiveBuffer) available at unread().
  bool Need(size_t n);
  bool Skip(uint64_t n);
  // recvmsg into `extra` and, behind it, the empty or compacted buffer. Keeps descriptors that come
  // along. Bytes received, 0 at the end of the stream, or -errno.
  long Receive(void* extra, size_t extra_size);
  const std::byte* unread() const { return buffer_ + begin_; }
  size_t unread_size() const { return end_ - begin_; }

  std::atomic<int> fd_{-1};
  uint32_t extensions_ = 0;
  bool linux_abi_ = false;  // the table of system calls describes what the server executes
  std::atomic<uint64_t> next_reqno_{1};
  std::atomic<uint64_t> raised_{0};  // signal n as bit n - 1, from RAISE

  FutexLock send_lock_;  // held for a frame; the descriptor is closed under it

  FutexLock lock_;  // list_, reading_, and the state of what is in list_
  Pending* list_ = nullptr;
  bool reading_ = false;  // some thread has the reader's role

  // The reader's own.
  uint64_t mapped_ = 0;
  size_t queued_fds_ = 0;
  int fds_[kMaxQueuedFds] = {};  // received, not yet handed to a call; oldest first
  size_t begin_ = 0;
  size_t end_ = 0;
  std::byte buffer_[kReceiveBuffer] = {};
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_CONNECTION_H_
