#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/fake_server.h"
#include "tests/rumpclient/test_server.h"

extern char** environ;

namespace rump::client {
namespace {

// Absolute, since some tests go elsewhere.
std::string ProgramPath() {
  char* const path = realpath("tests/rumpclient/exec_program", nullptr);
  EXPECT_NE(nullptr, path) << strerror(errno);
  std::string result = path != nullptr ? path : "";
  free(path);
  return result;
}

[[noreturn]] void BecomeProgram(const std::string& path, const std::vector<std::string>& args) {
  std::vector<char*> argv = {const_cast<char*>("exec_program")};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  rumpclient_exec(path.c_str(), argv.data(), environ);
  ADD_FAILURE() << "rumpclient_exec: " << strerror(errno);
  ExitWithResult();
}

// Runs `program`, which execs, and returns its exit status.
template <typename Function>
int StatusOf(const TestServer& server, Function program) {
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
    program();
    ExitWithResult();
  }
  int status = -1;
  EXPECT_EQ(pid, waitpid(pid, &status, 0));
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  return WEXITSTATUS(status);
}

TEST(ExecTest, TwentyTimesFromAboveABlockedPool) {
  TestServer server;
  EXPECT_EQ(0, StatusOf(server, [] {
              RumpPipe pipe;
              RumpPipe silent;
              // The pool reads from a pipe of its own, so that it takes nobody's bytes.
              const std::string pid = std::to_string(rump_sys_getpid());
              BecomeProgram(ProgramPath(),
                            {"chain", "20", pid, std::to_string(pipe.reader),
                             std::to_string(pipe.writer), std::to_string(silent.reader)});
            }));
}

class TransportTest : public testing::TestWithParam<Transport> {};

INSTANTIATE_TEST_SUITE_P(UnixAndTcp, TransportTest,
                         testing::Values(Transport::kUnix, Transport::kTcp));

TEST_P(TransportTest, CloseOnExec) {
  TestServer server(GetParam());
  EXPECT_EQ(
      0b01, StatusOf(server, [] {
        RumpPipe pipe;
        EXPECT_EQ(0, Call(SYS_fcntl, {static_cast<uint64_t>(pipe.writer), F_SETFD, FD_CLOEXEC}));
        BecomeProgram(ProgramPath(),
                      {"open", std::to_string(pipe.reader), std::to_string(pipe.writer)});
      }));
}

TEST(ExecTest, ConnectionIsCloseOnExecAgain) {
  TestServer server;
  EXPECT_EQ(0, StatusOf(server, [] { BecomeProgram(ProgramPath(), {"own"}); }));
}

TEST(ExecTest, LeavesTheSignalMask) {
  TestServer server;
  EXPECT_EQ(0, StatusOf(server, [] { BecomeProgram(ProgramPath(), {"mask"}); }));
}

TEST(ExecTest, RelativePathAndAnotherDirectory) {
  TestServer server;
  const std::string program = ProgramPath();
  const pid_t pid = fork();
  if (pid == 0) {
    EXPECT_EQ(0, chdir(server.directory().c_str()));
    setenv("RUMP_SERVER", "unix://s", 1);
    EXPECT_EQ(0, rumpclient_init());
    EXPECT_EQ(0, chdir("/"));
    const pid_t child = rumpclient_fork();
    if (child == 0) BecomeProgram(program, {"pid", std::to_string(rump_sys_getpid())});
    ExpectGoodEnd(child);
    BecomeProgram(program, {"pid", std::to_string(rump_sys_getpid())});
  }
  ExpectGoodEnd(pid);
}

TEST(ExecTest, FailureLosesNothing) {
  TestServer server;
  RunProgram(server, [] {
    const pid_t pid = rump_sys_getpid();
    RumpPipe pipe;
    std::vector<std::thread> readers;
    for (int i = 0; i < 8; ++i) {
      readers.emplace_back([&] {
        char c;
        EXPECT_EQ(1, rump_sys_read(pipe.reader, &c, 1)) << strerror(errno);
      });
    }
    AwaitCallsInFlight(8);
    char* const argv[] = {const_cast<char*>("none"), nullptr};
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(-1, rumpclient_exec("/nonexistent", argv, environ));
      EXPECT_EQ(ENOENT, errno);
    }
    EXPECT_EQ(pid, rump_sys_getpid());
    EXPECT_EQ(8, rump_sys_write(pipe.writer, "12345678", 8));
    for (std::thread& reader : readers) reader.join();
    for (int fd = 900; fd < 1100; ++fd) {
      const int flags = fcntl(fd, F_GETFD);
      EXPECT_TRUE(flags == -1 || flags == FD_CLOEXEC) << fd;
    }
  });
}

TEST(ExecTest, WithoutAConnectionIsExecve) {
  TestServer server;
  const pid_t pid = fork();
  if (pid == 0) {
    char* const argv[] = {const_cast<char*>("true"), nullptr};
    char* const environment[] = {const_cast<char*>("RUMPCLIENT__EXECFD=7,0,0"), nullptr};
    rumpclient_exec("/bin/true", argv, environment);
    _exit(1);
  }
  ExpectGoodEnd(pid);
}

