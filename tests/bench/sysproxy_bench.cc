// The sysproxy server at RUMP_SERVER, measured from clients of it. Prints numbers only, one line:
//
//   null CALLS           microseconds of a getpid
//   pipe SIZE CALLS      microseconds of a write of SIZE bytes to a pipe, its read not counted
//   clients COUNT CALLS  thousands of getpids a second, COUNT processes making CALLS each
//   connect TIMES        microseconds of connecting, banner and handshake
//   blocked CLIENTS CALLS  of a server that has served nobody yet: microseconds of one client's
//                        getpid alone, and beside CLIENTS more with CALLS reads each that block;
//                        KiB of memory per blocked call that the server has grown by since it
//                        was alone, clients and all; threads of the server
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "protocol/frame.h"
#include "protocol/url.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "sp_server/loop/unique_fd.h"
#include "tests/bench/stopwatch.h"

namespace rump {
namespace {

[[noreturn]] void Fail(const char* what) {
  perror(what);
  exit(1);
}

void Init() {
  if (rumpclient_init() != 0) exit(1);
}

double NullCall(int calls) {
  const Stopwatch watch;
  for (int i = 0; i < calls; ++i) {
    if (rump_sys_getpid() <= 0) Fail("rump_sys_getpid");
  }
  return watch.Micros() / calls;
}

double PipeWrite(int size, int calls) {
  int ends[2];
  if (rump_sys_pipe(ends) != 0) Fail("rump_sys_pipe");
  std::string data(static_cast<size_t>(size), 'x');
  double micros = 0;
  for (int i = 0; i < calls; ++i) {
    const Stopwatch watch;
    if (rump_sys_write(ends[1], data.data(), data.size()) != size) Fail("rump_sys_write");
    micros += watch.Micros();
    if (rump_sys_read(ends[0], data.data(), data.size()) != size) Fail("rump_sys_read");
  }
  return micros / calls;
}

double ManyClients(int count, int calls) {
  int go[2];
  int ready[2];
  if (pipe(go) != 0 || pipe(ready) != 0) Fail("pipe");
  for (int i = 0; i < count; ++i) {
    if (fork() != 0) continue;
    close(go[1]);
    Init();
    char byte;
    (void)!write(ready[1], "", 1);
    (void)!read(go[0], &byte, 1);
    NullCall(calls);
    _exit(0);
  }
  char byte;
  for (int i = 0; i < count; ++i) (void)!read(ready[0], &byte, 1);
  const Stopwatch watch;
  close(go[1]);
  for (int i = 0; i < count; ++i) {
    int status;
    if (wait(&status) < 0 || status != 0) Fail("a client");
  }
  return 1000.0 * count * calls / watch.Micros();
}

// A client of few bytes: thousands of them fit into one process.
class SmallClient {
 public:
  SmallClient() {
    const char* url = getenv("RUMP_SERVER");
    Endpoint endpoint;
    if (url == nullptr || ParseUrl(url, "", &endpoint) != UrlError::kNone) exit(2);
    fd_ = UniqueFd(socket(endpoint.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(fd_.get(), &endpoint.any, endpoint.len) != 0) Fail("connect");
    char c;
    do {
      Read(&c, 1);
    } while (c != '\n');
    Send({.reqno = 1}, std::string("bench\0", 6));
    Await(1);
  }

  // pid of the server's process.
  pid_t server() const {
    ucred peer{};
    socklen_t size = sizeof peer;
    getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return peer.pid;
  }

  void Send(FrameHeader header, const std::string& payload) {
    header.len = kHeaderSize + payload.size();
    std::string frame(kHeaderSize, '\0');
    EncodeHeader(header, reinterpret_cast<std::byte*>(frame.data()));
    frame += payload;
    if (write(fd_.get(), frame.data(), frame.size()) != static_cast<ssize_t>(frame.size())) {
      Fail("write");
    }
  }

  void SendCall(uint32_t number, const std::vector<uint64_t>& args) {
    Send({.reqno = ++reqno_, .type = FrameType::kSyscall, .u = number},
         {reinterpret_cast<const char*>(args.data()), args.size() * sizeof(uint64_t)});
  }

  void Call(uint32_t number, const std::vector<uint64_t>& args) {
    SendCall(number, args);
    Await(reqno_);
  }

 private:
  // Reads up to the response of `reqno`.
  void Await(uint64_t reqno) {
    FrameHeader header;
    do {
      Read(&header, sizeof header);
      std::string payload(header.len - kHeaderSize, '\0');
      Read(payload.data(), payload.size());
    } while (header.cls != FrameClass::kResponse || header.reqno != reqno);
  }

  void Read(void* data, size_t size) {
    if (size > 0 && recv(fd_.get(), data, size, MSG_WAITALL) != static_cast<ssize_t>(size)) {
      Fail("read");
    }
  }

  UniqueFd fd_;
  uint64_t reqno_ = 1;
};

long StatusOf(pid_t pid, const std::string& field) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field)) return std::stol(line.substr(field.size()));
  }
  return 0;
}

void Blocked(int count, int calls) {
  constexpr int kRounds = 2000;
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  Init();
  NullCall(kRounds);
  const double idle = NullCall(kRounds);
  const pid_t server = SmallClient().server();
  // Before the clients: what connecting them leaves free would pay for their calls.
  const long before = StatusOf(server, "VmRSS:");
  std::vector<SmallClient> clients(static_cast<size_t>(count));
  for (SmallClient& client : clients) client.Call(SYS_pipe, {0});
  for (SmallClient& client : clients) {
    for (int i = 0; i < calls; ++i) client.SendCall(SYS_read, {0, 0, 8});
    // Answered behind them: then they block.
    client.Call(SYS_getpid, {});
  }
  const long after = StatusOf(server, "VmRSS:");
  const double busy = NullCall(kRounds);
  printf("%.3f %.3f %.3f %ld\n", idle, busy,
         static_cast<double>(after - before) / (static_cast<double>(count) * calls),
         StatusOf(server, "Threads:"));
}

int Main(const std::vector<std::string>& args) {
  const auto number = [&](size_t i) { return i < args.size() ? atoi(args[i].c_str()) : 0; };
  if (args.size() >= 2 && args[0] == "null") {
    Init();
    NullCall(number(1) / 10);
    printf("%.3f\n", NullCall(number(1)));
  } else if (args.size() >= 3 && args[0] == "pipe") {
    Init();
    PipeWrite(number(1), number(2) / 10);
    printf("%.3f\n", PipeWrite(number(1), number(2)));
  } else if (args.size() >= 3 && args[0] == "clients") {
    printf("%.3f\n", ManyClients(number(1), number(2)));
  } else if (args.size() >= 2 && args[0] == "connect") {
    const Stopwatch watch;
    for (int i = 0; i < number(1); ++i) const SmallClient client;
    printf("%.3f\n", watch.Micros() / number(1));
  } else if (args.size() >= 3 && args[0] == "blocked") {
    Blocked(number(1), number(2));
  } else {
    fputs(
        "usage: sysproxy_bench null CALLS | pipe SIZE CALLS | clients COUNT CALLS | connect TIMES"
        " | blocked CLIENTS CALLS\n",
        stderr);
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace rump

int main(int argc, char** argv) { return rump::Main({argv + 1, argv + argc}); }
