// The symbols that make processes and programs. With all of libc rewritten they only lead on; else
// they do what the dispatcher does there.
#include <alloca.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>

#include "hijack/exec.h"
#include "hijack/outcome.h"
#include "hijack/real.h"
#include "hijack/session.h"

#define SYMBOL(type, name, parameters)                                                  \
  extern "C" [[gnu::visibility("default")]] type Hijacked_##name parameters asm(#name); \
  type Hijacked_##name parameters

namespace rump::hijack {
namespace {

int LibcResult(long result) {
  if (result >= 0) return static_cast<int>(result);
  errno = static_cast<int>(-result);
  return -1;
}

pid_t Fork(pid_t (*fork)()) {
  if (libc_leads_back) return fork();
  return LibcResult(session.Fork([&] { return KernelResult(fork()); }));
}

// Calls `exec`, one of libc's functions, with what is to stand for `environment`.
template <typename F>
int Exec(char* const* environment, const F& exec) {
  if (libc_leads_back) return exec(environment);
  const Outcome outcome = ExecWith(environment, /*replaces=*/true,
                                   [&](char* const* next) { return KernelResult(exec(next)); });
  return outcome.handled ? LibcResult(outcome.result) : exec(environment);
}

int Execve(const char* path, char* const* argv, char* const* environment) {
  return Exec(environment, [&](char* const* next) { return real.execve(path, argv, next); });
}

int Execvpe(const char* file, char* const* argv, char* const* environment) {
  return Exec(environment, [&](char* const* next) { return real.execvpe(file, argv, next); });
}

// Returns an error's number and leaves errno alone.
int Spawn(PosixSpawn* spawn, pid_t* pid, const char* program,
          const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
          char* const* argv, char* const* environment) {
  if (!libc_leads_back) {
    const Outcome outcome = ExecWith(environment, /*replaces=*/false, [&](char* const* next) {
      return long{spawn(pid, program, actions, attributes, argv, next)};
    });
    if (outcome.handled) return static_cast<int>(outcome.result);
  }
  return spawn(pid, program, actions, attributes, argv, environment);
}

char* const* Environ() { return real.environ != nullptr ? *real.environ : nullptr; }

// The arguments of execl(3) and its like, up to their nullptr.
size_t CountArguments(va_list arguments) {
  size_t count = 1;
  while (va_arg(arguments, char*) != nullptr) ++count;
  return count;
}

void CopyArguments(const char* first, size_t count, va_list arguments, char** argv) {
  argv[0] = const_cast<char*>(first);
  for (size_t i = 1; i <= count; ++i) argv[i] = va_arg(arguments, char*);
}

}  // namespace

// Defines `argv` from the variable arguments behind `first`, and leaves `arguments` behind them.
#define COLLECT(first)                                                          \
  va_list arguments;                                                            \
  va_start(arguments, first);                                                   \
  const size_t count = CountArguments(arguments);                               \
  va_end(arguments);                                                            \
  auto** const argv = static_cast<char**>(alloca((count + 1) * sizeof(char*))); \
  va_start(arguments, first);                                                   \
  CopyArguments(first, count, arguments, argv)

SYMBOL(pid_t, fork, ()) { return Fork(real.fork); }
asm(".globl __fork\n.type __fork, @function\n.set __fork, fork");
SYMBOL(pid_t, _Fork, ()) { return Fork(real.plain_fork); }

SYMBOL(int, execv, (const char* path, char* const* argv)) { return Execve(path, argv, Environ()); }
SYMBOL(int, execvp, (const char* file, char* const* argv)) {
  return Execvpe(file, argv, Environ());
}
SYMBOL(int, execvpe, (const char* file, char* const* argv, char* const* environment)) {
  return Execvpe(file, argv, environment);
}
SYMBOL(int, execl, (const char* path, const char* first, ...)) {
  COLLECT(first);
  va_end(arguments);
  return Execve(path, argv, Environ());
}
SYMBOL(int, execlp, (const char* file, const char* first, ...)) {
  COLLECT(first);
  va_end(arguments);
  return Execvpe(file, argv, Environ());
}
SYMBOL(int, execle, (const char* path, const char* first, ...)) {
  COLLECT(first);
  char* const* const environment = va_arg(arguments, char* const*);
  va_end(arguments);
  return Execve(path, argv, environment);
}
SYMBOL(int, fexecve, (int fd, char* const* argv, char* const* environment)) {
  return Exec(environment, [&](char* const* next) { return real.fexecve(fd, argv, next); });
}

SYMBOL(int, posix_spawn,
       (pid_t * pid, const char* path, const posix_spawn_file_actions_t* actions,
        const posix_spawnattr_t* attributes, char* const* argv, char* const* environment)) {
  return Spawn(real.posix_spawn, pid, path, actions, attributes, argv, environment);
}
SYMBOL(int, posix_spawnp,
       (pid_t * pid, const char* file, const posix_spawn_file_actions_t* actions,
        const posix_spawnattr_t* attributes, char* const* argv, char* const* environment)) {
  return Spawn(real.posix_spawnp, pid, file, actions, attributes, argv, environment);
}

}  // namespace rump::hijack
