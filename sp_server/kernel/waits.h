// What a system call waits for: the client's memory, the readiness of files, the time.
#ifndef SP_SERVER_KERNEL_WAITS_H_
#define SP_SERVER_KERNEL_WAITS_H_

#include <string.h>

#include <coroutine>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/kernel/file.h"
#include "sp_server/kernel/process.h"
#include "sp_server/loop/event_loop.h"

namespace rump {

// co_await CopyIn(...): fills `destination` from the client's memory at `addr`. EFAULT; EIO when
// the client is gone; EINTR when the call is interrupted, since the client may never answer. A call
// copies in before it has an effect that would be lost then.
class CopyIn final : private CopyInSink, private Interruptible {
 public:
  // `destination` of at most kMaxCopy bytes; must live until the wait is over.
  CopyIn(CallContext& context, EventLoop& loop, uint64_t addr, std::span<std::byte> destination)
      : context_(context), loop_(loop), addr_(addr), destination_(destination) {}

  bool await_ready() const { return destination_.empty(); }
  bool await_suspend(std::coroutine_handle<> handle) {
    if (context_.interrupted()) {
      error_ = Errno(EINTR);
      return false;
    }
    context_.call().CopyIn(addr_, destination_.size(), this);
    if (told_) return false;
    handle_ = handle;
    context_.set_waiting(this);
    return true;
  }
  Errno await_resume() const { return error_; }

 private:
  void OnCopyIn(Errno error, std::span<const std::byte> data) override {
    error_ = error;
    told_ = true;
    if (error.ok()) memcpy(destination_.data(), data.data(), destination_.size());
    if (!handle_) return;
    context_.set_waiting(nullptr);
    loop_.Resume(handle_);
  }
  void Interrupt() override {
    context_.call().CancelCopyIn();
    error_ = Errno(EINTR);
    loop_.Resume(handle_);
  }

  CallContext& context_;
  EventLoop& loop_;
  const uint64_t addr_;
  const std::span<std::byte> destination_;
  std::coroutine_handle<> handle_;
  bool told_ = false;
  Errno error_;
};

// co_await OutputRoom(...): until the client has room for what the call copies out, which comes
// before every effect of a call that copies out much. EINTR when the call is interrupted.
class OutputRoom final : private OutputWaiter, private Interruptible {
 public:
  OutputRoom(CallContext& context, EventLoop& loop) : context_(context), loop_(loop) {}

  bool await_ready() const { return context_.interrupted() || context_.call().HasOutputRoom(); }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    context_.set_waiting(this);
    context_.call().AwaitOutputRoom(this);
  }
  Errno await_resume() const { return context_.interrupted() ? Errno(EINTR) : kOk; }

 private:
  void OnOutputRoom() override {
    context_.set_waiting(nullptr);
    loop_.Resume(handle_);
  }
  void Interrupt() override {
    context_.call().AwaitOutputRoom(nullptr);
    loop_.Resume(handle_);
  }

  CallContext& context_;
  EventLoop& loop_;
  std::coroutine_handle<> handle_;
};

// When a wait ends at the latest.
using Deadline = EventLoop::Clock::time_point;
inline constexpr Deadline kNever = Deadline::max();

// What waits have in common: a call that sleeps until it is woken, its deadline has come or it is
// interrupted.
class Wait : private Interruptible {
 public:
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;

 protected:
  Wait(CallContext& context, EventLoop& loop, Deadline deadline)
      : context_(context), loop_(loop), deadline_(deadline) {}
  ~Wait() = default;

  // Whether there is nothing more to wait for.
  bool Over() const {
    return context_.interrupted() || (deadline_ != kNever && deadline_ <= EventLoop::Clock::now());
  }
  bool interrupted() const { return context_.interrupted(); }

  void Suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    context_.set_waiting(this);
    if (deadline_ == kNever) return;
    timer_ = loop_.After(deadline_ - EventLoop::Clock::now(), [this] { WakeUp(); });
  }
  void WakeNextTurn() {
    loop_.Cancel(timer_);
    timer_ = loop_.After(EventLoop::Clock::duration::zero(), [this] { WakeUp(); });
  }
  // No effect on one that has been woken.
  void WakeUp() {
    if (!handle_) return;
    context_.set_waiting(nullptr);
    loop_.Cancel(timer_);
    loop_.Resume(std::exchange(handle_, nullptr));
  }

 private:
  void Interrupt() override { WakeUp(); }

  CallContext& context_;
  EventLoop& loop_;
  const Deadline deadline_;
  EventLoop::TimerId timer_ = 0;
  std::coroutine_handle<> handle_;
};

