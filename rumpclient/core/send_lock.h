// One thread at a time sends, and takes along what others have to send meanwhile.
#ifndef RUMPCLIENT_CORE_SEND_LOCK_H_
#define RUMPCLIENT_CORE_SEND_LOCK_H_

#include <stddef.h>
#include <string.h>

#include <span>

#include "rumpclient/core/futex.h"

namespace rump::client {

// A thread that is preempted in a send would else have all others wait for it in line, each to be
// woken and to send for itself.
class SendLock {
 public:
  constexpr SendLock() = default;

  // To keep others from sending.
  void Lock() { lock_.Lock(); }
  bool TryLock() { return lock_.TryLock(); }
  void Unlock() { lock_.Unlock(); }

  // To send, by the holder: others leave short frames from now on. What they left until Finish is
  // to be sent then.
  void Open() {
    FutexLockGuard guard(&queue_lock_);
    open_ = true;
  }
  // Leaves a frame to who is sending. False: nobody is, or has no room.
  bool Leave(std::span<const std::byte> frame) {
    FutexLockGuard guard(&queue_lock_);
    if (!open_ || frame.size() > kRoom - size_) return false;
    memcpy(queue_[filled_] + size_, frame.data(), frame.size());
    size_ += frame.size();
    return true;
  }
  // What was left, for the holder to send, or nothing, and then it is unlocked. With `last`, no
  // more can be left.
  std::span<const std::byte> Finish(bool last) {
    {
      FutexLockGuard guard(&queue_lock_);
      if (size_ > 0) {
        const std::span<const std::byte> left(queue_[filled_], size_);
        filled_ = 1 - filled_;
        size_ = 0;
        if (last) open_ = false;
        return left;
      }
      open_ = false;
    }
    lock_.Unlock();
    return {};
  }

  // For the child of a fork, where the holder does not exist.
  void Reset() {
    lock_.Reset();
    queue_lock_.Reset();
    open_ = false;
    size_ = 0;
  }

 private:
  static constexpr size_t kRoom = 1024;

  FutexLock lock_;
  FutexLock queue_lock_;  // held for a moment; what is below
  bool open_ = false;
  int filled_ = 0;   // the queue that frames are left in, while the other one is sent
  size_t size_ = 0;  // of what is in it
  std::byte queue_[2][kRoom] = {};
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_SEND_LOCK_H_
