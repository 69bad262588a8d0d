// Times as arguments of system calls.
#ifndef SP_SERVER_KERNEL_TIME_ARGS_H_
#define SP_SERVER_KERNEL_TIME_ARGS_H_

#include <stdint.h>

#include "sp_server/kernel/waits.h"

namespace rump {

// Linux's struct timespec.
struct ClientTimespec {
  int64_t seconds = 0;
  int64_t nanoseconds = 0;

  // Not negative, with less than a second of nanoseconds.
  bool valid() const;
};

// The moment that is `duration` (valid) from now; kNever if nobody lives to see it.
Deadline DeadlineAfter(const ClientTimespec& duration);
// The same for milliseconds, as poll(2) takes them: kNever if negative.
Deadline DeadlineAfterMilliseconds(int milliseconds);

// What is left until `deadline` (not kNever), zero if that is past.
ClientTimespec LeftUntil(Deadline deadline);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_TIME_ARGS_H_
