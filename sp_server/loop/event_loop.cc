#include "sp_server/loop/event_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include <algorithm>

namespace rump {
namespace {
// Descriptors handled per turn: enough to spread epoll_wait's cost and to see those with little
// data among a thousand with much, few enough that pollers and timers are not kept waiting.
constexpr size_t kBatch = 1024;
// Turns that pollers give each other before descriptors are looked at again.
constexpr int kPollerRounds = 4;
}  // namespace

EventLoop::EventLoop()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!epoll_.valid() || !wake_.valid()) abort();
  fetched_.resize(kBatch);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = wake_.get();
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) abort();
}

Errno EventLoop::Watch(int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return Errno(errno);
  if (watchers_.size() <= static_cast<size_t>(fd)) watchers_.resize(fd + 1);
  watchers_[fd] = watcher;
  return kOk;
}

Errno EventLoop::Rewatch(int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) return Errno(errno);
  watchers_[fd] = watcher;
  return kOk;
}

void EventLoop::Unwatch(int fd, Watcher* watcher) {
  if (fd < 0 || static_cast<size_t>(fd) >= watchers_.size() || watchers_[fd] != watcher) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  Forget(fd, watcher);
}

void EventLoop::Forget(int fd, Watcher* watcher) {
  if (watchers_[fd] != watcher) return;
  watchers_[fd] = nullptr;
  for (Event& event : batch_) {
    if (event.fd == fd && event.watcher == watcher) event.watcher = nullptr;
  }
}

EventLoop::TimerId EventLoop::After(Clock::duration delay, std::function<void()> fn) {
  const TimerId id = next_timer_++;
  const Clock::time_point when = Clock::now() + delay;
  timers_.emplace(std::pair(when, id), std::move(fn));
  timer_times_.emplace(id, when);
  return id;
}

void EventLoop::Cancel(TimerId timer) {
  auto it = timer_times_.find(timer);
  if (it == timer_times_.end()) return;
  timers_.erase({it->second, timer});
  timer_times_.erase(it);
}

void EventLoop::Defer(std::function<void()> fn) { deferred_.push_back(std::move(fn)); }

void EventLoop::Resume(std::coroutine_handle<> handle) { resumable_.push_back(handle); }

void EventLoop::Post(std::function<void()> fn) {
  {
    const std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(fn));
  }
  WakeUp();
}

void EventLoop::TakePosted() {
  // The counter first: what is posted after that wakes the loop again.
  uint64_t count;
  [[maybe_unused]] ssize_t n = ::read(wake_.get(), &count, sizeof count);
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard lock(posted_mutex_);
    posted.swap(posted_);
  }
  for (auto& fn : posted) deferred_.push_back(std::move(fn));
}

void EventLoop::AddPoller(Poller* poller) { pollers_.push_back(poller); }

void EventLoop::RunAllDeferred() {
  // What deferred work defers runs in the same turn; each round takes what was there at its start.
  for (;;) {
    while (!deferred_.empty() || !resumable_.empty()) {
      std::vector<std::function<void()>> deferred;
      std::vector<std::coroutine_handle<>> resumable;
      deferred.swap(deferred_);
      resumable.swap(resumable_);
      for (auto& fn : deferred) fn();
      for (auto handle : resumable) handle.resume();
    }
    if (late_.empty()) return;
    LateWork* const work = late_.back();
    late_.pop_back();
    work->OnLate();
  }
}

void EventLoop::RunTimers() {
  if (timers_.empty()) return;
  const Clock::time_point now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto node = timers_.extract(timers_.begin());
    timer_times_.erase(node.key().second);
    node.mapped()();
    RunDeferred();
  }
}

EventLoop::Clock::duration EventLoop::RunPollers() {
  // What one poller does often is work for another (a pump feeds the stack, the stack a pump):
  // a few rounds spare a trip through epoll each.
  stays_awake_ = false;
  Clock::duration wait;
  int rounds = kPollerRounds;
  do {
    awake_ = false;
    wait = Clock::duration::max();
    for (Poller* poller : pollers_) {
      wait = std::min(wait, poller->Poll());
      RunDeferred();
    }
  } while (awake_ && --rounds > 0);
  return awake_ || stays_awake_ ? Clock::duration::zero() : wait;
}

void EventLoop::RunOnce(Clock::duration max_wait) {
  RunDeferred();
  RunTimers();
  Clock::duration wait = std::min(max_wait, RunPollers());
  // A poller's work may have deferred work or set a timer.
  if (!timers_.empty()) {
    wait = std::min(wait,
                    std::max(Clock::duration::zero(), timers_.begin()->first.first - Clock::now()));
  }
  int timeout = -1;
  if (wait != Clock::duration::max()) {
    // Rounded up: a timer that is woken early would spin.
    timeout = static_cast<int>(
        std::min<int64_t>(std::chrono::ceil<std::chrono::milliseconds>(wait).count(), 60 * 1000));
  }
  const int n = epoll_wait(epoll_.get(), fetched_.data(), kBatch, timeout);
  batch_.clear();
  for (int i = 0; i < n; ++i) {
    const int fd = fetched_[i].data.fd;
    if (fd == wake_.get()) {
      TakePosted();
      continue;
    }
    batch_.push_back({watchers_[fd], fetched_[i].events, fd});
  }
  RunDeferred();
  for (size_t i = 0; i < batch_.size(); ++i) {
    const Event event = batch_[i];
    if (event.watcher != nullptr) event.watcher->OnEvents(event.events);
    RunDeferred();
  }
  batch_.clear();
}

void EventLoop::Run() {
  while (!stopped_.load(std::memory_order_relaxed)) RunOnce(Clock::duration::max());
}

void EventLoop::Stop() {
  stopped_.store(true, std::memory_order_relaxed);
  WakeUp();
}

void EventLoop::WakeUp() {
  const uint64_t one = 1;
  // A full counter wakes the loop just as well.
  [[maybe_unused]] ssize_t n = ::write(wake_.get(), &one, sizeof one);
}

}  // namespace rump
