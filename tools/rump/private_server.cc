#include "tools/rump/private_server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "protocol/url.h"
#include "tools/rump/server_url.h"

namespace rump {
namespace {

constexpr std::chrono::seconds kStartPatience{10};
constexpr int kRetryMs = 2;
constexpr int kStopPatienceMs = 2000;

// What the server does between fork and exec.
void PrepareServer(const SignalHold& hold, pid_t parent) {
  hold.RestoreInChild();
  // A ^C is for the program, which may want to use its sockets while it ends.
  setpgid(0, 0);
  // Standard output is the program's alone.
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  dup2(null, STDIN_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);
  // Whoever waits for the end of an inherited pipe must not wait for the server.
  close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);
}

}  // namespace

PrivateServer::PrivateServer(std::string directory)
    : directory_(std::move(directory)), url_(absl::StrCat("unix://", directory_, "/sock")) {}

PrivateServer::~PrivateServer() {
  if (process_ != nullptr) process_->Stop(kStopPatienceMs);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

absl::StatusOr<std::unique_ptr<PrivateServer>> PrivateServer::Start(
    const std::string& program, const SignalHold& hold, const std::vector<std::string>& options) {
  // Not in TMPDIR: its path may be too long for a socket's name.
  char directory[] = "/tmp/rump-XXXXXX";
  if (mkdtemp(directory) == nullptr) return absl::ErrnoToStatus(errno, directory);
  std::unique_ptr<PrivateServer> server(new PrivateServer(directory));

  std::vector<std::string> arguments = {program, "-s", server->url_};
  arguments.insert(arguments.end(), options.begin(), options.end());
  const pid_t self = getpid();
  absl::StatusOr<Child> process =
      Child::Start(program, arguments, [&hold, self] { PrepareServer(hold, self); });
  if (!process.ok()) return process.status();
  server->process_ = std::make_unique<Child>(*std::move(process));
  if (absl::Status ready = server->WaitUntilReady(program); !ready.ok()) return ready;
  return server;
}

absl::Status PrivateServer::WaitUntilReady(const std::string& program) {
  const auto deadline = std::chrono::steady_clock::now() + kStartPatience;
  const Endpoint endpoint = [this] {
    Endpoint parsed;
    ParseUrl(url_, "", &parsed);
    return parsed;
  }();
  while (true) {
    absl::Status connected = TryConnect(endpoint);
    if (connected.ok()) return connected;
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(program, " does not accept connections at ",
                                                      url_, ": ", connected.message()));
    }
    pollfd ended = {.fd = process_->pidfd(), .events = POLLIN, .revents = 0};
    int status = 0;
    if (poll(&ended, 1, kRetryMs) == 1 && process_->Reap(0, &status)) {
      return absl::UnavailableError(
          WIFSIGNALED(status)
              ? absl::StrCat(program, " was killed at its start: ", strsignal(WTERMSIG(status)))
              : absl::StrCat(program, " ended at its start with status ", WEXITSTATUS(status)));
    }
  }
}

}  // namespace rump
