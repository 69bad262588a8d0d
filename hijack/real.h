// libc's own functions behind the symbols that we interpose, for the calls that are the host's.
#ifndef HIJACK_REAL_H_
#define HIJACK_REAL_H_

#include <spawn.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

namespace rump::hijack {

using PosixSpawn = int(pid_t* pid, const char* program, const posix_spawn_file_actions_t* actions,
                       const posix_spawnattr_t* attributes, char* const* argv,
                       char* const* environment);

struct RealFunctions {
#define ENTRY(gate, type, name, number, parameters, ...) type(*name) parameters;
#include "hijack/entries.inc"
#undef ENTRY
  pid_t (*fork)();
  pid_t (*plain_fork)();  // _Fork(3)
  int (*execvpe)(const char* file, char* const* argv, char* const* environment);
  int (*fexecve)(int fd, char* const* argv, char* const* environment);
  PosixSpawn* posix_spawn;
  PosixSpawn* posix_spawnp;
  char*** environ;  // the program's variable
  // pthread_setcanceltype(3), or nullptr before it is known.
  int (*set_cancel_type)(int type, int* old_type);
};

// Works from the first instruction on: until ResolveRealFunctions the members make the plain system
// call, as constructors of other libraries may run before ours.
extern RealFunctions real;

using SyscallFunction = long(long number, long a, long b, long c, long d, long e, long f);
// syscall(3), of which syscall.S knows as well.
extern "C" [[gnu::visibility("hidden")]] SyscallFunction* rumphijack_real_syscall;

// Whether all of libc's functions have been rewritten to lead to the dispatcher themselves.
extern bool libc_leads_back;

// Looks the functions up behind us in the search order. Once, from the library's constructor.
void ResolveRealFunctions();

// The kernel-style result of a call through `real`.
long KernelResult(long libc_result);

}  // namespace rump::hijack

#endif  // HIJACK_REAL_H_
