#include "hijack/dispatcher.h"

#include <sys/syscall.h>

#include "hijack/calls.h"

namespace rump::hijack {

Outcome Dispatch(long number, const Args& args) {
  switch (number) {
#define CALL(name, function, gate) \
  case SYS_##name:                 \
    return function(args);
#include "hijack/dispatched_calls.inc"
#undef CALL
    default:
      return kPass;
  }
}

}  // namespace rump::hijack
