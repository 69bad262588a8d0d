// How a connection's threads wait: for the reader's role, for an answer, for signals.
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "rumpclient/core/connection.h"
#include "rumpclient/core/pending.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::client {
namespace {

// What stands for requests that are no system calls of the table.
constexpr uint32_t kNoNumber = UINT32_MAX;

// How long a thread that another one reads for does not look whether the program is to end, in
// nanoseconds.
constexpr long kLookInterval = 100'000'000;

}  // namespace

FrameHeader Connection::RequestHeader(Pending* pending, uint32_t u) {
  pending->reqno = next_reqno_.fetch_add(1, std::memory_order_relaxed);
  return {.reqno = pending->reqno, .cls = FrameClass::kRequest, .type = pending->type, .u = u};
}

long Connection::Transact(Pending* pending, OutgoingFrame* request, int send_fd) {
  {
    FutexLockGuard guard(&lock_);
    if (!open()) return -ENOTCONN;
    pending->next = list_;
    list_ = pending;
  }
  if (pending->call != nullptr) pending->call->sent = true;
  // A failure shows to the reader as the end of the stream, behind what the server sent before.
  (void)Send(request, pending->interruption, send_fd);
  Await(pending);
  return pending->result;
}

void Connection::Await(Pending* pending) {
  FutexLockGuard guard(&lock_);
  while (!pending->done) {
    if (pending->wait_result == -EINTR) {
      Interrupt(pending);
    } else if (!pending->served && pending->TimedOut()) {
      Unlink(pending);
      pending->result = -ETIMEDOUT;
      break;
    } else if (MayRead(*pending)) {
      ReadOnce(pending);
    } else {
      Sleep(pending);
    }
  }
  ReleaseRole(pending);
}

bool Connection::MayRead(const Pending& pending) const {
  if (suspended_) return false;
  if (reader_ == nullptr || reader_ == &pending) return true;
  // The reader waits below the signal handler that this call was made in.
  return reader_->watching && reader_->thread == pending.thread;
}

bool Connection::InFrame() const { return reader_ != nullptr && !reader_->watching; }

void Connection::ReadOnce(Pending* pending) {
  reader_ = pending;
  lock_.Unlock();
  reading_for_ = pending->interruption;
  ReadResult read = ReadFrame();
  // What has come with it is others', who would be woken for the role first and for that then.
  while (read == ReadResult::kFrame && HasWholeFrame()) read = ReadFrame();
  if (read == ReadResult::kLost) Lose();
  // A wait with a timeout would not be restarted.
  if (read == ReadResult::kNothing) {
    SetTimeout(false);
    if (send_lock_.ExpectNobody()) SendWhatIsLeft(pending->interruption);
  }
  lock_.Lock();
  if (read != ReadResult::kNothing || pending->done) return;
  pending->PrepareWait(fd());
  pending->watching = true;
  lock_.Unlock();
  LetSignalsIn(pending);
  lock_.Lock();
  pending->watching = false;
}

// A thread that sleeps has to be woken, two system calls that are most of what its call costs.
// Where several share a CPU, their requests are sent, answered and received together while one of
// them yields it.
bool Connection::ShouldYield(Pending* pending) {
  constexpr int kWorthIt = 3;  // calls in flight
  if (std::exchange(pending->yielded, true)) return false;
  int calls = 0;
  for (Pending* each = list_; each != nullptr && calls < kWorthIt; each = each->next) ++calls;
  if (calls < kWorthIt) return false;
  if (yields_left_out_ == 0) return true;
  --yields_left_out_;
  return false;
}

bool Connection::Yield(Pending* pending) {
  pending->yielding = true;
  lock_.Unlock();
  const Deadline back = Deadline::AfterMicros(kShortYield);
  RawSyscall(SYS_sched_yield);
  const bool took_long = back.Passed();
  lock_.Lock();
  pending->yielding = false;
  if (took_long && yields_left_out_ == 0) {
    yields_left_out_ = yield_penalty_;
    yield_penalty_ = std::min(2 * yield_penalty_, kMostYieldPenalty);
  } else if (!took_long) {
    yield_penalty_ = std::max(yield_penalty_ - 1, kLeastYieldPenalty);
  }
  if (!pending->done && !MayRead(*pending)) return false;
  Arrive(pending, /*sends=*/false);
  return true;
}

void Connection::Sleep(Pending* pending) {
  if (ShouldYield(pending) && Yield(pending)) return;
  pending->PrepareWait(fd());
  pending->asleep = true;
  pending->wake.store(0, std::memory_order_relaxed);
  lock_.Unlock();
  bool sends = false;
  bool patient = pending->patient;
  if (pending->interruption == nullptr) {
    FutexWait(&pending->wake, 0);
  } else if (patient) {
    LetSignalsIn(pending);
  } else {
    constexpr __kernel_timespec kTimeout = {0, kShortSleep * 1000};
    patient = FutexWait(&pending->wake, 0, &kTimeout) == -ETIMEDOUT;
    if (patient) sends = send_lock_.ExpectNobody();
  }
  lock_.Lock();
  pending->patient = patient;
  pending->asleep = false;
  Arrive(pending, sends);
}

void Connection::Arrive(Pending* pending, bool sends) {
  if (std::exchange(pending->expected, false)) sends = send_lock_.Arrive() || sends;
  if (!sends) return;
  lock_.Unlock();
  SendWhatIsLeft(pending->interruption);
  lock_.Lock();
}

