#include "tests/rumpclient/test_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"

extern char** environ;

namespace rump::client {
namespace {

std::string ProcessesReport() {
  std::string report(1 << 16, '\0');
  const long size = Call(kSysQuery, {static_cast<uint64_t>(QueryKind::kProcessesJson),
                                     reinterpret_cast<uint64_t>(report.data()), report.size(), 0});
  EXPECT_GT(size, 0);
  report.resize(static_cast<size_t>(std::max(size, 0L)));
  return report;
}

int CallsInFlight(pid_t pid) {
  const std::string report = ProcessesReport();
  const std::string key = "\"calls\":";
  const size_t row = report.find("\"pid\":" + std::to_string(pid) + ",");
  const size_t calls = row == std::string::npos ? row : report.find(key, row);
  EXPECT_NE(std::string::npos, calls) << report;
  if (calls == std::string::npos) return 0;
  return atoi(report.c_str() + calls + key.size());
}

std::string FreeTcpUrl() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof name;
  EXPECT_EQ(0, bind(fd, reinterpret_cast<sockaddr*>(&name), size)) << strerror(errno);
  EXPECT_EQ(0, getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size));
  close(fd);
  return "tcp://127.0.0.1:" + std::to_string(ntohs(name.sin_port)) + "/";
}

}  // namespace

TestServer::TestServer(Transport transport, const char* option)
    : option_(option != nullptr ? option : getenv("SERVER_OPTION")) {
  char directory[] = "/tmp/rhXXXXXX";
  EXPECT_NE(nullptr, mkdtemp(directory)) << strerror(errno);
  directory_ = directory;
  url_ = transport == Transport::kUnix ? "unix://" + path() : FreeTcpUrl();
  Start();
}

TestServer::~TestServer() {
  if (pid_ > 0) Kill();
  unlink(path().c_str());
  rmdir(directory_.c_str());
}

void TestServer::Start() {
  // It is known by the unix socket in any case.
  const std::string address = "unix://" + path();
  std::vector<const char*> argv = {"rump_server", address.c_str()};
  if (url_ != address) argv.push_back(url_.c_str());
  if (option_ != nullptr) argv.push_back(option_);
  argv.push_back(nullptr);
  pid_t starter = -1;
  int status = -1;
  ASSERT_EQ(0, posix_spawn(&starter, "sp_server/rump_server", nullptr, nullptr,
                           const_cast<char**>(argv.data()), environ));
  ASSERT_EQ(starter, waitpid(starter, &status, 0));
  ASSERT_EQ(0, status) << "it goes to the background once it accepts connections";
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  strncpy(name.sun_path, path().c_str(), sizeof name.sun_path - 1);
  ASSERT_EQ(0, connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name)) << strerror(errno);
  ucred peer = {};
  socklen_t size = sizeof peer;
  ASSERT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size));
  close(fd);
  pid_ = peer.pid;
}

void TestServer::Kill() {
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  ASSERT_GE(fd, 0) << strerror(errno);
  EXPECT_EQ(0, kill(pid_, SIGKILL));
  pollfd ended = {fd, POLLIN, 0};
  EXPECT_EQ(1, poll(&ended, 1, -1));
  close(fd);
  pid_ = -1;
}

void RunBareProgram(const TestServer& server, const std::function<void()>& program) {
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    program();
    ExitWithResult();
  }
  ExpectGoodEnd(pid);
}

void RunProgram(const TestServer& server, const std::function<void()>& program) {
  RunBareProgram(server, [&] {
    ASSERT_EQ(0, rumpclient_init());
    program();
  });
}

void ExitWithResult() {
  fflush(nullptr);
  _exit(testing::Test::HasFailure() ? 1 : 0);
}

void ExpectGoodEnd(pid_t pid) {
  int status = -1;
  ASSERT_EQ(pid, waitpid(pid, &status, 0)) << strerror(errno);
  EXPECT_EQ(0, status);
}

void AwaitCallsInFlight(int count) {
  const pid_t self = rump_sys_getpid();
  const pid_t observer = fork();
  ASSERT_GE(observer, 0);
  if (observer == 0) {
    // A report leaves out who asked for it.
    EXPECT_EQ(0, rumpclient_init());
    while (!testing::Test::HasFailure() && CallsInFlight(self) != count) sched_yield();
    ExitWithResult();
  }
  ExpectGoodEnd(observer);
}

int CountProcesses() {
  const std::string report = ProcessesReport();
  int count = 0;
  for (size_t at = 0; (at = report.find("\"pid\":", at)) != std::string::npos; ++at) ++count;
  return count;
}

long Call(int number, std::initializer_list<uint64_t> args) {
  const std::vector<uint64_t> slots(args);
  long retval[2] = {};
  const int error =
      rumpclient_syscall(number, slots.data(), slots.size() * sizeof(uint64_t), retval);
  return error != 0 ? -error : retval[0];
}

void Handle(int signo, void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ASSERT_EQ(0, sigaction(signo, &action, nullptr));
}

RumpPipe::RumpPipe() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(0, rump_sys_pipe(ends)) << strerror(errno);
  reader = ends[0];
  writer = ends[1];
}

}  // namespace rump::client
