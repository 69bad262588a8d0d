#include "tools/rump/server_url.h"

#include <errno.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

absl::StatusOr<ServerUrl> ChooseServer(const Invocation& invocation) {
  ServerUrl server;
  if (invocation.has(kServerOption.name)) {
    server.origin = std::string(kServerOption.name);
    server.url = invocation.options.at(kServerOption.name);
  } else if (const char* value = getenv(kServerVariable); value != nullptr && *value != '\0') {
    server.origin = kServerVariable;
    server.url = value;
  } else {
    return absl::NotFoundError(
        "no server is named: give --server URL or set RUMP_SERVER, for example to "
        "unix:///tmp/rump.sock");
  }

  // A cwd that is gone leaves a relative path relative, which may still be of use.
  std::error_code no_cwd;
  const std::string cwd = std::filesystem::current_path(no_cwd).string();
  if (const UrlError error = ParseUrl(server.url, cwd, &server.endpoint);
      error != UrlError::kNone) {
    return absl::InvalidArgumentError(
        absl::StrCat(server.origin, " '", server.url, "': ", std::string(UrlErrorName(error)),
                     "; a server is unix://PATH or tcp://ADDRESS:PORT/"));
  }
  char absolute[256];
  if (FormatUrl(server.endpoint, absolute, sizeof(absolute)) != 0) server.url = absolute;
  return server;
}

absl::Status TryConnect(const Endpoint& endpoint) {
  const UniqueFd fd(socket(endpoint.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() || connect(fd.get(), &endpoint.any, endpoint.len) != 0) {
    return absl::ErrnoToStatus(errno, "connect");
  }
  return absl::OkStatus();
}

}  // namespace rump
