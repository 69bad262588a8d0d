// rump's own connection to a server, for commands that ask it something.
#ifndef TOOLS_RUMP_CONTROL_H_
#define TOOLS_RUMP_CONTROL_H_

#include <string>

#include "absl/status/status.h"
#include "rumpclient/core/connection.h"
#include "tools/rump/server_url.h"

namespace rump {

// Connects as the process `name` to the server at `url`, which must offer the extension "control".
absl::Status OpenControl(const ServerUrl& url, const std::string& name,
                         client::Connection* connection);

// Issues `call`. Its own errno and a lost connection are failures that name `url`.
absl::Status IssueControl(const ServerUrl& url, client::Connection* connection, client::Call* call);

}  // namespace rump

#endif  // TOOLS_RUMP_CONTROL_H_
