#include "rumpclient/core/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "rumpclient/core/pending.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::client {
namespace {

// Between two looks whether other threads have let go of what is wanted, in nanoseconds.
constexpr long kShortPause = 20'000;
constexpr int kTries = 100;

void Close(int fd) { RawSyscall(SYS_close, fd); }

// Makes the thread's signals of what the server raised, which come when it unblocks them.
void Raise(SignalSet signals) {
  if (signals == 0) return;
  const long pid = RawSyscall(SYS_getpid);
  const long tid = RawSyscall(SYS_gettid);
  for (int signo = 1; signals != 0; ++signo, signals >>= 1) {
    if (signals & 1) RawSyscall(SYS_tgkill, pid, tid, signo);
  }
}

}  // namespace

long Connection::Prefork(PreforkCookie* cookie, Interruption* interruption) {
  Pending pending(this, FrameType::kPrefork, interruption);
  pending.cookie = cookie;
  OutgoingFrame frame(RequestHeader(&pending, 0), nullptr, 0);
  return Transact(&pending, &frame);
}

long Connection::Prefork(int* fd, Interruption* interruption) {
  *fd = -1;
  PreforkCookie none;
  Pending pending(this, FrameType::kPrefork, interruption);
  pending.cookie = &none;
  pending.received_fd = fd;
  OutgoingFrame frame(RequestHeader(&pending, kPreforkConnected), nullptr, 0);
  const long result = Transact(&pending, &frame);
  if (result != 0) return result;
  // The kernel drops a descriptor that the process has no room for.
  return *fd >= 0 ? 0 : -EMFILE;
}

long Connection::Issue(Call* call, Interruption* interruption) {
  call->received_fd = -1;
  call->sent = false;
  if (call->nargs > kMaxSyscallArgs) {
    call->error = EINVAL;
    return 0;
  }
  // Checked here, since the EBADF of sendmsg(2) could also mean the connection's own descriptor.
  if (call->send_fd >= 0 && RawSyscall(SYS_fcntl, call->send_fd, F_GETFD) < 0) {
    call->error = EBADF;
    return 0;
  }
  for (;;) {
    CallMemory memory(*call);
    const bool carries = linux_abi_ && (extensions_ & kExtensionInline) != 0 && memory.any();
    Pending pending(this, carries ? FrameType::kInline : FrameType::kSyscall, interruption);
    pending.call = call;
    if (call->wants_fd) pending.received_fd = &call->received_fd;
    if (linux_abi_) pending.memory = &memory;
    OutgoingFrame frame(RequestHeader(&pending, call->number), call->args,
                        call->nargs * sizeof(call->args[0]));
    if (carries) AddBlocks(&memory, &frame);
    const long result = Transact(&pending, &frame, call->send_fd);
    memory.RestoreMessagePointers();
    Raise(pending.raised);
    call->interrupted = pending.interrupted;
    if (result != 0 || !RestartsCall(pending)) return result;
    SetSignalMask(interruption->mask);
    SetSignalMask(kAllSignals);
  }
}

void Connection::AddBlocks(CallMemory* memory, OutgoingFrame* frame) {
  CopyPayload ranges[kMaxBlocks];
  const size_t count = memory->ListReads(ranges);
  for (size_t i = 0; i < count; ++i) frame->AddBlock(ranges[i]);
  frame->AddTrailer();
}

bool Connection::RestartsCall(const Pending& pending) const {
  if (pending.call->error != EINTR || pending.raised == 0) return false;
  if (pending.interruption == nullptr || pending.interrupted) return false;
  return !EndsCall(pending.raised & ~pending.interruption->mask, pending.call->number);
}

void Connection::Abandon() {
  const int fd = fd_.exchange(-1, std::memory_order_relaxed);
  if (fd >= 0) Close(fd);
  KeepFds(0);
  Reset();
}

void Connection::Forget() {
  fd_.store(-1, std::memory_order_relaxed);
  Reset();
}

void Connection::Reset() {
  extensions_ = 0;
  linux_abi_ = false;
  next_reqno_.store(1, std::memory_order_relaxed);
  send_lock_.Reset();
  lock_.Reset();
  list_ = nullptr;
  reader_ = nullptr;
  suspended_ = false;
  yields_left_out_ = 0;
  yield_penalty_ = kLeastYieldPenalty;
  deadline_ = Deadline();
  beginning_for_ = nullptr;
  reading_for_ = nullptr;
  timeout_ = false;
  raised_ = 0;
  mapped_ = 0;
  queued_fds_ = 0;
  begin_ = 0;
  end_ = 0;
}

bool Connection::Suspend(const Interruption* interruption) {
  for (;; Pause(kShortPause, interruption)) {
    {
      FutexLockGuard guard(&lock_);
      if (!open()) return false;
      if (suspended_ || InFrame()) continue;
      suspended_ = true;
    }
    ReadRest(interruption);
    // Who sends is done soon, unless the server waits to be read.
    for (int tries = 0; open() && tries < kTries; ++tries) {
      if (send_lock_.TryLock()) return true;
      RawSyscall(SYS_sched_yield);
    }
    LetRead();
  }
}

void Connection::ReadRest(const Interruption* interruption) {
  // There may be some even where a reader waits, if a call of its handler's has read too much.
  if (unread_size() == 0) return;
  reading_for_ = interruption;
  SetTimeout(true);
  while (unread_size() > 0 && open()) {
    if (ReadFrame() == ReadResult::kLost) Lose();
  }
  SetTimeout(false);
  reading_for_ = nullptr;
}

void Connection::Resume() {
  send_lock_.Unlock();
  LetRead();
}

void Connection::LetRead() {
  FutexLockGuard guard(&lock_);
  suspended_ = false;
  if (reader_ == nullptr) return ReleaseRole(nullptr);
  reader_->wake.store(1, std::memory_order_relaxed);
  if (reader_->asleep) FutexWakeOne(&reader_->wake);
}

void Connection::SetCloseOnExec(bool on) {
  RawSyscall(SYS_fcntl, fd(), F_SETFD, on ? FD_CLOEXEC : 0);
}

long Connection::MoveFd(const Interruption* interruption) {
  for (;; Pause(kShortPause, interruption)) {
    FutexLockGuard guard(&lock_);
    if (suspended_ || InFrame()) continue;
    // Never waited for with the other one held: who sends may wait for the server to be read.
    if (!send_lock_.TryLock()) continue;
    const long result = MoveUnusedFd();
    send_lock_.Unlock();
    return result;
  }
}

long Connection::MoveUnusedFd() {
  if (!open()) return -EBADF;
  const int old = fd();
  long moved = RawSyscall(SYS_fcntl, old, F_DUPFD_CLOEXEC, old + 1);
  if (moved < 0) moved = RawSyscall(SYS_fcntl, old, F_DUPFD_CLOEXEC, kLowestFd);
  if (moved < 0) return moved;
  fd_.store(static_cast<int>(moved), std::memory_order_relaxed);
  // It may be about to wait at the old number.
  if (reader_ != nullptr) reader_->Spoil();
  Close(old);
  return 0;
}

}  // namespace rump::client
