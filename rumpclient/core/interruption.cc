#include "rumpclient/core/interruption.h"

#include <linux/time_types.h>
#include <signal.h>

namespace rump::client {
namespace {

constexpr int kSignals = 64;

// As rt_sigaction(2) has it, which is not libc's struct.
struct KernelSigaction {
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  SignalSet mask;
};

constexpr uint64_t kDefault = 0;
constexpr uint64_t kIgnore = 1;

constexpr SignalSet Bit(int signo) { return SignalSet{1} << (signo - 1); }

// Sent to threads only, by libc.
constexpr SignalSet kOfLibc = Bit(32) | Bit(33);

KernelSigaction ActionOf(int signo) {
  KernelSigaction action = {};
  RawSyscall(SYS_rt_sigaction, signo, nullptr, &action, sizeof(SignalSet));
  return action;
}

bool HasHandler(const KernelSigaction& action) {
  return action.handler != kDefault && action.handler != kIgnore;
}

}  // namespace

bool IsNeverRestarted(uint32_t number) {
  switch (number) {
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_pause:
      return true;
    default:
      return false;
  }
}

bool EndsCall(SignalSet signals, uint32_t number) {
  for (int signo = 1; signo <= kSignals; ++signo) {
    if ((signals & Bit(signo)) == 0) continue;
    const KernelSigaction action = ActionOf(signo);
    if (!HasHandler(action)) continue;
    if ((action.flags & SA_RESTART) == 0 || IsNeverRestarted(number)) return true;
  }
  return false;
}

bool EveryHandlerEnds(SignalSet signals, uint32_t number) {
  if (IsNeverRestarted(number)) return true;
  bool any = false;
  for (int signo = 1; signo <= kSignals; ++signo) {
    // Of libc's own one ends the thread; the other, of setuid(2) and its like, is rare enough.
    if ((signals & Bit(signo)) == 0 || (kOfLibc & Bit(signo)) != 0) continue;
    const KernelSigaction action = ActionOf(signo);
    if (!HasHandler(action)) continue;
    if ((action.flags & SA_RESTART) != 0) return false;
    any = true;
  }
  return any;
}

SignalSet WithoutHandler() {
  SignalSet without = 0;
  for (int signo = 1; signo <= kSignals; ++signo) {
    if (!HasHandler(ActionOf(signo))) without |= Bit(signo);
  }
  return without;
}

SignalSet ClaimPending(SignalSet signals) {
  SignalSet pending = 0;
  RawSyscall(SYS_rt_sigpending, &pending, sizeof pending);
  pending &= signals;
  if (pending == 0) return 0;
  const long pid = RawSyscall(SYS_getpid);
  const long tid = RawSyscall(SYS_gettid);
  for (int signo = 1; signo <= kSignals; ++signo) {
    const SignalSet one = Bit(signo);
    if ((pending & one) == 0 || (kOfLibc & one) != 0) continue;
    constexpr __kernel_timespec kAtOnce = {0, 0};
    siginfo_t info;
    if (RawSyscall(SYS_rt_sigtimedwait, &one, &info, &kAtOnce, sizeof one) != signo) {
      pending &= ~one;
    } else if (RawSyscall(SYS_rt_tgsigqueueinfo, pid, tid, signo, &info) != 0) {
      RawSyscall(SYS_tgkill, pid, tid, signo);
    }
  }
  return pending;
}

}  // namespace rump::client
