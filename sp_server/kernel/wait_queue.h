// Who wants to know when a file's readiness changes.
#ifndef SP_SERVER_KERNEL_WAIT_QUEUE_H_
#define SP_SERVER_KERNEL_WAIT_QUEUE_H_

#include <stdint.h>

namespace rump {

class WaitQueue;

// An entry of a wait queue; unlinks itself when destroyed.
class Waiter {
 public:
  Waiter() = default;
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  // Readiness may have changed: `mask` has the POLL* bits in question. May remove this waiter, and
  // no other, from the queue; must not call back into the file but defer that to the loop.
  virtual void OnReady(uint32_t mask) = 0;
  // The queue is gone, and with it the file; this waiter is in none. May delete this waiter.
  virtual void OnGone() {}

  bool queued() const { return queue_ != nullptr; }
  void Unlink();

 protected:
  virtual ~Waiter() { Unlink(); }

 private:
  friend class WaitQueue;
  WaitQueue* queue_ = nullptr;
  Waiter* prev_ = nullptr;
  Waiter* next_ = nullptr;
};

// An intrusive list of waiters, oldest first.
class WaitQueue {
 public:
  WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;
  ~WaitQueue() { Dissolve(); }

  // `waiter` must not be in a queue.
  void Add(Waiter* waiter) {
    waiter->queue_ = this;
    waiter->prev_ = tail_;
    (tail_ != nullptr ? tail_->next_ : head_) = waiter;
    tail_ = waiter;
  }

  // Tells every waiter.
  void Notify(uint32_t mask) {
    for (Waiter* w = head_; w != nullptr;) {
      Waiter* next = w->next_;
      w->OnReady(mask);
      w = next;
    }
  }

  // Lets go of every waiter and tells it that the queue is gone.
  void Dissolve() {
    while (head_ != nullptr) {
      Waiter* waiter = head_;
      waiter->Unlink();
      waiter->OnGone();
    }
  }

  bool empty() const { return head_ == nullptr; }

 private:
  friend class Waiter;
  Waiter* head_ = nullptr;
  Waiter* tail_ = nullptr;
};

inline void Waiter::Unlink() {
  if (queue_ == nullptr) return;
  (prev_ != nullptr ? prev_->next_ : queue_->head_) = next_;
  (next_ != nullptr ? next_->prev_ : queue_->tail_) = prev_;
  queue_ = nullptr;
  prev_ = next_ = nullptr;
}

}  // namespace rump

#endif  // SP_SERVER_KERNEL_WAIT_QUEUE_H_
