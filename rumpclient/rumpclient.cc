// The C functions of <rump/rumpclient.h>.
#include "rump/rumpclient.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"
#include "rumpclient/process.h"

#define RUMPCLIENT_EXPORT extern "C" __attribute__((visibility("default")))

struct rumpclient_fork {
  rump::PreforkCookie cookie;
};
// Its plain name is the function's from there on.
using ForkHandle = struct rumpclient_fork;

namespace rump::client {
namespace {

// 0, or -1 with errno.
int Result(int error) {
  if (error == 0) return 0;
  errno = error;
  return -1;
}

// vfork(2), but with memory of its own: what the child does there leaves the parent's connection
// alone. The parent waits as long as for any vfork.
pid_t WaitingFork() {
  const long pid = RawSyscall(SYS_clone, CLONE_VFORK | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (pid >= 0) return static_cast<pid_t>(pid);
  errno = static_cast<int>(-pid);
  return -1;
}

int Syscall(int num, const void* sysarg, size_t argsize, long* retval) {
  Call call;
  if (argsize > sizeof call.args || argsize % sizeof call.args[0] != 0) return EINVAL;
  call.number = static_cast<uint32_t>(num);
  call.nargs = argsize / sizeof call.args[0];
  if (argsize > 0) memcpy(call.args, sysarg, argsize);
  if (const int error = process.Issue(&call); error != 0) return error;
  if (call.error == 0) memcpy(retval, call.retval, sizeof call.retval);
  return call.error;
}

int Daemonise(bool stay, bool keep_output) {
  PreforkCookie cookie;
  if (const int error = process.Prefork(&cookie); error != 0) return error;
  const SignalBlock block;
  if (daemon(stay, keep_output) != 0) {
    const int error = errno;
    process.CancelFork(cookie, block);
    return error;
  }
  return process.Claim(cookie, block);
}

int CloseNotify(int* fd, rumpclient_closevariant variant) {
  const int own = process.own_fd();
  if (own < 0) return 0;
  if (variant != RUMPCLIENT_CLOSE_FCLOSEM) return *fd == own ? process.MoveFd() : 0;
  if (*fd > own) return 0;
  for (int each = *fd; each < own; ++each) close(each);
  *fd = own + 1;
  return 0;
}

}  // namespace
}  // namespace rump::client

RUMPCLIENT_EXPORT int rumpclient_init() {
  return rump::client::Result(rump::client::process.Init());
}

RUMPCLIENT_EXPORT int rumpclient_syscall(int num, const void* sysarg, size_t argsize,
                                         long* retval) {
  return rump::client::Syscall(num, sysarg, argsize, retval);
}

RUMPCLIENT_EXPORT pid_t rumpclient_fork() { return rump::client::process.Fork(&fork); }

RUMPCLIENT_EXPORT pid_t rumpclient_vfork() {
  return rump::client::process.Fork(&rump::client::WaitingFork);
}

RUMPCLIENT_EXPORT ForkHandle* rumpclient_prefork() {
  auto* const fork = static_cast<ForkHandle*>(malloc(sizeof(ForkHandle)));
  if (fork == nullptr) return nullptr;
  if (rump::client::Result(rump::client::process.Prefork(&fork->cookie)) == 0) return fork;
  free(fork);
  return nullptr;
}

RUMPCLIENT_EXPORT int rumpclient_fork_init(ForkHandle* fork) {
  const rump::client::SignalBlock block;
  return rump::client::Result(rump::client::process.Claim(fork->cookie, block));
}

RUMPCLIENT_EXPORT void rumpclient_fork_cancel(ForkHandle* fork) {
  {
    const rump::client::SignalBlock block;
    rump::client::process.CancelFork(fork->cookie, block);
  }
  free(fork);
}

RUMPCLIENT_EXPORT void rumpclient_fork_vparent(ForkHandle*) {
  rump::client::process.ForgetSharingChild();
}

RUMPCLIENT_EXPORT int rumpclient_exec(const char* path, char* const argv[], char* const envp[]) {
  return rump::client::Result(rump::client::process.Exec(path, argv, envp));
}

RUMPCLIENT_EXPORT int rumpclient_daemon(int nochdir, int noclose) {
  return rump::client::Result(rump::client::Daemonise(nochdir != 0, noclose != 0));
}

RUMPCLIENT_EXPORT void rumpclient_setconnretry(time_t retry) {
  rump::client::process.SetRetry(retry);
}

RUMPCLIENT_EXPORT int rumpclient__closenotify(int* fdp, enum rumpclient_closevariant variant) {
  return rump::client::Result(rump::client::CloseNotify(fdp, variant));
}
