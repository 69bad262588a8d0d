// The one loop on which the whole server runs: file descriptors, timers, deferred work, and the
// pollers (the TCP/IP stack) that want a turn before the loop sleeps. Not thread-safe but for
// Post(), and Stop(), which a signal handler may call, too.
#ifndef SP_SERVER_LOOP_EVENT_LOOP_H_
#define SP_SERVER_LOOP_EVENT_LOOP_H_

#include <stdint.h>
#include <sys/epoll.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/loop/fd_closer.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;

  // Gets the events of a watched descriptor.
  class Watcher {
   public:
    // `events`: EPOLLIN and kin. The watcher may unwatch and delete itself and others.
    virtual void OnEvents(uint32_t events) = 0;

   protected:
    ~Watcher() = default;
  };

  // Gets called once in a turn that it asks for; for what often happens, since it takes no memory.
  class LateWork {
   public:
    virtual void OnLate() = 0;

   protected:
    ~LateWork() = default;
  };

  // Gets a turn whenever the loop has handled what was ready, before it sleeps.
  class Poller {
   public:
    // Does pending work. Returns the time until the next turn is needed at the latest: 0 if work is
    // left, Clock::duration::max() for never.
    virtual Clock::duration Poll() = 0;

   protected:
    ~Poller() = default;
  };

  // Names a timer; 0 is never one.
  using TimerId = uint64_t;

  EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Watches `fd`, which must stay open until Unwatch, for `events` (EPOLLIN, EPOLLET…). Errors are
  // epoll_ctl(2)'s. `watcher` may be nullptr for one that a Rewatch names; until then closing `fd`
  // is enough.
  Errno Watch(int fd, uint32_t events, Watcher* watcher);
  // Changes the events of a watched descriptor.
  Errno Rewatch(int fd, uint32_t events, Watcher* watcher);
  // Stops watching; no event reaches `watcher` for `fd` after this, not even one already fetched.
  void Unwatch(int fd, Watcher* watcher);
  // The same for a descriptor whose open file ends with it, and that is closed before the loop goes
  // on: the host then does its part by itself.
  void Forget(int fd, Watcher* watcher);

  // Runs `fn` once, `delay` from now.
  TimerId After(Clock::duration delay, std::function<void()> fn);
  // Forgets a timer; no effect on one that has run, or on 0.
  void Cancel(TimerId timer);

  // Runs `fn` in this turn, when the caller's stack is gone.
  void Defer(std::function<void()> fn);
  // The same for a suspended coroutine.
  void Resume(std::coroutine_handle<> handle);
  // Calls `work` in this turn, behind all deferred functions and coroutines and what they defer.
  // It must not be asked for again until it has been called, nor go before ForgetLate.
  void CallLate(LateWork* work) { late_.push_back(work); }
  void ForgetLate(LateWork* work) { std::erase(late_, work); }

  // Runs `fn` on the loop's thread, soon. For any thread.
  void Post(std::function<void()> fn);

  // `poller` must outlive the loop's Run.
  void AddPoller(Poller* poller);

  // Closes what must not be closed on the loop's thread.
  FdCloser& closer() { return closer_; }

  // Gives the pollers another turn before the loop sleeps: for work that one makes for another.
  void Wake() { awake_ = true; }
  // The same for work that what is ready by then goes before: the loop looks at descriptors first.
  void StayAwake() { stays_awake_ = true; }

  // Runs until Stop.
  void Run();
  // One turn: waits at most `max_wait` for something to do and does it.
  void RunOnce(Clock::duration max_wait);
  // Async-signal-safe.
  void Stop();

 private:
  struct Event {
    Watcher* watcher;
    uint32_t events;
    int fd;
  };
  void RunDeferred() {
    // Often there is nothing.
    if (!deferred_.empty() || !resumable_.empty() || !late_.empty()) RunAllDeferred();
  }
  void RunAllDeferred();
  // Makes deferred work of what was posted.
  void TakePosted();
  void WakeUp();
  void RunTimers();
  Clock::duration RunPollers();

  FdCloser closer_;
  UniqueFd epoll_;
  UniqueFd wake_;  // eventfd that Stop and Post write
  std::atomic<bool> stopped_ = false;
  std::vector<Watcher*> watchers_;  // by descriptor
  std::vector<Event> batch_;        // fetched, not yet handled
  std::vector<epoll_event> fetched_;
  std::map<std::pair<Clock::time_point, TimerId>, std::function<void()>> timers_;
  std::map<TimerId, Clock::time_point> timer_times_;
  TimerId next_timer_ = 1;
  std::vector<std::function<void()>> deferred_;
  std::vector<std::coroutine_handle<>> resumable_;
  std::vector<LateWork*> late_;
  std::vector<Poller*> pollers_;
  bool awake_ = false;
  bool stays_awake_ = false;
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;  // under posted_mutex_
};

}  // namespace rump

#endif  // SP_SERVER_LOOP_EVENT_LOOP_H_
