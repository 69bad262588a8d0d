// Time without libc.
#ifndef HIJACK_CLOCK_H_
#define HIJACK_CLOCK_H_

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {

// Seconds that only ever go forward.
inline int64_t Now() {
  timespec now = {};
  client::RawSyscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

// Until the time is over, or a signal's handler has run.
inline void Sleep(long milliseconds) {
  const timespec time = {milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  client::RawSyscall(SYS_nanosleep, &time, nullptr);
}

}  // namespace rump::hijack

#endif  // HIJACK_CLOCK_H_
