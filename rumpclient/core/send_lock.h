// One thread at a time sends, and takes along what others have to send meanwhile.
#ifndef RUMPCLIENT_CORE_SEND_LOCK_H_
#define RUMPCLIENT_CORE_SEND_LOCK_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <atomic>
#include <span>

#include "rumpclient/core/futex.h"

namespace rump::client {

// A thread that is preempted in a send would else have all others wait for it in line, each to be
// woken and to send for itself. And threads that are woken together soon have something to send
// together: the last of them to run sends it, so that the server has one request less to wake for
// with each.
class SendLock {
 public:
  constexpr SendLock() = default;

  // To keep others from sending.
  void Lock() { lock_.Lock(); }
  bool TryLock() { return lock_.TryLock(); }
  void Unlock() { lock_.Unlock(); }

  // To send, by the holder: others leave short frames from now on. What has been left before, which
  // goes first.
  std::span<const std::byte> Open() {
    FutexLockGuard guard(&queue_lock_);
    open_ = true;
    return TakeQueue();
  }
  // Leaves a frame to who is sending, or expected to. False: nobody is, or there is no room.
  bool Leave(std::span<const std::byte> frame) {
    FutexLockGuard guard(&queue_lock_);
    if (!open_ && expected_.load(std::memory_order_relaxed) == 0) return false;
    if (frame.size() > kRoom - size_) return false;
    memcpy(queue_[filled_] + size_, frame.data(), frame.size());
    size_ += frame.size();
    return true;
  }
  // What was left, for the holder to send, or nothing, and then it is unlocked: what is still there
  // is for who is expected. With `last`, no more can be left to the holder.
  std::span<const std::byte> Finish(bool last) {
    {
      FutexLockGuard guard(&queue_lock_);
      if (size_ > 0 && expected_.load(std::memory_order_relaxed) == 0) {
        if (last) open_ = false;
        return TakeQueue();
      }
      open_ = false;
    }
    lock_.Unlock();
    return {};
  }

  // One more thread is certain to Arrive soon.
  void Expect() {
    FutexLockGuard guard(&queue_lock_);
    expected_.store(expected_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  // Whether one is, at a glance.
  bool expects() const { return expected_.load(std::memory_order_relaxed) > 0; }
  // Of such a thread. True: it has to lock, open and finish, since all that were expected are here.
  bool Arrive() {
    FutexLockGuard guard(&queue_lock_);
    const uint32_t expected = expected_.load(std::memory_order_relaxed);
    if (expected > 0) expected_.store(expected - 1, std::memory_order_relaxed);
    return expected <= 1 && NeedsSender();
  }
  // As if all had arrived: they take too long.
  bool ExpectNobody() {
    FutexLockGuard guard(&queue_lock_);
    expected_.store(0, std::memory_order_relaxed);
    return NeedsSender();
  }

  // For the child of a fork, where the holder does not exist.
  void Reset() {
    lock_.Reset();
    queue_lock_.Reset();
    open_ = false;
    size_ = 0;
    expected_.store(0, std::memory_order_relaxed);
  }

 private:
  static constexpr size_t kRoom = 1024;

  bool NeedsSender() const { return size_ > 0 && !open_; }
  std::span<const std::byte> TakeQueue() {
    const std::span<const std::byte> left(queue_[filled_], size_);
    filled_ = 1 - filled_;
    size_ = 0;
    return left;
  }

  FutexLock lock_;
  FutexLock queue_lock_;  // held for a moment; what is below
  bool open_ = false;
  int filled_ = 0;   // the queue that frames are left in, while the other one is sent
  size_t size_ = 0;  // of what is in it
  std::atomic<uint32_t> expected_{0};
  std::byte queue_[2][kRoom] = {};
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_SEND_LOCK_H_
