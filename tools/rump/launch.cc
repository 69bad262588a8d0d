#include "tools/rump/launch.h"

#include <stdlib.h>

#include "absl/strings/str_cat.h"
#include "tools/rump/installation.h"
#include "tools/rump/program_inspection.h"

namespace rump {
namespace {

constexpr char kPreloadVariable[] = "LD_PRELOAD";
constexpr char kDefaultPath[] = "/usr/local/bin:/usr/bin:/bin";

}  // namespace

absl::StatusOr<std::string> FindByPath(absl::string_view name, int* exit_status) {
  const char* path_list = getenv("PATH");
  absl::StatusOr<std::string> path =
      FindProgram(name, path_list != nullptr ? path_list : kDefaultPath);
  if (!path.ok()) *exit_status = absl::IsNotFound(path.status()) ? kNotFound : kCannotRun;
  return path;
}

absl::StatusOr<std::string> FindPreloadableLibrary() {
  absl::StatusOr<std::string> library = FindHijackLibrary();
  // The loader splits LD_PRELOAD at blanks and colons, and knows no way to quote them.
  if (library.ok() && library->find_first_of(" :") != std::string::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat(*library, " cannot be preloaded: its path has a blank or a colon"));
  }
  return library;
}

absl::StatusOr<ServerUrl> NamedServer(const Invocation& invocation) {
  absl::StatusOr<ServerUrl> server = ChooseServer(invocation);
  if (absl::IsNotFound(server.status())) return ServerUrl();
  if (!server.ok()) return server;
  if (!server->endpoint.is_unix()) {
    return absl::InvalidArgumentError(
        absl::StrCat(server->origin, " '", server->url,
                     "': descriptors cannot be passed over TCP, which a hijacked program needs; "
                     "use a unix:// URL of a server on this machine"));
  }
  if (absl::Status reached = TryConnect(server->endpoint); !reached.ok()) {
    return absl::UnavailableError(absl::StrCat(
        "no server answers at ", server->url, " (from ", server->origin, "): ", reached.message(),
        "; start one there with 'rump server', name another, or name none to get a private one"));
  }
  return server;
}

void SetHijackEnvironment(const std::string& library, const std::string& url) {
  const char* before = getenv(kPreloadVariable);
  const bool keep = before != nullptr && *before != '\0';
  setenv(kPreloadVariable, (keep ? absl::StrCat(library, ":", before) : library).c_str(), 1);
  setenv(kServerVariable, url.c_str(), 1);
}

}  // namespace rump
