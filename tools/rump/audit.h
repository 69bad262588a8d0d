// `rump check --audit`.
#ifndef TOOLS_RUMP_AUDIT_H_
#define TOOLS_RUMP_AUDIT_H_

#include <string>

#include "absl/status/statusor.h"
#include "tools/rump/command.h"

namespace rump {

// The exit status when system calls have escaped the library.
inline constexpr int kEscaped = 123;

// Runs `path` with the invocation's arguments, hijacked, to the end of all processes that come of
// it, and writes what has escaped to stderr, or behind what is in the file --output. Returns the
// exit status, or ends rump by the signal that the program ended by.
absl::StatusOr<int> Audit(const Invocation& invocation, const std::string& path);

}  // namespace rump

#endif  // TOOLS_RUMP_AUDIT_H_
