// exec(2) with the environment that the next program is to have.
#ifndef HIJACK_EXEC_H_
#define HIJACK_EXEC_H_

#include <alloca.h>

#include "hijack/exec_environment.h"
#include "hijack/outcome.h"
#include "hijack/session.h"
#include "protocol/text.h"

namespace rump::hijack {

// Calls `exec` with what is to stand for `environment`, and returns its outcome if it does.
// `replaces`: it replaces this process by the program, which then keeps the process in the server.
// kPass: the environment may stay as it is. Allocates on the stack only, for children on their
// parent's memory.
template <typename F>
[[gnu::noinline]] Outcome ExecWith(char* const* environment, bool replaces, const F& exec) {
  const bool keeps = replaces && session.CanHandOn();
  if (!keeps && !ChangesExec()) return kPass;
  const ExecEnvironment::Size size = ExecEnvironment::Measure(environment);
  if (size.entries == 0) return kPass;
  auto** const entries = static_cast<char**>(alloca(size.entries * sizeof(char*)));
  auto* const preload = static_cast<char*>(alloca(size.preload + 1));
  ExecEnvironment next(environment, entries, preload);
  return Done(session.Exec(keeps && next.Keeps(), [&](const char* inherited) {
    char variable[kInheritedVariable.size() + 64];
    TextWriter text(variable);
    text << kInheritedVariable << inherited << std::string_view("\0", 1);
    return exec(next.Finish(*inherited != '\0' ? variable : nullptr));
  }));
}

}  // namespace rump::hijack

#endif  // HIJACK_EXEC_H_
