// How a call that takes long lets the program's signals in.
#ifndef RUMPCLIENT_CORE_INTERRUPTION_H_
#define RUMPCLIENT_CORE_INTERRUPTION_H_

#include "rumpclient/core/deadline.h"
#include "rumpclient/core/signal_block.h"

namespace rump::client {

// A function of the connection's that waits in the host's kernel with the program's signals let in,
// and what is to follow if the thread ends there.
struct Wait {
  void (*wait)(void* arg);
  void (*abandon)(void* arg);
  void* arg;
};

// All signals are blocked while a Connection works; a wait that takes longer than an instant lets
// those through that the program does not block.
struct Interruption {
  // The program's own signal mask.
  SignalSet mask = 0;
  // Calls wait.wait(wait.arg), from a place where the thread may be cancelled; nullptr: the
  // connection does so itself. A thread that ends in the wait has to call wait.abandon before its
  // stack is unwound further.
  void (*around)(Interruption* self, const Wait& wait) = nullptr;
  // When waiting ends. Unless that is never, no handler runs in it, only what signals without one
  // do.
  Deadline deadline;
  // The same without an end.
  bool keeps_handlers_out = false;

  bool lets_handlers_in() const { return deadline.is_never() && !keeps_handlers_out; }
};

// Whether a handler for one of `signals` ends the system call `number` with EINTR: not where the
// program asked for SA_RESTART and the call is one that is restarted. Signals without a handler end
// none.
bool EndsCall(SignalSet signals, uint32_t number);

// Whether there are handlers for `signals`, and whichever runs ends the system call `number`.
bool EveryHandlerEnds(SignalSet signals, uint32_t number);

// Whether signal(7) has `number` among the calls that no SA_RESTART restarts.
bool IsNeverRestarted(uint32_t number);

// Those that have no handler, so that they end or stop the program, or do nothing.
SignalSet WithoutHandler();

// Those of `signals` that wait for this thread to unblock them. They are its own from then on: one
// that was sent to the process would else be seen by each of its threads, of which only one runs
// the handler. All signals are blocked.
SignalSet ClaimPending(SignalSet signals);

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_INTERRUPTION_H_
