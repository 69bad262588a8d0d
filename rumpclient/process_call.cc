// System calls of the process, and what becomes of them when the server is lost.
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "rump/rumpclient.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"
#include "rumpclient/process.h"

namespace rump::client {
namespace {

// Uses of the connection that this thread is in: more than one if signal handlers make calls.
[[gnu::tls_model("initial-exec")]] constinit thread_local int depth = 0;

constexpr long kMillisecond = 1'000'000;  // in nanoseconds
constexpr long kFirstPause = 10 * kMillisecond;
constexpr long kLongestPause = 1000 * kMillisecond;

// Sleeps with the program's signals let in.
void Pause(long nanoseconds, SignalSet mask) {
  const timespec pause = {nanoseconds / (1000 * kMillisecond), nanoseconds % (1000 * kMillisecond)};
  SetSignalMask(mask);
  RawSyscall(SYS_nanosleep, &pause, nullptr);
  SetSignalMask(kAllSignals);
}

time_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

}  // namespace

struct Process::CallInterruption : Interruption {
  struct Cancelled {
    CallInterruption* interruption;
    const Wait* wait;
  };
  Process* process;
  SignalSet before;  // the thread's own mask
};

// Waits are where a thread can be cancelled. Without exceptions, so that programs in C need no
// runtime of C++: no destructor runs when the thread ends.
void Process::WaitCancellably(Interruption* interruption, const Wait& wait) {
  CallInterruption::Cancelled cancelled = {static_cast<CallInterruption*>(interruption), &wait};
  int type;
  pthread_cleanup_push(&EndCancelled, &cancelled);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  wait.wait(wait.arg);
  pthread_setcanceltype(type, nullptr);
  pthread_cleanup_pop(0);
}

void Process::EndCancelled(void* arg) {
  const auto& cancelled = *static_cast<CallInterruption::Cancelled*>(arg);
  cancelled.wait->abandon(cancelled.wait->arg);
  cancelled.interruption->process->Leave();
  SetSignalMask(cancelled.interruption->before);
}

Connection& Process::connection() {
  const uint32_t active = active_.load(std::memory_order_relaxed);
  return connections_[in_sharing_child() ? 1 - active : active];
}

bool Process::in_sharing_child() const {
  const void* const child = sharing_child_.load(std::memory_order_relaxed);
  return child != nullptr && child == ThreadPointer();
}

int Process::Issue(Call* call) {
  const SignalBlock block;
  return IssueBlocked(call, block, block.before());
}

int Process::IssueBlocked(Call* call, const SignalBlock& block, SignalSet mask) {
  if (page_ == nullptr) return ENOTCONN;
  CallInterruption interruption;
  interruption.mask = mask;
  interruption.around = &WaitCancellably;
  interruption.process = this;
  interruption.before = block.before();
  long result = -ENOTCONN;
  uint32_t generation;
  while (Enter(block.before(), &generation)) {
    result = connection().Issue(call, &interruption);
    Leave();
    if (result != -ENOTCONN || !Recover(generation, call->sent, block.before())) break;
  }
  return static_cast<int>(-result);
}

bool Process::TryEnter(uint32_t* generation) {
  page_->users.fetch_add(1);
  if (page_->state.load() == kConnected) {
    *generation = page_->generation.load();
    ++depth;
    return true;
  }
  page_->users.fetch_sub(1);
  return false;
}

bool Process::Enter(SignalSet mask, uint32_t* generation) {
  // A handler of the thread that keeps everybody from sending.
  if (execing_.load(std::memory_order_relaxed) == ThreadPointer()) return false;
  while (!TryEnter(generation)) {
    const uint32_t state = page_->state.load();
    if (state == kNone || (state == kConnecting && !AwaitConnecting(mask))) return false;
  }
  return true;
}

void Process::Leave() {
  --depth;
  page_->users.fetch_sub(1);
}

bool Process::BeginConnecting(uint32_t expected) {
  if (!page_->state.compare_exchange_strong(expected, kConnecting)) return false;
  connecting_.store(ThreadPointer());
  return true;
}

void Process::EndConnecting(State state) {
  connecting_.store(nullptr);
  page_->state.store(state);
  RawSyscall(SYS_futex, &page_->state, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

bool Process::AwaitConnecting(SignalSet mask) {
  // What this handler's call would wait for is what the handler interrupted, or waits for that.
  if (connecting_.load() == ThreadPointer() || depth > 0) return false;
  while (page_->state.load() == kConnecting) {
    SetSignalMask(mask);
    FutexWait(&page_->state, kConnecting);
    SetSignalMask(kAllSignals);
  }
  return connection().open();
}

bool Process::Recover(uint32_t generation, bool sent, SignalSet mask) {
  if (retry_.load(std::memory_order_relaxed) == 0 || depth > 0 || in_sharing_child()) return false;
  if (!BeginConnecting(kConnected)) return !sent;
  // Another thread was quicker: this call is one of those that are lost.
  const bool again = page_->generation.load() == generation ? Reconnect(mask) : !sent;
  EndConnecting(kConnected);
  return again;
}

bool Process::Reconnect(SignalSet mask) {
  const time_t retry = retry_.load(std::memory_order_relaxed);
  char url[128] = "";
  FormatUrl(endpoint_, url, sizeof url);
  if (retry == RUMPCLIENT_RETRYCONN_DIE) {
    Complain("the connection to the server at %s is lost: exiting", url);
    _exit(1);
  }
  if (!announced_) Complain("the connection to the server at %s is lost: reconnecting", url);
  announced_ = true;
  const time_t start = Now();
  for (long pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    if (Renew(mask) == 0) {
      Complain("connected again to the server at %s", url);
      announced_ = false;
      return true;
    }
    if (retry == RUMPCLIENT_RETRYCONN_ONCE) return false;
    if (retry != RUMPCLIENT_RETRYCONN_INFTIME && Now() - start >= retry) return false;
    Pause(pause, mask);
  }
}

int Process::Renew(SignalSet mask) {
  while (page_->users.load() != 0) Pause(kMillisecond, mask);
  connection().Abandon();
  SetSignalMask(mask);
  long result = connection().Open(endpoint_);
  if (result == 0) result = connection().Guest(program_invocation_short_name);
  SetSignalMask(kAllSignals);
  if (result != 0) {
    connection().Abandon();
  } else {
    page_->generation.fetch_add(1);
  }
  return static_cast<int>(-result);
}

bool Process::owns_connection() const {
  return page_->owner.load() == getpid() || in_sharing_child();
}

int Process::own_fd() {
  if (page_ == nullptr) return -1;
  // A child on its parent's memory has descriptors of its own: what it closes its parent keeps.
  if (page_->owner.load() != 0 && !owns_connection()) return -1;
  return connection().fd();
}

int Process::MoveFd() {
  const SignalBlock block;
  // Inherited by a plain fork, like the locks of threads that do not exist here.
  if (page_->state.load() == kNone) connection().Reset();
  Interruption interruption;
  interruption.mask = block.before();
  return static_cast<int>(-connection().MoveFd(&interruption));
}

}  // namespace rump::client