TEST(ExecTest, InAChildOfVfork) {
  TestServer server;
  RunProgram(server, [] {
    const std::string program = ProgramPath();
    RumpPipe pipe;
    const std::string reader = std::to_string(pipe.reader);
    const pid_t parent = rump_sys_getpid();
    const char* const argv[] = {"exec_program", "open", reader.c_str(), nullptr};
    const pid_t child = rumpclient_vfork();
    if (child == 0) {
      rumpclient_exec(program.c_str(), const_cast<char**>(argv), environ);
      _exit(9);
    }
    int status = -1;
    EXPECT_EQ(child, waitpid(child, &status, 0));
    EXPECT_EQ(0b1, WEXITSTATUS(status)) << "the descriptor is open in the new program";
    EXPECT_EQ(parent, rump_sys_getpid());
    EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
  });
}

// Runs exec_program in a child on its parent's memory. `fork` may be nullptr: it claims nothing.
int VforkAndOpen(struct rumpclient_fork* fork, int fd) {
  const std::string program = ProgramPath();
  const std::string number = std::to_string(fd);
  const char* const argv[] = {"exec_program", "open", number.c_str(), nullptr};
  const pid_t child = vfork();
  if (child == 0) {
    if (fork != nullptr && rumpclient_fork_init(fork) != 0) _exit(8);
    rumpclient_exec(program.c_str(), const_cast<char**>(argv), environ);
    _exit(9);
  }
  int status = -1;
  EXPECT_EQ(child, waitpid(child, &status, 0));
  return WEXITSTATUS(status);
}

TEST(ExecTest, InAChildOnItsParentsMemory) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe pipe;
    const pid_t parent = rump_sys_getpid();
    for (int i = 0; i < 2; ++i) {
      struct rumpclient_fork* const fork = rumpclient_prefork();
      ASSERT_NE(nullptr, fork);
      EXPECT_EQ(0b1, VforkAndOpen(fork, pipe.reader));
      rumpclient_fork_vparent(fork);
      free(fork);
      EXPECT_EQ(parent, rump_sys_getpid()) << strerror(errno);
    }
    char* const argv[] = {const_cast<char*>("none"), nullptr};
    EXPECT_EQ(-1, rumpclient_exec("/nonexistent", argv, environ));
    EXPECT_EQ(parent, rump_sys_getpid()) << strerror(errno);
  });
}

TEST(ExecTest, DoesNotTakeTheParentsConnectionAlong) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe pipe;
    const pid_t parent = rump_sys_getpid();
    EXPECT_EQ(0, VforkAndOpen(nullptr, pipe.reader)) << "the program is a new process";
    EXPECT_EQ(parent, rump_sys_getpid());
    EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
  });
}

constinit int handlers_report = -1;

// A handler's call has received the half of a frame that its thread, which is in the handler, does
// not read on. The new program finds the stream behind the frame.
TEST(ExecTest, FrameThatHasBegunIsReadToItsEnd) {
  SKIP_WITHOUT_PROMPT_HANDLERS();
  static constexpr int kPid = 5;
  int first_sent[2];
  ASSERT_EQ(0, pipe2(first_sent, O_CLOEXEC));
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto first = peer->ExpectRequest(FrameType::kSyscall);
    EXPECT_EQ(1, write(first_sent[1], "x", 1));
    const auto handlers = peer->ExpectRequest(FrameType::kSyscall);
    const std::string answer = SyscallAnswer(first.header.reqno, 0, 0);
    peer->Send(SyscallAnswer(handlers.header.reqno, 0, kPid) + answer.substr(0, answer.size() / 2));
    peer->Drain();
    peer->Send(answer.substr(answer.size() / 2));
    const auto exec = peer->ExpectRequest(FrameType::kHandshake);
    EXPECT_EQ(static_cast<uint32_t>(HandshakeKind::kExec), exec.header.u);
    peer->Send(HandshakeAnswer(exec.header.reqno, 0));
    peer->Answer(peer->ExpectRequest(FrameType::kSyscall), kPid);
    peer->ExpectEnd();
  });
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
    int report[2];
    EXPECT_EQ(0, pipe2(report, O_CLOEXEC));
    handlers_report = report[1];
    Handle(
        SIGUSR1,
        [](int) {
          if (rump_sys_getpid() == kPid) (void)!write(handlers_report, "x", 1);
          for (;;) pause();
        },
        SA_RESTART);
    std::thread first([] { rump_sys_getppid(); });
    char c;
    EXPECT_EQ(1, read(first_sent[0], &c, 1));
    EXPECT_EQ(0, pthread_kill(first.native_handle(), SIGUSR1));
    EXPECT_EQ(1, read(report[0], &c, 1));
    BecomeProgram(ProgramPath(), {"pid", std::to_string(kPid)});
  }
  ExpectGoodEnd(pid);
}

TEST(ExecTest, ForeignDescriptor) {
  TestServer server;
  RunBareProgram(server, [&] {
    setenv("RUMPCLIENT__EXECFD", "999,0,0", 1);
    setenv("RUMP__PARSEDSERVER", server.url().c_str(), 1);
    testing::internal::CaptureStderr();
    EXPECT_EQ(-1, rumpclient_init());
    EXPECT_EQ(EBADF, errno);
    EXPECT_NE(std::string::npos,
              testing::internal::GetCapturedStderr().find("RUMPCLIENT__EXECFD=999,0,0"));
    EXPECT_EQ(nullptr, getenv("RUMPCLIENT__EXECFD"));
    EXPECT_EQ(0, rumpclient_init()) << "the variable is gone";
  });
}

}  // namespace
}  // namespace rump::client
