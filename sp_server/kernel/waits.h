// The two things that a system call waits for: the client's memory and a file's readiness.
#ifndef SP_SERVER_KERNEL_WAITS_H_
#define SP_SERVER_KERNEL_WAITS_H_

#include <string.h>

#include <coroutine>
#include <span>
#include <string>
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

// co_await Readiness(...): until one of `mask`'s POLL* bits (or POLLERR, POLLHUP) holds for `file`.
// EINTR when the call is interrupted. For calls that have just got EAGAIN: a file that shows the
// bit all the same is asked again in the loop's next turn, so that a contradiction in a file costs
// time and does not stop the server.
class Readiness final : private Waiter, private Interruptible {
 public:
  // `file` must live until the wait is over.
  Readiness(CallContext& context, EventLoop& loop, File& file, uint32_t mask)
      : context_(context), loop_(loop), file_(file), mask_(mask | kAlways) {}

  bool await_ready() const { return context_.interrupted(); }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    context_.set_waiting(this);
    if ((file_.Poll() & mask_) == 0) {
      file_.waiters().Add(this);
    } else {
      next_turn_ = loop_.After(EventLoop::Clock::duration::zero(), [this] {
        context_.set_waiting(nullptr);
        loop_.Resume(handle_);
      });
    }
  }
  Errno await_resume() const { return context_.interrupted() ? Errno(EINTR) : kOk; }

 private:
  static constexpr uint32_t kAlways = 0x8 | 0x10;  // POLLERR, POLLHUP: poll(2) always reports them

  void OnReady(uint32_t mask) override {
    if ((mask & mask_) == 0) return;
    context_.set_waiting(nullptr);
    Unlink();
    loop_.Resume(handle_);
  }
  void Interrupt() override {
    Unlink();
    loop_.Cancel(next_turn_);
    loop_.Resume(handle_);
  }

  CallContext& context_;
  EventLoop& loop_;
  File& file_;
  const uint32_t mask_;
  std::coroutine_handle<> handle_;
  EventLoop::TimerId next_turn_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_WAITS_H_
