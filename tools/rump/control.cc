#include "tools/rump/control.h"

#include <errno.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace rump {
namespace {

absl::Status ConnectionFailure(const ServerUrl& url, long error) {
  const std::string where = absl::StrCat(url.url, " (from ", url.origin, ")");
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
      return absl::UnavailableError(absl::StrCat("no server is running at ", where,
                                                 "; start one with 'rump server ", url.url, "'"));
    case EPROTO:
      return absl::UnavailableError(
          absl::StrCat("what listens at ", where, " is not a rump server: it sent no banner"));
    case EPROTONOSUPPORT:
      return absl::UnavailableError(
          absl::StrCat("the server at ", where, " speaks another version of the protocol"));
    case EAGAIN:
      return absl::UnavailableError(absl::StrCat(
          "the server at ", where,
          " has as many clients as it takes (--max-clients); end one of its programs"));
    case ETIMEDOUT:
      return absl::UnavailableError(absl::StrCat(
          "what listens at ", where, " does not answer: it is stopped, or no rump server"));
    default:
      return absl::ErrnoToStatus(static_cast<int>(error),
                                 absl::StrCat("cannot connect to ", where));
  }
}

}  // namespace

absl::Status OpenControl(const ServerUrl& url, const std::string& name,
                         client::Connection* connection) {
  if (const long result = connection->Open(url.endpoint); result < 0) {
    return ConnectionFailure(url, -result);
  }
  if (const long result = connection->Guest(name); result < 0) {
    return ConnectionFailure(url, -result);
  }
  if ((connection->extensions() & kExtensionControl) == 0) {
    return absl::UnimplementedError(absl::StrCat(
        "the server at ", url.url, " (from ", url.origin,
        ") does not offer the control calls: it is another implementation or has them off"));
  }
  return absl::OkStatus();
}

absl::Status IssueControl(const ServerUrl& url, client::Connection* connection,
                          client::Call* call) {
  if (const long result = connection->Issue(call); result < 0) {
    return absl::ErrnoToStatus(static_cast<int>(-result),
                               absl::StrCat("lost the connection to ", url.url));
  }
  if (call->error != 0) {
    return absl::ErrnoToStatus(call->error, absl::StrCat(url.url, " refused the request"));
  }
  return absl::OkStatus();
}

}  // namespace rump
