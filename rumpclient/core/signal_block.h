// No signal handler of the program may run in the middle of a call to the server.
#ifndef RUMPCLIENT_CORE_SIGNAL_BLOCK_H_
#define RUMPCLIENT_CORE_SIGNAL_BLOCK_H_

#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "rumpclient/core/raw_syscall.h"

namespace rump::client {

// Signal n as bit n - 1, as the kernel has it.
using SignalSet = uint64_t;

inline constexpr SignalSet kAllSignals = ~SignalSet{0};

// Makes `mask` the thread's and returns the one that it had.
inline SignalSet SetSignalMask(SignalSet mask) {
  SignalSet old = 0;
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof old);
  return old;
}

// Blocks all signals of the thread, those that libc keeps for itself included (a cancellation that
// arrives meanwhile waits), as long as it lives.
class SignalBlock {
 public:
  SignalBlock() : before_(SetSignalMask(kAllSignals)) {}
  ~SignalBlock() { SetSignalMask(before_); }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

  // The thread's own mask.
  SignalSet before() const { return before_; }

 private:
  const SignalSet before_;
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_SIGNAL_BLOCK_H_
