// One connection to a rump kernel server, which is one process there: the client half of RUMPSP.
//
// Runs inside other people's programs, in signal handlers and after fork: it issues its own system
// calls, calls nothing in libc, allocates nothing, and takes no lock but a futex of its own. An
// object is constant-initialised and needs no destructor.
//
// Any number of threads may have calls in flight. One of them at a time reads the socket and serves
// COPYIN, COPYOUT and RAISE for all; the others sleep on a futex until they are handed their answer
// or the reader's role.
//
// Handlers of signals may interrupt a call where it waits, and only there, and make calls of their
// own: the caller blocks all signals, and Issue lets them in by an Interruption. The reader waits
// for the next frame without taking anything from the socket, so that a handler's call can take
// over the role of the call below it.
#ifndef RUMPCLIENT_CORE_CONNECTION_H_
#define RUMPCLIENT_CORE_CONNECTION_H_

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <span>
#include <string_view>

#include "protocol/banner.h"
#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "protocol/url.h"
#include "rumpclient/core/call.h"
#include "rumpclient/core/call_memory.h"
#include "rumpclient/core/deadline.h"
#include "rumpclient/core/futex.h"
#include "rumpclient/core/interruption.h"
#include "rumpclient/core/outgoing_frame.h"
#include "rumpclient/core/send_lock.h"

namespace rump::client {

class Connection {
 public:
  // Below it live the descriptors that programs expect to be theirs.
  static constexpr int kHighFd = 1000;

  // Descriptors that the server sends along are lost where `takes_fds` is false, which is faster.
  constexpr explicit Connection(bool takes_fds = true) : takes_fds_(takes_fds) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Connects to `endpoint` and reads the banner. The descriptor is close-on-exec and moved to a
  // high number. 0, or -errno: connect(2)'s, EPROTONOSUPPORT for a banner of another major version,
  // EPROTO for no banner at all, ETIMEDOUT for none within 10 seconds, EALREADY if it is open.
  // Not thread-safe against other functions of the same object.
  // With `interruption`, here and below: signals are blocked, and those that it lets in and that
  // have no handler end or stop the program if it waits for long.
  long Open(const Endpoint& endpoint, const Interruption* interruption = nullptr);

  // The handshakes, each after Open: 0 or -errno (the wire's error or the handshake's own,
  // ETIMEDOUT if there is no answer within 10 seconds). Not thread-safe, either.
  long Guest(std::string_view command, const Interruption* interruption = nullptr);
  // Claims the process that `cookie` names; with `cancel` drops it, and the connection is closed
  // when the server has done so.
  long Fork(const PreforkCookie& cookie, bool cancel, const Interruption* interruption = nullptr);
  // Renames the process after an exec; drains its other calls.
  long Exec(std::string_view command);

  // Forks the process in the server at this moment: *cookie claims the copy. 0 or -errno.
  // `interruption`: as of Issue, but handlers do not end the request. -ETIMEDOUT: its deadline has
  // passed; the connection is lost then only if the server has stalled in a frame.
  long Prefork(PreforkCookie* cookie, Interruption* interruption = nullptr);

  // The same with a connection that is the copy's already, if the server has the extension
  // "hostfd": *fd, close-on-exec, of which one process at a time makes use, by BecomeForked.
  long Prefork(int* fd, Interruption* interruption = nullptr);
  // In the child, in place of Open and Fork: forgets this connection, but for its descriptor, which
  // the caller closes, and takes over `fd`, which is moved to a high number. 0 or -errno.
  long BecomeForked(int fd);

  // Sends `call` and waits for its answer, serving the server's requests meanwhile. 0: call->error
  // and call->retval are valid. -ENOTCONN: the connection is lost or was never open.
  // The server can read and write only memory that some call in flight was given, by the table of
  // system calls.
  // The caller has blocked all signals; with `interruption`, a wait that is not short lets them in.
  // Then a handler without SA_RESTART makes the server end the call, if it has the extension
  // "cancel"; the call is issued again if signals that the server raised ended it whose handlers
  // have SA_RESTART.
  long Issue(Call* call, Interruption* interruption = nullptr);

  // exec(2) keeps the connection. Suspend waits until no frame is on its way through this process
  // and keeps all threads from sending and receiving, so that the program that comes next finds the
  // stream at the start of a frame; Resume ends that, when there is no next program. Between the
  // two, only functions that touch no frame may be called. False: the connection is lost.
  bool Suspend(const Interruption* interruption = nullptr);
  void Resume();
  // Whether the descriptor is closed by an exec.
  void SetCloseOnExec(bool on);
  // What the next program has to know, and takes the connection over with.
  struct Inheritance {
    int fd = -1;
    uint32_t extensions = 0;
    bool linux_abi = false;
  };
  Inheritance inheritance() const { return {fd(), extensions_, linux_abi_}; }
  // In place of Open, to be followed by Exec. 0 or -errno: EALREADY, ENOTSOCK.
  long Adopt(const Inheritance& inherited);

