#include "sp_server/kernel/time_args.h"

#include <algorithm>
#include <chrono>

namespace rump {
namespace {
constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;
// A hundred years, which together with the present still fit into a time_point.
constexpr int64_t kForeverSeconds = int64_t{100} * 365 * 24 * 3600;
}  // namespace

bool ClientTimespec::valid() const {
  return seconds >= 0 && nanoseconds >= 0 && nanoseconds < kNanosecondsPerSecond;
}

Deadline DeadlineAfter(const ClientTimespec& duration) {
  if (duration.seconds >= kForeverSeconds) return kNever;
  return EventLoop::Clock::now() + std::chrono::seconds(duration.seconds) +
         std::chrono::nanoseconds(duration.nanoseconds);
}

Deadline DeadlineAfterMilliseconds(int milliseconds) {
  if (milliseconds < 0) return kNever;
  return EventLoop::Clock::now() + std::chrono::milliseconds(milliseconds);
}

ClientTimespec LeftUntil(Deadline deadline) {
  const int64_t left =
      std::max<int64_t>(0, std::chrono::nanoseconds(deadline - EventLoop::Clock::now()).count());
  return {.seconds = left / kNanosecondsPerSecond, .nanoseconds = left % kNanosecondsPerSecond};
}

}  // namespace rump
