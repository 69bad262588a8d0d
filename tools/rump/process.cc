#include "tools/rump/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace rump {

absl::Status Exec(const std::string& path, std::span<const std::string> arguments) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(path.c_str(), argv.data());
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot execute ", path));
}

absl::StatusOr<Child> Child::Start(const std::string& path, std::span<const std::string> arguments,
                                   const std::function<void()>& prepare) {
  // Closed by a successful exec; otherwise it brings exec's errno.
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const UniqueFd outcome(ends[0]);
  UniqueFd report(ends[1]);

  Child child;
  child.pid_ = fork();
  if (child.pid_ < 0) return absl::ErrnoToStatus(errno, "fork");
  if (child.pid_ == 0) {
    prepare();
    Exec(path, arguments).IgnoreError();
    const int error = errno;
    while (write(report.get(), &error, sizeof(error)) < 0 && errno == EINTR) {
    }
    _exit(127);
  }
  report.reset();
  int error = 0;
  ssize_t n;
  do {
    n = read(outcome.get(), &error, sizeof(error));
  } while (n < 0 && errno == EINTR);
  if (n == sizeof(error)) return absl::ErrnoToStatus(error, absl::StrCat("cannot execute ", path));
  child.pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, child.pid_, 0)));
  if (!child.pidfd_.valid()) return absl::ErrnoToStatus(errno, "pidfd_open");
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

Child::~Child() {
  if (pid_ > 0) Stop(/*patience_ms=*/0);
}

bool Child::Reap(int options, int* wait_status) {
  if (pid_ <= 0 || waitpid(pid_, wait_status, WNOHANG | options) != pid_) return false;
  if (!WIFSTOPPED(*wait_status)) pid_ = -1;
  return true;
}

void Child::Stop(int patience_ms) {
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  pollfd ended = {.fd = pidfd(), .events = POLLIN, .revents = 0};
  if (poll(&ended, 1, patience_ms) != 1) kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

}  // namespace rump
