#include "tools/rump/supervise.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace rump {
namespace {

constexpr int kPassedOn[] = {SIGTERM, SIGINT,   SIGHUP,  SIGQUIT, SIGUSR1,
                             SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT};

}  // namespace

SignalHold::SignalHold() {
  sigemptyset(&signals_);
  for (const int signal : kPassedOn) sigaddset(&signals_, signal);
  sigaddset(&signals_, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals_, &before_);
}

SignalHold::~SignalHold() { sigprocmask(SIG_SETMASK, &before_, nullptr); }

int SignalHold::TakePendingEnd() const {
  sigset_t ends;
  sigemptyset(&ends);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&ends, signal);
  const timespec now = {};
  const int signal = sigtimedwait(&ends, nullptr, &now);
  return signal > 0 ? signal : 0;
}

void SignalHold::RestoreInChild() const { sigprocmask(SIG_SETMASK, &before_, nullptr); }

int Supervise(const SignalHold& hold, Child* child) {
  while (true) {
    siginfo_t info;
    const int signal = sigwaitinfo(&hold.signals(), &info);
    if (signal < 0) continue;
    if (signal == SIGCHLD) {
      int status = 0;
      while (child->Reap(WUNTRACED, &status)) {
        if (!WIFSTOPPED(status)) return status;
        // Our parent (a shell) must see the job stopped. SIGCONT starts us again, and the child
        // next.
        raise(SIGSTOP);
      }
    } else if (info.si_code <= 0 || signal == SIGCONT) {
      // A positive code is the kernel's own: the terminal tells its whole foreground group.
      kill(child->pid(), signal);
    }
  }
}

void EndLike(int wait_status) {
  if (!WIFSIGNALED(wait_status)) _exit(WEXITSTATUS(wait_status));
  const int signal = WTERMSIG(wait_status);
  // One core dump, the program's, is enough.
  prctl(PR_SET_DUMPABLE, 0);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  struct sigaction default_action = {};
  default_action.sa_handler = SIG_DFL;
  sigaction(signal, &default_action, nullptr);
  sigprocmask(SIG_UNBLOCK, &one, nullptr);
  raise(signal);
  _exit(128 + signal);
}

}  // namespace rump
