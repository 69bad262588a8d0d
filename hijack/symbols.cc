// The symbols that take libc's place in the program: each decides cheaply whether a socket of ours
// may be concerned, and leads to the dispatcher if so.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include <type_traits>

#include "hijack/dispatcher.h"
#include "hijack/fd_cache.h"
#include "hijack/message.h"
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

// Whether a call is a cancellation point of POSIX. The dispatcher knows nothing of cancellation.
constexpr bool IsCancellationPoint(long number) {
  switch (number) {
    case SYS_accept:
    case SYS_accept4:
    case SYS_close:
    case SYS_connect:
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_write:
    case SYS_writev:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_preadv2:
    case SYS_pwritev2:
    case SYS_splice:
      return true;
    default:
      return false;
  }
}

// As libc does around the system calls of its own cancellation points: as long as it lives, the
// thread may be cancelled anywhere. What must not be torn apart blocks signals (SignalBlock).
class CancellationPoint {
 public:
  CancellationPoint() {
    if (real.set_cancel_type != nullptr) {
      real.set_cancel_type(PTHREAD_CANCEL_ASYNCHRONOUS, &old_type_);
    }
  }
  ~CancellationPoint() {
    if (real.set_cancel_type != nullptr) real.set_cancel_type(old_type_, nullptr);
  }
  CancellationPoint(const CancellationPoint&) = delete;
  CancellationPoint& operator=(const CancellationPoint&) = delete;

 private:
  int old_type_ = PTHREAD_CANCEL_DEFERRED;
};

template <long kNumber>
Outcome DispatchCall(const Args& args) {
  if constexpr (IsCancellationPoint(kNumber)) {
    const CancellationPoint cancellation_point;
    return Dispatch(kNumber, args);
  } else {
    return Dispatch(kNumber, args);
  }
}

// Whether libc's own function leads to the dispatcher. Sockets are asked for here in any case:
// libc's function does not tell those of the program from its own.
template <long kNumber>
bool LibcLeadsBack() {
  return kNumber != SYS_socket && libc_leads_back;
}

}  // namespace

// Under names of their own to the compiler, as libc's headers declare the others. The second half
// is a function apart, so that the first is a compare and a jump without a stack frame.
#define ENTRY(gate, type, name, number, parameters, arguments, ...)                             \
  [[gnu::noinline]] static type Dispatched_##name parameters {                                  \
    const Outcome outcome = DispatchCall<number>(MakeArgs(__VA_ARGS__));                        \
    return outcome.handled ? LibcResult<type>(outcome.result) : real.name arguments;            \
  }                                                                                             \
  extern "C" [[gnu::visibility("default")]] type Hijacked_##name parameters asm(#name);         \
  type Hijacked_##name parameters {                                                             \
    return LibcLeadsBack<number>() || gate ? real.name arguments : Dispatched_##name arguments; \
  }
#define ALIAS(name, of) asm(".globl " #name "\n.type " #name ", @function\n.set " #name ", " #of);
#include "hijack/entries.inc"
#undef ENTRY

// For syscall.S: the calls that the library takes.
extern "C" [[gnu::visibility("hidden")]] long rumphijack_syscall(long number, long a, long b,
                                                                 long c, long d, long e, long f) {
  if (libc_leads_back && number != SYS_socket) {
    return rumphijack_real_syscall(number, a, b, c, d, e, f);
  }
  const Outcome outcome = Dispatch(number, MakeArgs(a, b, c, d, e, f));
  return outcome.handled ? LibcResult<long>(outcome.result)
                         : rumphijack_real_syscall(number, a, b, c, d, e, f);
}

}  // namespace rump::hijack
