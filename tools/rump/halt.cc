#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "tools/rump/command.h"
#include "tools/rump/control.h"
#include "tools/rump/server_url.h"

namespace rump {
namespace {

constexpr std::chrono::milliseconds kPatience{10000};

// Waits until the peer of `fd` closes the connection. False if it does not within kPatience.
bool WaitUntilClosed(int fd) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd closed = {.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&closed, 1, static_cast<int>(left.count())) <= 0) continue;
    char ignored[256];
    const ssize_t n = read(fd, ignored, sizeof(ignored));
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) return true;
  }
}

absl::StatusOr<int> Run(const Invocation& invocation) {
  if (!invocation.arguments.empty()) return absl::InvalidArgumentError("halt takes no arguments");
  absl::StatusOr<ServerUrl> url = ChooseServer(invocation);
  if (!url.ok()) return url.status();
  client::Connection connection;
  if (absl::Status open = OpenControl(*url, "rump halt", &connection); !open.ok()) return open;
  client::Call call;
  call.number = kSysHalt;
  if (absl::Status asked = IssueControl(*url, &connection, &call); !asked.ok()) return asked;
  if (!WaitUntilClosed(connection.fd())) {
    return absl::DeadlineExceededError(
        absl::StrCat("the server at ", url->url, " agreed to halt but is still there"));
  }
  return 0;
}

constexpr Option kOptions[] = {kServerOption};

}  // namespace

const Command kHaltCommand = {
    .name = "halt",
    .synopsis = "",
    .summary = "Stops a server.",
    .description =
        "Waits until the server has closed its connections. Its clients lose their sockets, but "
        "they\n"
        "do not end: end them first, since some try forever.\n",
    .options = kOptions,
    .run = Run,
};

}  // namespace rump