  // Closes the descriptor and forgets all state, calls of other threads included. For the child of
  // a fork, where those threads do not exist.
  void Abandon();
  // The same without closing: the descriptor is another process's, or the caller closes it.
  void Forget();
  // Forgets all state but the descriptor, which stays open.
  void Reset();

  // Moves the descriptor to another number, close-on-exec, and frees the one it has: for a program
  // that wants that number. 0 or -errno (EBADF if not open). Waits for frames that are on their
  // way.
  long MoveFd(const Interruption* interruption = nullptr);

  // True from Open until the connection is lost.
  bool open() const { return fd_.load(std::memory_order_relaxed) >= 0; }
  // The descriptor, -1 if not open: for callers that must keep it from being closed.
  int fd() const { return fd_.load(std::memory_order_relaxed); }
  // Where fd() is kept.
  constexpr const std::atomic<int>* fd_address() const { return &fd_; }
  // Bits of Extension that the server announced.
  uint32_t extensions() const { return extensions_; }

 private:
  struct Pending;
  class Beginning;

  // Shells and daemons give 0 to 2 a meaning of their own.
  static constexpr int kLowestFd = 3;
  // An answer that takes longer, in microseconds, lets signals in. On a futex a little longer: the
  // kernel's own tick comes before that, so that it has no timer of its own to set and to take back
  // for each wait, which costs more than all else of it.
  static constexpr long kShortWait = 1'000;
  static constexpr long kShortSleep = 5'000;
  // Where other programs want the CPU as well, it takes milliseconds to come back from a yield;
  // that is tried again rarely then.
  static constexpr long kShortYield = 1'000;  // microseconds
  static constexpr uint32_t kLeastYieldPenalty = 64;
  static constexpr uint32_t kMostYieldPenalty = 16'384;
  static constexpr size_t kReceiveBuffer = 8192;
  static constexpr size_t kMaxQueuedFds = 8;
  // Address space that ANONMMAP may take over the life of a connection.
  static constexpr uint64_t kMaxAnonymousMemory = uint64_t{1} << 30;

  long Connect(const Endpoint& endpoint);
  long ReadBanner();
  long Handshake(HandshakeKind kind, const void* payload, size_t payload_size,
                 const Interruption* interruption);
  long CancelFork(const PreforkCookie& cookie, const Interruption* interruption);
  // Receives frames that have begun to arrive, while nobody else reads.
  void ReadRest(const Interruption* interruption);
  // Ends what Suspend did to those that read.
  void LetRead();
  // With both locks held.
  long MoveUnusedFd();

  // Gives the request its number, too.
  FrameHeader RequestHeader(Pending* pending, uint32_t u);
  static void AddBlocks(CallMemory* memory, OutgoingFrame* frame);
  // Sends the request and waits for its response. 0, or -ENOTCONN, or for a response of class
  // ERROR its -errno.
  long Transact(Pending* pending, OutgoingFrame* request, int send_fd = -1);
  void Await(Pending* pending);
  static void WaitWithSignals(void* pending);
  static void DropCancelled(void* pending);
  // Under lock_, ReadOnce and Sleep but for their waits.
  bool MayRead(const Pending& pending) const;
  // Whether the reader may be in the middle of a frame.
  bool InFrame() const;
  void ReadOnce(Pending* pending);
  void Sleep(Pending* pending);
  // Whether other threads are likely to bring the answer if they have the CPU first.
  bool ShouldYield(Pending* pending);
  // Lets them have it. Whether there is no need to sleep any more.
  bool Yield(Pending* pending);
  // What a thread owes to those that leave frames to it; `sends` if to these in any case.
  void Arrive(Pending* pending, bool sends);
  void Interrupt(Pending* pending);
  void ReleaseRole(Pending* pending);
  void Unlink(Pending* pending);

  void LetSignalsIn(Pending* pending);
  void WaitWithoutHandlers(Pending* pending);
  void SendCancel(const Pending& pending);
  void Complete(Pending* pending, long result);
  // Gives `pending`, or nobody, what has come with the response.
  void GiveFd(const FrameHeader& header, Pending* pending);
  size_t CountWantedFds() const;  // under lock_
  void KeepFds(size_t most);
  void Lose();
  bool RestartsCall(const Pending& pending) const;
  Pending* FindMemory(const CopyPayload& range, Access access);
  // With the NUL; at most range.len. 0 if it does not begin in memory that the server may read.
  uint64_t StringSize(const CopyPayload& range);
  void EndServing(Pending* pending);

