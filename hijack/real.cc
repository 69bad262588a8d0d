#include "hijack/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>

#include <type_traits>

#include "hijack/outcome.h"
#include "rumpclient/core/raw_syscall.h"

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

template <typename R>
R EarlyCall(long number, auto... slots) {
  return LibcResult<R>(client::RawSyscall(number, slots...));
}

// fork is more than a system call: only libc's own keeps libc usable in the child.
pid_t EarlyFork() { return reinterpret_cast<pid_t (*)()>(dlsym(RTLD_NEXT, "fork"))(); }

}  // namespace

constinit RealFunctions real = {
#define ENTRY(gate, type, name, number, parameters, arguments, ...) \
  [] parameters -> type { return EarlyCall<type>(number, __VA_ARGS__); },
#include "hijack/entries.inc"
#undef ENTRY
    EarlyFork,
    [] { return EarlyCall<pid_t>(SYS_fork); },
    nullptr,
};

constinit bool libc_leads_back = false;

void ResolveRealFunctions() {
  const auto resolve = [](auto* function, const char* name) {
    if (void* found = dlsym(RTLD_NEXT, name)) {
      *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(found);
    }
  };
#define ENTRY(gate, type, name, ...) resolve(&real.name, #name);
#include "hijack/entries.inc"
#undef ENTRY
  resolve(&real.fork, "fork");
  resolve(&real.plain_fork, "_Fork");
  resolve(&real.set_cancel_type, "pthread_setcanceltype");
}

long KernelResult(long libc_result) { return libc_result == -1 ? -errno : libc_result; }

}  // namespace rump::hijack
