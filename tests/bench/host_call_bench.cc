// What the preload library costs a system call that is none of its business, timed in children that
// run with and without it, by turns. The bar is 10 ns.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "tests/bench/stopwatch.h"

namespace {

constexpr int kUsualRuns = 15;
constexpr int kBatches = 40;
constexpr int kCalls = 20'000;

int file = -1;
int sockets[2] = {-1, -1};

bool Read() {
  char byte;
  return read(file, &byte, 1) == 1;
}

bool Fcntl() { return fcntl(file, F_GETFL) >= 0; }

bool Recvmsg() {
  char byte;
  iovec part = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return recvmsg(sockets[0], &message, MSG_DONTWAIT) < 0;
}

bool DupAndClose() { return close(dup(file)) == 0; }

bool Syscall() { return syscall(SYS_getppid) > 0; }

struct HostCall {
  const char* name;
  bool (*make)();
};
constexpr HostCall kHostCalls[] = {{"read", Read},
                                   {"fcntl", Fcntl},
                                   {"recvmsg", Recvmsg},
                                   {"dup+close", DupAndClose},
                                   {"syscall", Syscall}};

const HostCall* FindCall(const char* name) {
  for (const HostCall& call : kHostCalls) {
    if (strcmp(call.name, name) == 0) return &call;
  }
  return nullptr;
}

// The child: prints the ns per call of its fastest batch.
int TimeCalls(const HostCall& call) {
  file = open("/dev/zero", O_RDONLY);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) return 1;
  double best = 1e18;
  for (int batch = 0; batch < kBatches; ++batch) {
    const rump::Stopwatch stopwatch;
    for (int i = 0; i < kCalls; ++i) {
      if (!call.make()) return 1;
    }
    best = std::min(best, stopwatch.Micros() * 1e3 / kCalls);
  }
  printf("%.2f\n", best);
  return 0;
}

double RunChild(const char* self, const char* call, const std::string& environment) {
  const std::string command = environment + " " + self + " --child " + call;
  FILE* out = popen(command.c_str(), "r");
  double ns = -1;
  if (out == nullptr || fscanf(out, "%lf", &ns) != 1) ns = -1;
  if (out != nullptr && pclose(out) != 0) ns = -1;
  return ns;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "--child") == 0) return TimeCalls(*FindCall(argv[2]));
  const HostCall* call = FindCall(argc > 2 ? argv[2] : "read");
  const int runs = argc > 3 ? atoi(argv[3]) : kUsualRuns;
  if (argc < 2 || call == nullptr || runs < 1) {
    fprintf(stderr, "usage: %s path/to/librumphijack.so [CALL [RUNS]]\nCALL:", argv[0]);
    for (const HostCall& known : kHostCalls) fprintf(stderr, " %s", known.name);
    fprintf(stderr, "\nRUMPHIJACK_ENTRY says how the library gets into the call.\n");
    return 2;
  }
  char library[4096];
  if (realpath(argv[1], library) == nullptr) {
    perror(argv[1]);
    return 1;
  }
  double plain = 1e18;
  double preloaded = 1e18;
  for (int run = 0; run < runs; ++run) {
    const double a = RunChild(argv[0], call->name, "");
    const double b = RunChild(argv[0], call->name, std::string("LD_PRELOAD=") + library);
    if (a < 0 || b < 0) return 1;
    plain = std::min(plain, a);
    preloaded = std::min(preloaded, b);
  }
  printf("%s: %.1f ns plain, %.1f ns preloaded, %+.1f ns\n", call->name, plain, preloaded,
         preloaded - plain);
  return 0;
}