void Connection::LetSignalsIn(Pending* pending) {
  Interruption* const interruption = pending->interruption;
  if (!interruption->lets_handlers_in()) return WaitWithoutHandlers(pending);
  const Wait wait = {&WaitWithSignals, &DropCancelled, pending};
  if (interruption->around != nullptr) {
    interruption->around(interruption, wait);
  } else {
    wait.wait(pending);
  }
}

void Connection::WaitWithoutHandlers(Pending* pending) {
  if (pending->watching) {
    WaitFor(POLLIN, pending->interruption);
    return;
  }
  constexpr __kernel_timespec kInterval = {0, kLookInterval};
  FutexWait(&pending->wake, 0, &kInterval);
  Pause(0, pending->interruption);
}

void Connection::WaitWithSignals(void* arg) {
  auto* const pending = static_cast<Pending*>(arg);
  const SignalSet mask = pending->interruption->mask;
  const uint32_t number = pending->memory != nullptr ? pending->call->number : kNoNumber;
  // Those that came while they were blocked are not lost on the call.
  const SignalSet arrived = ClaimPending(~mask);
  const bool ends = arrived != 0 && EndsCall(arrived, number);
  long result = -EINTR;
  if (!ends && pending->watching && EveryHandlerEnds(~mask, number)) {
    // Lets them in and waits in one step, but is never restarted.
    result = RawSyscall(SYS_ppoll, &pending->readable, 1, &pending->patience, &mask, sizeof mask);
  } else {
    SetSignalMask(mask);
    if (ends) {
      // Its handler has run.
    } else if (pending->watching) {
      result = RawSyscall(SYS_recvmsg, pending->connection->fd(), &pending->peek, MSG_PEEK);
    } else {
      result =
          FutexWait(&pending->wake, 0, IsNeverRestarted(number) ? &pending->patience : nullptr);
    }
    SetSignalMask(kAllSignals);
  }
  pending->wait_result = result;
}

void Connection::Interrupt(Pending* pending) {
  pending->wait_result = 0;
  if (pending->interrupted) return;
  pending->interrupted = true;
  if (pending->call == nullptr) return;
  lock_.Unlock();
  SendCancel(*pending);
  lock_.Lock();
}

void Connection::SendCancel(const Pending& pending) {
  if ((extensions_ & kExtensionCancel) == 0) return;
  const FrameHeader header = {.reqno = next_reqno_.fetch_add(1, std::memory_order_relaxed),
                              .cls = FrameClass::kRequest,
                              .type = FrameType::kCancel};
  // A failure shows to the reader as the end of the stream.
  OutgoingFrame frame(header, &pending.reqno, sizeof pending.reqno);
  (void)Send(&frame, pending.interruption);
}

void Connection::DropCancelled(void* arg) {
  SetSignalMask(kAllSignals);
  auto* const pending = static_cast<Pending*>(arg);
  Connection& self = *pending->connection;
  bool done;
  {
    FutexLockGuard guard(&self.lock_);
    pending->asleep = false;
    pending->watching = false;
    while (pending->served) {
      self.lock_.Unlock();
      RawSyscall(SYS_sched_yield);
      self.lock_.Lock();
    }
    done = pending->done;
    if (!done) self.Unlink(pending);
    self.ReleaseRole(pending);
  }
  if (!done && pending->call != nullptr && !pending->interrupted) self.SendCancel(*pending);
}

void Connection::ReleaseRole(Pending* pending) {
  if (reader_ == pending) reader_ = nullptr;
  if (reader_ != nullptr || suspended_) return;
  // The reader that this call's signal handler interrupted. It looks what has become of its role
  // when the handler has returned.
  Pending* below = nullptr;
  for (Pending* each = list_; each != nullptr; each = each->next) {
    if (!each->watching) continue;
    each->Spoil();
    if (below == nullptr) below = each;
  }
  // One that still sends is passed over: it may be blocked, and looks for itself when it is not.
  // So does one whose thread is in a handler, which may take long: that is not woken by this.
  for (Pending* heir = list_; heir != nullptr; heir = heir->next) {
    if (!heir->asleep) continue;
    heir->wake.store(1, std::memory_order_relaxed);
    if (FutexWakeOne(&heir->wake)) return;
  }
  reader_ = below;
}

void Connection::Unlink(Pending* pending) {
  Pending** link = &list_;
  while (*link != pending) link = &(*link)->next;
  *link = pending->next;
}

void Connection::Complete(Pending* pending, long result) {
  bool asleep;
  {
    FutexLockGuard guard(&lock_);
    Unlink(pending);
    pending->result = result;
    pending->done = true;
    pending->served = false;
    if (pending->watching) pending->Spoil();
    pending->wake.store(1, std::memory_order_relaxed);
    asleep = pending->asleep;
    // With signals let in a handler may keep it from coming.
    if ((asleep || pending->yielding) && !pending->patient) {
      pending->expected = true;
      send_lock_.Expect();
    }
    if (queued_fds_ > 0) KeepFds(CountWantedFds());
  }
  // The owner needs the lock, too. It may have returned: then nobody sleeps at that address, or
  // somebody who bears to be woken.
  if (asleep) FutexWakeOne(&pending->wake);
}

void Connection::Lose() {
  // Ends a send(2) that another thread is blocked in, and with it its hold on the lock.
  RawSyscall(SYS_shutdown, fd(), SHUT_RDWR);
  {
    send_lock_.Lock();
    RawSyscall(SYS_close, fd_.exchange(-1, std::memory_order_relaxed));
    send_lock_.Unlock();
  }
  for (;;) {
    Pending* pending;
    {
      FutexLockGuard guard(&lock_);
      pending = list_;
    }
    if (pending == nullptr) return;
    Complete(pending, -ENOTCONN);
  }
}

}  // namespace rump::client