// co_await Readiness(...): until one of `mask`'s POLL* bits (or POLLERR, POLLHUP) may hold for
// `file`. EAGAIN when the deadline has come, EINTR when the call is interrupted. For calls that
// have just got EAGAIN: a file that shows the bit all the same is asked again in the loop's next
// turn, so that a contradiction in a file costs time and does not stop the server.
class Readiness final : private Wait, private Waiter {
 public:
  // `file` must live until the wait is over.
  Readiness(CallContext& context, EventLoop& loop, File& file, uint32_t mask, Deadline deadline)
      : Wait(context, loop, deadline), file_(file), mask_(mask | kAlways) {}

  bool await_ready() const { return Over(); }
  void await_suspend(std::coroutine_handle<> handle) {
    Suspend(handle);
    ready_ = (file_.Poll() & mask_) != 0;
    if (ready_) {
      WakeNextTurn();
    } else {
      file_.waiters().Add(this);
    }
  }
  Errno await_resume() const {
    if (interrupted()) return Errno(EINTR);
    return ready_ ? kOk : Errno(EAGAIN);
  }

 private:
  static constexpr uint32_t kAlways = 0x8 | 0x10;  // POLLERR, POLLHUP: poll(2) always reports them

  void OnReady(uint32_t mask) override {
    if ((mask & mask_) == 0) return;
    ready_ = true;
    Unlink();
    WakeUp();
  }

  File& file_;
  const uint32_t mask_;
  bool ready_ = false;
};

// One file of a wait for several.
struct PolledFile {
  std::shared_ptr<File> file;  // nullptr: none, `revents` stays as it is
  uint32_t events = 0;   // the POLL* bits that count, POLLERR and POLLHUP only if they are named
  uint32_t revents = 0;  // those that hold
};

// Fills in each file's revents; returns how many have any.
inline size_t LookAt(std::span<PolledFile> files) {
  size_t ready = 0;
  for (PolledFile& polled : files) {
    if (polled.file != nullptr) polled.revents = polled.file->Poll() & polled.events;
    ready += polled.revents != 0 ? 1 : 0;
  }
  return ready;
}

// co_await AnyReadiness(...): until one of `files` may be ready, the deadline has come or the call
// is interrupted. Yields whether there is any sense in looking and waiting again.
class AnyReadiness final : private Wait {
 public:
  // What a wait holds for each file, its PolledFile aside.
  static constexpr size_t kBytesPerFile = sizeof(Waiter) + 2 * sizeof(uint64_t);

  // `files` must live until the wait is over.
  AnyReadiness(CallContext& context, EventLoop& loop, std::span<const PolledFile> files,
               Deadline deadline)
      : Wait(context, loop, deadline), files_(files) {}

  bool await_ready() const { return Over(); }
  void await_suspend(std::coroutine_handle<> handle) {
    waiters_ = std::vector<Entry>(files_.size());
    for (size_t i = 0; i < files_.size(); ++i) {
      if (files_[i].file == nullptr) continue;
      waiters_[i].wait = this;
      waiters_[i].mask = files_[i].events;
      files_[i].file->waiters().Add(&waiters_[i]);
    }
    Suspend(handle);
  }
  bool await_resume() {
    // Not earlier: a queue that is telling its waiters bears no more than their own unlinking.
    waiters_.clear();
    return ready_ || !Over();
  }

 private:
  struct Entry final : Waiter {
    void OnReady(uint32_t ready) override {
      if ((ready & mask) == 0) return;
      wait->ready_ = true;
      wait->WakeUp();
    }
    AnyReadiness* wait = nullptr;
    uint32_t mask = 0;
  };

  static_assert(sizeof(Entry) == kBytesPerFile);

  const std::span<const PolledFile> files_;
  std::vector<Entry> waiters_;
  bool ready_ = false;
};

// co_await NextTurn(...): until the loop's next turn.
class NextTurn final : private Wait {
 public:
  NextTurn(CallContext& context, EventLoop& loop) : Wait(context, loop, kNever) {}

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    Suspend(handle);
    WakeNextTurn();
  }
  void await_resume() const {}
};

// co_await Sleep(...): until the deadline. EINTR when the call is interrupted.
class Sleep final : private Wait {
 public:
  Sleep(CallContext& context, EventLoop& loop, Deadline deadline) : Wait(context, loop, deadline) {}

  bool await_ready() const { return Over(); }
  void await_suspend(std::coroutine_handle<> handle) { Suspend(handle); }
  Errno await_resume() const { return interrupted() ? Errno(EINTR) : kOk; }
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_WAITS_H_
