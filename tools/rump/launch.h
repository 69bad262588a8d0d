// What has to be found and set before a hijacked program can be started.
#ifndef TOOLS_RUMP_LAUNCH_H_
#define TOOLS_RUMP_LAUNCH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/rump/command.h"
#include "tools/rump/server_url.h"

namespace rump {

// Exit statuses as env(1) and the shells have them.
inline constexpr int kLaunchFailure = 125;
inline constexpr int kCannotRun = 126;
inline constexpr int kNotFound = 127;

// The file that `name` stands for, by PATH. On failure *exit_status is kNotFound or kCannotRun.
absl::StatusOr<std::string> FindByPath(absl::string_view name, int* exit_status);

// The absolute path of librumphijack.so, if it can stand in LD_PRELOAD.
absl::StatusOr<std::string> FindPreloadableLibrary();

// The server that was named, or nothing of it (an empty URL) if none was. Unavailable if it does
// not answer: a program that cannot reach its server fails at its first socket, far from the cause.
absl::StatusOr<ServerUrl> NamedServer(const Invocation& invocation);

// Sets LD_PRELOAD, before what is there, and RUMP_SERVER.
void SetHijackEnvironment(const std::string& library, const std::string& url);

}  // namespace rump

#endif  // TOOLS_RUMP_LAUNCH_H_
