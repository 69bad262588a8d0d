// rump_server: a kernel of its own behind sysproxy URLs.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "sp_server/command_line.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/tracer.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"
#include "sp_server/net/inet_family.h"
#include "sp_server/net/net_stack.h"
#include "sp_server/server/server.h"

namespace rump {
namespace {

// Packets that a call may have delivered before it answers: a handshake is three.
constexpr int kSettlePackets = 64;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

EventLoop* stopped_by_signal = nullptr;

void StopLoop(int) { stopped_by_signal->Stop(); }

void SetSignals(EventLoop* loop) {
  stopped_by_signal = loop;
  struct sigaction action {};
  action.sa_handler = StopLoop;
  for (const int signal : {SIGTERM, SIGINT}) sigaction(signal, &action, nullptr);
  action.sa_handler = SIG_IGN;
  for (const int signal : {SIGPIPE, SIGHUP}) sigaction(signal, &action, nullptr);
}

// Every connection of a hijacked program is a descriptor here.
void RaiseFdLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Exits for --help, --version and bad arguments.
CommandLine ParseArguments(int argc, char** argv) {
  absl::StatusOr<CommandLine> line = ParseCommandLine({argv + std::min(argc, 1), argv + argc});
  if (!line.ok()) {
    fprintf(stderr, "rump_server: %s; see rump_server --help\n",
            std::string(line.status().message()).c_str());
    exit(kExitUsage);
  }
  if (line->help) fputs(CommandLineHelp().c_str(), stdout);
  if (line->version) puts("rump_server 0.1 (RUMPSP 0.4)");
  if (line->help || line->version) exit(0);
  return *std::move(line);
}

// Exits if the file cannot be written.
UniqueFd OpenTrace(const std::string& path) {
  if (path == "-") return UniqueFd(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
  Result<UniqueFd> file = Tracer::OpenFile(path);
  if (!file.ok()) {
    fprintf(stderr, "rump_server: --trace %s: %s\n", path.c_str(), strerror(file.error().value()));
    exit(kExitFailed);
  }
  return *std::move(file);
}

// Splits off the server's process. The caller's own ends here, once the server has told over the
// returned pipe that it accepts connections, or has failed.
UniqueFd GoToBackground() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    perror("rump_server: pipe");
    exit(kExitFailed);
  }
  const pid_t pid = fork();
  if (pid < 0) {
    perror("rump_server: fork");
    exit(kExitFailed);
  }
  if (pid > 0) {
    ::close(ends[1]);
    char ready = 0;
    ssize_t n;
    do {
      n = read(ends[0], &ready, 1);
    } while (n < 0 && errno == EINTR);
    _exit(n == 1 ? 0 : kExitFailed);
  }
  ::close(ends[0]);
  setsid();
  return UniqueFd(ends[1]);
}

// Lets go of what the starter's terminal or pipes are waiting for.
void DetachStandardStreams() {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd <= 2; ++fd) dup2(null.get(), fd);
}

// A resolv.conf(5).
std::string ResolverConfig(const std::vector<std::string>& nameservers) {
  std::string config;
  for (const std::string& address : nameservers) config += "nameserver " + address + "\n";
  return config;
}

int Main(int argc, char** argv) {
  const CommandLine arguments = ParseArguments(argc, argv);
  UniqueFd ready;
  if (!arguments.foreground) ready = GoToBackground();
  RaiseFdLimit();

  EventLoop loop;
  SetSignals(&loop);
  NetStack& stack = NetStack::Get();
  BuiltinKernel kernel(
      &loop, [&stack] { stack.Drain(kSettlePackets); }, arguments.kernel);
  if (!arguments.trace.empty()) kernel.SetTrace(OpenTrace(arguments.trace));
  kernel.set_resolver_config(ResolverConfig(arguments.nameservers));
  kernel.objects().set_direct(!arguments.no_direct);
  loop.AddPoller(&stack);
  RegisterInet(&kernel.families(), &stack, kernel.datagram_memory());
  kernel.set_on_halt([&loop] { loop.Defer([&loop] { loop.Stop(); }); });
  auto server = std::make_unique<Server>(&loop, &kernel, arguments.server);
  for (const std::string& url : arguments.urls) {
    if (const absl::Status status = server->Listen(url); !status.ok()) {
      fprintf(stderr, "rump_server: %s\n", std::string(status.message()).c_str());
      return kExitFailed;
    }
  }
  if (!arguments.foreground) {
    if (write(ready.get(), "", 1) != 1) return kExitFailed;
    DetachStandardStreams();
  }
  loop.Run();
  // The clients' calls in flight are interrupted, and end in a last turn of the loop.
  server.reset();
  loop.RunOnce(EventLoop::Clock::duration::zero());
  return 0;
}

}  // namespace
}  // namespace rump

int main(int argc, char** argv) { return rump::Main(argc, argv); }
