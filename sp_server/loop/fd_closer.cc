#include "sp_server/loop/fd_closer.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

namespace rump {
namespace {
// How long the end waits for closes; those that do not block take microseconds.
constexpr std::chrono::seconds kPatience{1};
}  // namespace

struct FdCloser::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<UniqueFd> queue;  // under mutex, as the next two
  bool stop = false;
  bool ended = false;
  std::atomic<size_t> pending = 0;
};

FdCloser::FdCloser() : state_(std::make_shared<State>()) {}

FdCloser::~FdCloser() {
  if (!started_) return;
  std::unique_lock lock(state_->mutex);
  state_->stop = true;
  state_->changed.notify_all();
  const bool ended = state_->changed.wait_for(lock, kPatience, [this] { return state_->ended; });
  lock.unlock();
  if (ended) {
    pthread_join(thread_, nullptr);
  } else {
    pthread_detach(thread_);
  }
}

size_t FdCloser::pending() const { return state_->pending.load(std::memory_order_relaxed); }

void FdCloser::Close(UniqueFd fd) {
  if (!fd.valid()) return;
  state_->pending.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(state_->mutex);
    state_->queue.push_back(std::move(fd));
  }
  state_->changed.notify_all();
  // Without a thread now, they wait for the next one's attempt.
  if (!started_) StartThread();
}

void FdCloser::CloseStream(UniqueFd socket, size_t own) {
  if (!socket.valid()) return;
  // Before the look: nothing may come in after it.
  shutdown(socket.get(), SHUT_RD);
  int unread = 0;
  if (ioctl(socket.get(), FIONREAD, &unread) == 0 && static_cast<size_t>(unread) > own) {
    Close(std::move(socket));
  }
}

void FdCloser::StartThread() {
  auto state = std::make_unique<std::shared_ptr<State>>(state_);
  // Signals are for the loop's thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  started_ = pthread_create(&thread_, nullptr, Run, state.get()) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (started_) (void)state.release();
}

void* FdCloser::Run(void* argument) {
  const std::unique_ptr<std::shared_ptr<State>> owned(
      static_cast<std::shared_ptr<State>*>(argument));
  State& state = **owned;
  std::unique_lock lock(state.mutex);
  for (;;) {
    state.changed.wait(lock, [&state] { return state.stop || !state.queue.empty(); });
    if (state.queue.empty()) break;
    UniqueFd fd = std::move(state.queue.front());
    state.queue.pop_front();
    lock.unlock();
    fd.reset();
    state.pending.fetch_sub(1, std::memory_order_relaxed);
    lock.lock();
  }
  state.ended = true;
  state.changed.notify_all();
  return nullptr;
}

}  // namespace rump
