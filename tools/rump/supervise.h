// Standing between a program and whoever started rump, as if rump were the program.
#ifndef TOOLS_RUMP_SUPERVISE_H_
#define TOOLS_RUMP_SUPERVISE_H_

#include <signal.h>

#include "tools/rump/process.h"

namespace rump {

// Holds back the signals that a supervisor passes on, for as long as it lives. To be made before
// the child is started, so that none is lost or kills rump alone.
class SignalHold {
 public:
  SignalHold();
  SignalHold(const SignalHold&) = delete;
  SignalHold& operator=(const SignalHold&) = delete;
  ~SignalHold();

  const sigset_t& signals() const { return signals_; }
  // A held signal that asks for an end (SIGINT, SIGTERM, SIGHUP, SIGQUIT) and came before there was
  // a child to have it, or 0.
  int TakePendingEnd() const;
  // Gives the calling process, a child, the mask from before.
  void RestoreInChild() const;

 private:
  sigset_t signals_;
  sigset_t before_;
};

// Passes signals on to `child` and stops with it, until it ends; returns its wait status. A signal
// that the terminal sends (^C) has reached the child already and is not passed on.
int Supervise(const SignalHold& hold, Child* child);

// Ends this process as `wait_status` tells: with the same exit status, or by the same signal.
[[noreturn]] void EndLike(int wait_status);

}  // namespace rump

#endif  // TOOLS_RUMP_SUPERVISE_H_
