// When waiting ends, whatever happens meanwhile.
#ifndef RUMPCLIENT_CORE_DEADLINE_H_
#define RUMPCLIENT_CORE_DEADLINE_H_

#include <linux/time_types.h>
#include <time.h>

#include <algorithm>

#include "rumpclient/core/raw_syscall.h"

namespace rump::client {

class Deadline {
 public:
  // Never.
  constexpr Deadline() = default;
  static Deadline After(long seconds) { return Deadline(Now() + seconds * kSecond); }
  static Deadline AfterMicros(long micros) { return Deadline(Now() + micros * 1000); }

  bool is_never() const { return end_ == kNever; }
  bool Passed() const { return !is_never() && Now() >= end_; }
  // Until then, 0 if it has passed. Of one that is not never.
  __kernel_timespec Left() const {
    const long left = std::max(end_ - Now(), 0L);
    return {left / kSecond, left % kSecond};
  }

 private:
  static constexpr long kNever = 0;
  static constexpr long kSecond = 1'000'000'000;  // all is in nanoseconds

  constexpr explicit Deadline(long end) : end_(end) {}

  static long Now() {
    __kernel_timespec now = {};
    RawSyscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return now.tv_sec * kSecond + now.tv_nsec;
  }

  long end_ = kNever;
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_DEADLINE_H_
