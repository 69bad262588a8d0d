// A rump_server for one program alone.
#ifndef TOOLS_RUMP_PRIVATE_SERVER_H_
#define TOOLS_RUMP_PRIVATE_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/rump/process.h"
#include "tools/rump/supervise.h"

namespace rump {

// Listens on a socket in a directory of its own that only this user may enter. The server ends with
// its owner, or with this process if that is killed; the directory is removed with the owner.
class PrivateServer {
 public:
  // Starts `program` with `options` and waits until it accepts connections. Signals are held by
  // `hold`.
  static absl::StatusOr<std::unique_ptr<PrivateServer>> Start(
      const std::string& program, const SignalHold& hold, const std::vector<std::string>& options);
  PrivateServer(const PrivateServer&) = delete;
  PrivateServer& operator=(const PrivateServer&) = delete;
  ~PrivateServer();

  const std::string& url() const { return url_; }

 private:
  explicit PrivateServer(std::string directory);
  absl::Status WaitUntilReady(const std::string& program);

  std::string directory_;
  std::string url_;
  std::unique_ptr<Child> process_;
};

}  // namespace rump

#endif  // TOOLS_RUMP_PRIVATE_SERVER_H_
