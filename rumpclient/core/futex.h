// Sleeping and locking on a futex word: safe where libc's own locks are not (the child of a fork,
// a preload library's callers).
#ifndef RUMPCLIENT_CORE_FUTEX_H_
#define RUMPCLIENT_CORE_FUTEX_H_

#include <linux/futex.h>
#include <linux/time_types.h>
#include <stdint.h>

#include <atomic>

#include "rumpclient/core/raw_syscall.h"

namespace rump::client {

// Sleeps while *word is `expected`, at most for `timeout` (nullptr: for ever). May return early: 0
// or -errno. Only without a timeout is it restarted after a handler with SA_RESTART.
inline long FutexWait(std::atomic<uint32_t>* word, uint32_t expected,
                      const __kernel_timespec* timeout = nullptr) {
  return RawSyscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout);
}

// Whether somebody slept.
inline bool FutexWakeOne(std::atomic<uint32_t>* word) {
  return RawSyscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1) > 0;
}

// Not recursive: a signal handler that interrupts the holder must not take it.
class FutexLock {
 public:
  constexpr FutexLock() = default;

  void Lock() {
    uint32_t seen = kFree;
    if (word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) return;
    if (seen != kContended) seen = word_.exchange(kContended, std::memory_order_acquire);
    while (seen != kFree) {
      FutexWait(&word_, kContended);
      seen = word_.exchange(kContended, std::memory_order_acquire);
    }
  }

  bool TryLock() {
    uint32_t seen = kFree;
    return word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire);
  }

  void Unlock() {
    if (word_.exchange(kFree, std::memory_order_release) == kContended) FutexWakeOne(&word_);
  }

  // Frees the lock whoever held it: for the child of a fork, where the holder does not exist.
  void Reset() { word_.store(kFree, std::memory_order_relaxed); }

 private:
  enum State : uint32_t { kFree, kHeld, kContended };
  std::atomic<uint32_t> word_{kFree};
};

class FutexLockGuard {
 public:
  explicit FutexLockGuard(FutexLock* lock) : lock_(lock) { lock_->Lock(); }
  ~FutexLockGuard() { lock_->Unlock(); }
  FutexLockGuard(const FutexLockGuard&) = delete;
  FutexLockGuard& operator=(const FutexLockGuard&) = delete;

 private:
  FutexLock* const lock_;
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_FUTEX_H_
