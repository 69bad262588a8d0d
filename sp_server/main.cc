// rump_server: a kernel of its own behind sysproxy URLs.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sp_server/kernel/kernel.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"
#include "sp_server/net/inet_family.h"
#include "sp_server/net/net_stack.h"
#include "sp_server/server/server.h"

namespace rump {
namespace {

constexpr char kUsage[] =
    "Usage: rump_server [-s] [--allow-remote] URL...\n"
    "\n"
    "Runs a kernel with its own processes and TCP/IP stack, and serves it at each URL:\n"
    "  unix://PATH          a unix socket; what librumphijack.so needs\n"
    "  tcp://ADDRESS:PORT/  for rumpclient programs\n"
    "\n"
    "Goes to the background once it accepts connections.\n"
    "  -s               stay in the foreground\n"
    "  --allow-remote   accept a tcp address that is not loopback (nothing is authenticated)\n"
    "  --help           this text\n"
    "  --version        the version\n"
    "\n"
    "Exit status: 0 after a clean stop, 1 if it cannot start, 2 for bad arguments.\n";

// Packets that a call may have delivered before it answers: a handshake is three.
constexpr int kSettlePackets = 64;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

struct Arguments {
  bool foreground = false;
  ServerOptions server;
  std::vector<std::string> urls;
};

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
Arguments ParseArguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "-s") {
      arguments.foreground = true;
    } else if (arg == "--allow-remote") {
      arguments.server.allow_remote = true;
    } else if (arg == "--help") {
      fputs(kUsage, stdout);
      exit(0);
    } else if (arg == "--version") {
      puts("rump_server 0.1 (RUMPSP 0.4)");
      exit(0);
    } else if (arg.starts_with("-")) {
      fprintf(stderr, "rump_server: unknown option %s\n%s", argv[i], kUsage);
      exit(kExitUsage);
    } else {
      arguments.urls.emplace_back(arg);
    }
  }
  if (arguments.urls.empty()) {
    fprintf(stderr, "rump_server: no URL to serve at\n%s", kUsage);
    exit(kExitUsage);
  }
  return arguments;
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

int Main(int argc, char** argv) {
  const Arguments arguments = ParseArguments(argc, argv);
  UniqueFd ready;
  if (!arguments.foreground) ready = GoToBackground();
  RaiseFdLimit();

  EventLoop loop;
  SetSignals(&loop);
  NetStack& stack = NetStack::Get();
  BuiltinKernel kernel(&loop, [&stack] { stack.Drain(kSettlePackets); });
  loop.AddPoller(&stack);
  RegisterInet(&kernel.families(), &stack);
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