  // Sends the whole frame, or leaves it to a thread that is sending or soon will: other threads'
  // frames come before or behind it. 0 or -errno; after any error but EFAULT the stream cannot be
  // used. EFAULT: there is memory that cannot be read, and the frame went without. While the socket
  // is full, the signals that `interruption` lets in and that have no handler end or stop the
  // program.
  long Send(OutgoingFrame* frame, const Interruption* interruption, int send_fd = -1);
  // Sends what others have left for a thread that was expected.
  void SendWhatIsLeft(const Interruption* interruption);
  // Both's part for who has the lock, which it unlocks; `frame` may be nullptr.
  long SendLocked(OutgoingFrame* frame, const Interruption* interruption, int send_fd);
  long SendFrame(int fd, OutgoingFrame* frame, const Interruption* interruption, int send_fd);
  void SendLeft(int fd, std::span<const std::byte> bytes, const Interruption* interruption);
  // Returns false, without the lock, if the deadline passes first.
  bool LockToSend(const Interruption* interruption);
  // After a send(2) that returned `sent`, and a wait if there was no room.
  bool MaySendOn(long sent, const Interruption* interruption) const;
  long WaitFor(short events, const Interruption* interruption) const;
  // Sleeps, with the same signals let in.
  static void Pause(long nanoseconds, const Interruption* interruption);

  // The reader's side, for the thread that holds the role.
  enum class ReadResult {
    kFrame,
    kNothing,  // for a while, between frames, and the reader lets signals in
    kLost,
  };
  ReadResult ReadFrame();
  // Whether one has been received that no wait is needed for.
  bool HasWholeFrame() const;
  bool ServeRequest(const FrameHeader& header);
  bool ServeCopyIn(const FrameHeader& header);
  bool ServeCopyOut(const FrameHeader& header);
  bool CopyOut(CopyPayload range, bool* faulted);
  bool ServeAnonMmap(const FrameHeader& header);
  bool TakeResponse(const FrameHeader& header);
  bool TakeResult(const FrameHeader& header, Pending* pending, long* result);
  // The `size` bytes of blocks behind the result in the response to an INLINE request.
  bool TakeBlocks(uint64_t size, Pending* pending);
  // Consumes the header and the fixed part of the payload; false if the frame is too short for it.
  template <typename T>
  bool TakePayload(const FrameHeader& header, T* payload);
  // Makes `n` unread bytes (at most kReceiveBuffer) available at unread().
  bool Need(size_t n);
  void SetTimeout(bool on);
  bool Skip(uint64_t n);
  // recvmsg into `extra` and, behind it, the empty or compacted buffer. Keeps descriptors that come
  // along. Bytes received, 0 at the end of the stream, or -errno (EINTR; EAGAIN: nothing for a
  // while, if the socket has its timeout).
  long TryReceive(void* extra, size_t extra_size);
  // The same in a place where signals may be let in, and until the deadline. EAGAIN only if there
  // is none.
  long Receive(void* extra, size_t extra_size);
  // The same in the middle of a frame: waits for as long as it takes.
  long ReceiveSome(void* extra, size_t extra_size);
  const std::byte* unread() const { return buffer_ + begin_; }
  size_t unread_size() const { return end_ - begin_; }

  std::atomic<int> fd_{-1};
  uint32_t extensions_ = 0;
  const bool takes_fds_;
  bool linux_abi_ = false;  // the table of system calls describes what the server executes
  std::atomic<uint64_t> next_reqno_{1};
  SendLock send_lock_;  // the descriptor is closed under it

  FutexLock lock_;             // what is below, and the state of what is in list_
  Pending* list_ = nullptr;    // newest first
  Pending* reader_ = nullptr;  // who has the reader's role
  bool suspended_ = false;     // nobody may read
  // Sleeps that do not begin with a yield, since those took long: so many from now on, and after
  // the next one that does.
  uint32_t yields_left_out_ = 0;
  uint32_t yield_penalty_ = kLeastYieldPenalty;

  // While it begins.
  Deadline deadline_;
  const Interruption* beginning_for_ = nullptr;

  // The reader's own.
  const Interruption* reading_for_ = nullptr;
  bool timeout_ = false;  // the socket's
  SignalSet raised_ = 0;  // by RAISE, for the next call that returns
  uint64_t mapped_ = 0;
  size_t queued_fds_ = 0;
  int fds_[kMaxQueuedFds] = {};  // received, not yet handed to a call; oldest first
  size_t begin_ = 0;
  size_t end_ = 0;
  std::byte buffer_[kReceiveBuffer] = {};
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_CONNECTION_H_
