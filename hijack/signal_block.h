// No signal handler of the program may run in the middle of a call to the server.
#ifndef HIJACK_SIGNAL_BLOCK_H_
#define HIJACK_SIGNAL_BLOCK_H_

#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {

// Blocks all signals of the thread, those that libc keeps for itself included (a cancellation that
// arrives meanwhile waits), as long as it lives.
class SignalBlock {
 public:
  SignalBlock() {
    const uint64_t all = ~uint64_t{0};
    client::RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old_, sizeof old_);
  }
  ~SignalBlock() {
    client::RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, &old_, nullptr, sizeof old_);
  }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  uint64_t old_ = 0;
};

}  // namespace rump::hijack

#endif  // HIJACK_SIGNAL_BLOCK_H_
