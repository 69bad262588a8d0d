// librumpclient at RUMP_SERVER. Prints numbers only, one line:
//
//   null THREADS CALLS  thousands of getpids a second, THREADS threads of one process making CALLS
//                       each
//   fork TIMES          microseconds of a fork, the child's first call and its end, and of the same
//                       with the host's fork and no call
//   init TIMES          microseconds of rumpclient_init()
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/bench/stopwatch.h"

namespace rump {
namespace {

[[noreturn]] void Fail(const char* what) {
  perror(what);
  exit(1);
}

void Call() {
  if (rump_sys_getpid() <= 0) Fail("rump_sys_getpid");
}

double NullCalls(int threads, int calls) {
  const Stopwatch watch;
  std::vector<std::thread> callers;
  for (int i = 0; i < threads; ++i) {
    callers.emplace_back([calls] {
      for (int call = 0; call < calls; ++call) Call();
    });
  }
  for (std::thread& caller : callers) caller.join();
  return 1000.0 * threads * calls / watch.Micros();
}

// Microseconds of a child made by `fork_function` that runs `child`, until it has ended. What the
// server still does for the child before is not in them.
template <typename Child>
double Fork(int times, pid_t (*fork_function)(), Child child) {
  double micros = 0;
  for (int i = 0; i < times; ++i) {
    Call();
    const Stopwatch watch;
    const pid_t pid = fork_function();
    if (pid < 0) Fail("fork");
    if (pid == 0) {
      child();
      _exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) < 0 || status != 0) Fail("the child");
    micros += watch.Micros();
  }
  return micros / times;
}

// Again and again in one process, so that it is the connection that is measured, not the first
// touch of memory.
double Init(int times) {
  constexpr int kLowestOwnFd = 1000;
  double micros = 0;
  for (int i = 0; i < times; ++i) {
    const Stopwatch watch;
    if (rumpclient_init() != 0) exit(1);
    micros += watch.Micros();
    int own = kLowestOwnFd;
    while (shutdown(own, SHUT_RDWR) != 0) ++own;
    if (rump_sys_getpid() != -1) Fail("a lost connection");
    // The server forgets the process meanwhile.
    usleep(200);
  }
  return micros / times;
}

int Main(const std::vector<std::string>& args) {
  const auto number = [&](size_t i) { return i < args.size() ? atoi(args[i].c_str()) : 0; };
  if (args.size() == 3 && args[0] == "null") {
    if (rumpclient_init() != 0) return 1;
    NullCalls(number(1), number(2) / 10);
    printf("%.3f\n", NullCalls(number(1), number(2)));
  } else if (args.size() == 2 && args[0] == "fork") {
    if (rumpclient_init() != 0) return 1;
    Fork(number(1) / 10, &rumpclient_fork, &Call);
    const double both = Fork(number(1), &rumpclient_fork, &Call);
    printf("%.3f %.3f\n", both, Fork(number(1), &fork, [] {}));
  } else if (args.size() == 2 && args[0] == "init") {
    printf("%.3f\n", Init(number(1)));
  } else {
    fputs("usage: client_bench null THREADS CALLS | fork TIMES | init TIMES\n", stderr);
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace rump

int main(int argc, char** argv) { return rump::Main({argv + 1, argv + argc}); }
