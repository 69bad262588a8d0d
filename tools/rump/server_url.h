// Which server a command is about, and whether it is there.
#ifndef TOOLS_RUMP_SERVER_URL_H_
#define TOOLS_RUMP_SERVER_URL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/url.h"
#include "tools/rump/command.h"

namespace rump {

// The variable that names the server for every client.
inline constexpr char kServerVariable[] = "RUMP_SERVER";

struct ServerUrl {
  std::string url;     // absolute: it keeps its meaning after chdir(2)
  std::string origin;  // where it was given, for messages: "--server" or "RUMP_SERVER"
  Endpoint endpoint;
};

// The server that --server or else RUMP_SERVER names. NotFound if neither does (an empty variable
// counts as none), InvalidArgument with a sentence if the URL cannot be used.
absl::StatusOr<ServerUrl> ChooseServer(const Invocation& invocation);

// Connects to `endpoint` and closes the connection again: whether somebody listens there.
absl::Status TryConnect(const Endpoint& endpoint);

}  // namespace rump

#endif  // TOOLS_RUMP_SERVER_URL_H_
