// The symbols that take libc's place in the program: each decides cheaply whether a socket of ours
// may be concerned, and leads to the dispatcher if so.
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include <type_traits>

#include "hijack/dispatcher.h"
#include "hijack/fd_cache.h"
#include "hijack/outcome.h"
#include "hijack/real.h"
#include "hijack/session.h"

namespace rump::hijack {
namespace {

template <typename R>
R LibcResult(long result) {
  if constexpr (!std::is_void_v<R>) {
    if (result < 0) {
      errno = static_cast<int>(-result);
      return -1;
    }
    return static_cast<R>(result);
  }
}

}  // namespace

// Under names of their own to the compiler, as libc's headers declare the others. The second half
// is a function apart, so that the first is a compare and a jump without a stack frame.
#define ENTRY(gate, type, name, number, parameters, arguments, ...)                     \
  [[gnu::noinline]] static type Dispatched_##name parameters {                          \
    const Outcome outcome = Dispatch(number, MakeArgs(__VA_ARGS__));                    \
    return outcome.handled ? LibcResult<type>(outcome.result) : real.name arguments;    \
  }                                                                                     \
  extern "C" [[gnu::visibility("default")]] type Hijacked_##name parameters asm(#name); \
  type Hijacked_##name parameters {                                                     \
    return gate ? real.name arguments : Dispatched_##name arguments;                    \
  }
#include "hijack/entries.inc"
#undef ENTRY

extern "C" [[gnu::visibility("default")]] pid_t Hijacked_fork() asm("fork");
pid_t Hijacked_fork() { return LibcResult<pid_t>(session.Fork()); }

}  // namespace rump::hijack
