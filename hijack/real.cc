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

// What is more than a system call: only libc's own does all of it.
template <typename F>
F Early(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

constinit RealFunctions real = {
#define ENTRY(gate, type, name, number, parameters, arguments, ...) \
  [] parameters -> type { return EarlyCall<type>(number, __VA_ARGS__); },
#include "hijack/entries.inc"
#undef ENTRY
    [] { return Early<pid_t (*)()>("fork")(); },
    [] { return EarlyCall<pid_t>(SYS_fork); },
    // More than system calls, too.
    [](const char* file, char* const* argv, char* const* environment) {
      return Early<int (*)(const char*, char* const*, char* const*)>("execvpe")(file, argv,
                                                                                environment);
    },
    [](int fd, char* const* argv, char* const* environment) {
      return Early<int (*)(int, char* const*, char* const*)>("fexecve")(fd, argv, environment);
    },
    [](auto... arguments) { return Early<PosixSpawn*>("posix_spawn")(arguments...); },
    [](auto... arguments) { return Early<PosixSpawn*>("posix_spawnp")(arguments...); },
    nullptr,
    nullptr,
};

constinit bool libc_leads_back = false;

constinit SyscallFunction* rumphijack_real_syscall = EarlyCall<long>;

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
  resolve(&real.execvpe, "execvpe");
  resolve(&real.fexecve, "fexecve");
  resolve(&real.posix_spawn, "posix_spawn");
  resolve(&real.posix_spawnp, "posix_spawnp");
  real.environ = static_cast<char***>(dlsym(RTLD_DEFAULT, "environ"));
  resolve(&rumphijack_real_syscall, "syscall");
  resolve(&real.set_cancel_type, "pthread_setcanceltype");
}

long KernelResult(long libc_result) { return libc_result == -1 ? -errno : libc_result; }

}  // namespace rump::hijack
