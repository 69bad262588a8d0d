#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "protocol/frame.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/fake_server.h"
#include "tests/rumpclient/test_server.h"

namespace rump::client {
namespace {

void Put(int fd, char c) { EXPECT_EQ(1, rump_sys_write(fd, &c, 1)) << strerror(errno); }

char Get(int fd) {
  char c = 0;
  EXPECT_EQ(1, rump_sys_read(fd, &c, 1)) << strerror(errno);
  return c;
}

// Runs `child` in a child made by `fork_function`.
template <typename Function>
pid_t InChild(pid_t (*fork_function)(), Function child) {
  const pid_t pid = fork_function();
  EXPECT_GE(pid, 0) << strerror(errno);
  if (pid != 0) return pid;
  child();
  ExitWithResult();
}

class TransportTest : public testing::TestWithParam<Transport> {};

INSTANTIATE_TEST_SUITE_P(UnixAndTcp, TransportTest,
                         testing::Values(Transport::kUnix, Transport::kTcp));

TEST_P(TransportTest, ThreeGenerationsAndPipes) {
  TestServer server(GetParam());
  RunProgram(server, [] {
    const pid_t grandparent = rump_sys_getpid();
    RumpPipe up;
    RumpPipe down;
    const pid_t child = InChild(&rumpclient_fork, [&] {
      const pid_t parent = rump_sys_getpid();
      EXPECT_NE(grandparent, parent);
      EXPECT_EQ(grandparent, Call(SYS_getppid, {}));
      RumpPipe between;
      const pid_t grandchild = InChild(&rumpclient_fork, [&] {
        EXPECT_NE(parent, rump_sys_getpid());
        EXPECT_EQ(parent, Call(SYS_getppid, {}));
        EXPECT_EQ('a', Get(down.reader));
        Put(up.writer, 'c');
        Put(between.writer, 'd');
      });
      EXPECT_EQ('d', Get(between.reader));
      EXPECT_EQ(parent, rump_sys_getpid());
      ExpectGoodEnd(grandchild);
      EXPECT_EQ(0, rump_sys_close(up.writer)) << "the parent's is another one";
    });
    Put(down.writer, 'a');
    EXPECT_EQ('c', Get(up.reader));
    ExpectGoodEnd(child);
    EXPECT_EQ(grandparent, rump_sys_getpid());
    Put(up.writer, 'e');
    EXPECT_EQ('e', Get(up.reader));
  });
}

TEST(ForkTest, OfAProcessWithThreads) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe pipe;
    std::vector<std::thread> readers;
    for (int i = 0; i < 4; ++i) readers.emplace_back([&] { EXPECT_EQ('x', Get(pipe.reader)); });
    AwaitCallsInFlight(4);
    ExpectGoodEnd(InChild(&rumpclient_fork, [&] {
      for (int i = 0; i < 4; ++i) Put(pipe.writer, 'x');
    }));
    for (std::thread& reader : readers) reader.join();
  });
}

TEST(ForkTest, PlainForkLeavesTheConnectionToTheParent) {
  TestServer server;
  RunProgram(server, [] {
    const pid_t parent = rump_sys_getpid();
    ExpectGoodEnd(InChild(&fork, [&] {
      EXPECT_EQ(-1, rump_sys_getpid());
      EXPECT_EQ(ENOTCONN, errno);
      EXPECT_EQ(0, rumpclient_init());
      EXPECT_NE(parent, rump_sys_getpid());
    }));
    EXPECT_EQ(parent, rump_sys_getpid());
  });
}

TEST(ForkTest, WithoutAConnection) {
  TestServer server;
  RunBareProgram(server, [] {
    EXPECT_EQ(-1, rumpclient_fork());
    EXPECT_EQ(ENOTCONN, errno);
    EXPECT_EQ(-1, rumpclient_vfork());
    EXPECT_EQ(ENOTCONN, errno);
    EXPECT_EQ(nullptr, rumpclient_prefork());
    EXPECT_EQ(ENOTCONN, errno);
    EXPECT_EQ(-1, rumpclient_daemon(1, 1));
    EXPECT_EQ(ENOTCONN, errno);
  });
}

TEST(ForkTest, ChildThatTheServerRefusesEnds) {
  bool parents = true;
  FakeServer server(
      [&](FakePeer* peer) {
        if (std::exchange(parents, false)) {
          peer->Welcome();
          peer->GrantPrefork();
          return;
        }
        peer->Send(kLinuxBanner);
        const auto fork = peer->ExpectRequest(FrameType::kHandshake);
        peer->Send(Frame(FrameClass::kError, FrameType::kHandshake, fork.header.reqno,
                         static_cast<uint32_t>(WireError::kInvalidPrefork), ""));
        peer->ExpectEnd();
      },
      2);
  const pid_t program = fork();
  if (program == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
    testing::internal::CaptureStderr();
    const pid_t child = InChild(&rumpclient_fork, [] {});
    int status = -1;
    EXPECT_EQ(child, waitpid(child, &status, 0));
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(1, WEXITSTATUS(status));
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(std::string::npos, said.find("got no process in the server")) << said;
    ExitWithResult();
  }
  ExpectGoodEnd(program);
}

// What the server leaves undone must not keep a program from being ended.
class StallTest : public testing::TestWithParam<bool> {};

INSTANTIATE_TEST_SUITE_P(ClaimAndCancel, StallTest, testing::Bool());

TEST_P(StallTest, HandshakeCanBeEnded) {
  constexpr uint64_t kNobodys = ~uint64_t{0};
  int pids[2];
  ASSERT_EQ(0, pipe2(pids, O_CLOEXEC));
  bool parents = true;
  FakeServer server(
      [&](FakePeer* peer) {
        if (std::exchange(parents, false)) {
          peer->Welcome();
          peer->GrantPrefork();
          return;
        }
        peer->Send(kLinuxBanner);
        peer->ExpectRequest(FrameType::kHandshake);
        pid_t pid = -1;
        EXPECT_EQ(sizeof pid, read(pids[0], &pid, sizeof pid));
        EXPECT_EQ(0, kill(pid, SIGTERM));
        while (peer->Send(HandshakeAnswer(kNobodys, 0))) usleep(5000);
      },
      2);
  const pid_t program = fork();
  if (program == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
    struct rumpclient_fork* const fork = rumpclient_prefork();
    EXPECT_NE(nullptr, fork);
    const pid_t child = InChild(&::fork, [&] {
      const pid_t self = getpid();
      EXPECT_EQ(sizeof self, write(pids[1], &self, sizeof self));
      if (GetParam()) {
        rumpclient_fork_init(fork);
      } else {
        rumpclient_fork_cancel(fork);
      }
    });
    int status = -1;
    EXPECT_EQ(child, waitpid(child, &status, 0));
    EXPECT_TRUE(WIFSIGNALED(status)) << status;
    EXPECT_EQ(SIGTERM, WTERMSIG(status));
    ExitWithResult();
  }
  ExpectGoodEnd(program);
}

TEST(PreforkTest, ParentItselfIsBusy) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe pipe;
    struct rumpclient_fork* const fork = rumpclient_prefork();
    ASSERT_NE(nullptr, fork);
    std::thread reader([&] { EXPECT_EQ('x', Get(pipe.reader)); });
    AwaitCallsInFlight(1);
    EXPECT_EQ(-1, rumpclient_fork_init(fork));
    EXPECT_EQ(EBUSY, errno);
    Put(pipe.writer, 'x');
    reader.join();
    const pid_t before = rump_sys_getpid();
    EXPECT_EQ(0, rumpclient_fork_init(fork)) << "nobody else makes calls";
    EXPECT_NE(before, rump_sys_getpid());
    free(fork);
  });
}

// From now on the host refuses to fork.
void RefuseForks() {
  constexpr uint32_t kNumber = offsetof(seccomp_data, nr);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fork, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
  };
  const sock_fprog program = {sizeof filter / sizeof filter[0], filter};
  ASSERT_EQ(0, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  ASSERT_EQ(0, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) << strerror(errno);
}

TEST(ForkTest, HostsRefusalDropsTheCopy) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe pipe;
    const int processes = CountProcesses();
    RefuseForks();
    EXPECT_EQ(-1, rumpclient_fork());
    EXPECT_EQ(EAGAIN, errno);
    EXPECT_EQ(processes, CountProcesses());
    EXPECT_EQ(-1, rumpclient_vfork());
    EXPECT_EQ(EAGAIN, errno);
    EXPECT_EQ(processes, CountProcesses());
    EXPECT_EQ(-1, rumpclient_daemon(1, 1));
    EXPECT_EQ(EAGAIN, errno);
    EXPECT_EQ(processes, CountProcesses());
    Put(pipe.writer, 'x');
    EXPECT_EQ('x', Get(pipe.reader));
  });
}

TEST(PreforkTest, CopiesAtThatMoment) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe before;
    struct rumpclient_fork* const fork = rumpclient_prefork();
    ASSERT_NE(nullptr, fork);
    EXPECT_EQ(0, rump_sys_close(before.writer));
    RumpPipe after;
    ExpectGoodEnd(InChild(&::fork, [&] {
      ASSERT_EQ(0, rumpclient_fork_init(fork));
      EXPECT_EQ(1, rump_sys_write(before.writer, "x", 1));
    }));
    EXPECT_EQ('x', Get(before.reader));
    free(fork);
  });
}

TEST(PreforkTest, ReusedCookie) {
  TestServer server;
  RunProgram(server, [] {
    struct rumpclient_fork* const fork = rumpclient_prefork();
    ASSERT_NE(nullptr, fork);
    ExpectGoodEnd(InChild(&::fork, [&] {
      EXPECT_EQ(0, rumpclient_fork_init(fork));
      const pid_t pid = rump_sys_getpid();
      EXPECT_EQ(-1, rumpclient_fork_init(fork));
      EXPECT_EQ(ESRCH, errno);
      EXPECT_EQ(pid, rump_sys_getpid()) << "what it was, it still is";
    }));
    ExpectGoodEnd(InChild(&::fork, [&] {
      EXPECT_EQ(-1, rumpclient_fork_init(fork));
      EXPECT_EQ(ESRCH, errno);
      EXPECT_EQ(-1, rump_sys_getpid());
      EXPECT_EQ(ENOTCONN, errno);
    }));
    free(fork);
  });
}

TEST(PreforkTest, ForgedCookie) {
  TestServer server;
  RunProgram(server, [] {
    struct rumpclient_fork* const fork = rumpclient_prefork();
    ASSERT_NE(nullptr, fork);
    reinterpret_cast<unsigned char*>(fork)[sizeof(PreforkCookie) - 1] ^= 1;
    ExpectGoodEnd(InChild(&::fork, [&] {
      EXPECT_EQ(-1, rumpclient_fork_init(fork));
      EXPECT_EQ(ESRCH, errno);
    }));
    free(fork);
  });
}

TEST(PreforkTest, CancelDropsTheCopy) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe pipe;
    const int processes = CountProcesses();
    struct rumpclient_fork* const fork = rumpclient_prefork();
    ASSERT_NE(nullptr, fork);
    EXPECT_EQ(processes + 1, CountProcesses());
    EXPECT_EQ(0, rump_sys_close(pipe.writer));
    unsigned char copy[sizeof(PreforkCookie)];
    memcpy(copy, fork, sizeof copy);
    rumpclient_fork_cancel(fork);
    char c;
    EXPECT_EQ(0, rump_sys_read(pipe.reader, &c, 1)) << "the copy's write end is closed";
    EXPECT_EQ(processes, CountProcesses());
    ExpectGoodEnd(InChild(&::fork, [&] {
      EXPECT_EQ(-1, rumpclient_fork_init(reinterpret_cast<struct rumpclient_fork*>(copy)));
      EXPECT_EQ(ESRCH, errno);
    }));
  });
}

TEST(PreforkTest, ParentsDeathLosesNothing) {
  TestServer server;
  int gone[2];
  int result[2];
  ASSERT_EQ(0, pipe2(gone, O_CLOEXEC));
  ASSERT_EQ(0, pipe2(result, O_CLOEXEC));
  RunProgram(server, [&] {
    RumpPipe pipe;
    Put(pipe.writer, 'p');
    struct rumpclient_fork* const fork = rumpclient_prefork();
    ASSERT_NE(nullptr, fork);
    InChild(&::fork, [&] {
      close(gone[1]);
      char c;
      EXPECT_EQ(0, read(gone[0], &c, 1)) << "the parent, and the test, have closed theirs";
      EXPECT_EQ(0, rumpclient_fork_init(fork)) << strerror(errno);
      EXPECT_EQ('p', Get(pipe.reader));
      EXPECT_EQ(testing::Test::HasFailure() ? 0 : 1,
                write(result[1], "g", !testing::Test::HasFailure()));
    });
  });
  close(gone[1]);
  close(result[1]);
  char c = 0;
  EXPECT_EQ(1, read(result[0], &c, 1));
  EXPECT_EQ('g', c);
  close(gone[0]);
  close(result[0]);
}

TEST(VforkTest, ParentWaitsAndIsIntact) {
  TestServer server;
  RunProgram(server, [] {
    const pid_t parent = rump_sys_getpid();
    RumpPipe pipe;
    int last_word[2];
    ASSERT_EQ(0, pipe2(last_word, O_NONBLOCK));
    const pid_t child = rumpclient_vfork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const pid_t pid = rump_sys_getpid();
      if (pid == parent || rump_sys_write(pipe.writer, &pid, sizeof pid) != sizeof pid) _exit(1);
      if (rump_sys_close(pipe.reader) != 0) _exit(2);
      _exit(write(last_word[1], "x", 1) == 1 ? 0 : 3);
    }
    char c;
    EXPECT_EQ(1, read(last_word[0], &c, 1)) << "the child ends before its parent goes on";
    pid_t said = 0;
    EXPECT_EQ(sizeof said, rump_sys_read(pipe.reader, &said, sizeof said));
    ExpectGoodEnd(child);
    EXPECT_NE(parent, said);
    EXPECT_EQ(parent, rump_sys_getpid());
  });
}

// A child on its parent's memory, while other threads of the parent use it.
TEST(VforkTest, OnTheParentsMemory) {
  TestServer server;
  RunProgram(server, [] {
    const pid_t parent = rump_sys_getpid();
    RumpPipe pipe;
    RumpPipe stop;
    std::thread blocked([&] { EXPECT_EQ('s', Get(stop.reader)); });
    AwaitCallsInFlight(1);
    struct rumpclient_fork* const fork = rumpclient_prefork();
    ASSERT_NE(nullptr, fork);
    const pid_t child = vfork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      if (rumpclient_fork_init(fork) != 0) _exit(1);
      const pid_t pid = rump_sys_getpid();
      if (pid == parent || rump_sys_write(pipe.writer, &pid, sizeof pid) != sizeof pid) _exit(2);
      _exit(0);
    }
    rumpclient_fork_vparent(fork);
    free(fork);
    ExpectGoodEnd(child);
    pid_t said = 0;
    EXPECT_EQ(sizeof said, rump_sys_read(pipe.reader, &said, sizeof said));
    EXPECT_NE(parent, said);
    EXPECT_EQ(parent, rump_sys_getpid());
    Put(stop.writer, 's');
    blocked.join();
  });
}

// There is room for one child on its parent's memory at a time.
TEST(VforkTest, SecondChildOnTheParentsMemoryIsRefused) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "its runtime makes a fork of a vfork";
#endif
  static constexpr int kRefused = 3;
  TestServer server;
  RunProgram(server, [] {
    const pid_t parent = rump_sys_getpid();
    int claimed[2];
    int go_on[2];
    ASSERT_EQ(0, pipe2(claimed, O_CLOEXEC));
    ASSERT_EQ(0, pipe2(go_on, O_CLOEXEC));
    struct rumpclient_fork* const forks[] = {rumpclient_prefork(), rumpclient_prefork()};
    std::thread first([&] {
      const pid_t child = vfork();
      if (child == 0) {
        char c;
        if (rumpclient_fork_init(forks[0]) != 0 || write(claimed[1], "x", 1) != 1) _exit(1);
        if (read(go_on[0], &c, 1) != 1) _exit(2);
        _exit(rump_sys_getpid() > 0 ? 0 : 4);
      }
      rumpclient_fork_vparent(forks[0]);
      ExpectGoodEnd(child);
    });
    char c;
    EXPECT_EQ(1, read(claimed[0], &c, 1));
    const pid_t second = vfork();
    if (second == 0) {
      _exit(rumpclient_fork_init(forks[1]) == -1 && errno == EBUSY ? kRefused : 1);
    }
    rumpclient_fork_vparent(forks[1]);
    int status = -1;
    EXPECT_EQ(second, waitpid(second, &status, 0));
    EXPECT_EQ(kRefused, WEXITSTATUS(status));
    EXPECT_EQ(1, write(go_on[1], "x", 1));
    first.join();
    EXPECT_EQ(parent, rump_sys_getpid());
    for (struct rumpclient_fork* const fork : forks) free(fork);
  });
}

// Nor does it make room for a child of its own, or become another process.
TEST(VforkTest, ChildOnTheParentsMemoryKeepsItsProcess) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "its runtime makes a fork of a vfork";
#endif
  TestServer server;
  RunProgram(server, [] {
    const pid_t parent = rump_sys_getpid();
    struct rumpclient_fork* const fork = rumpclient_prefork();
    struct rumpclient_fork* const other = rumpclient_prefork();
    const pid_t child = vfork();
    if (child == 0) {
      if (rumpclient_fork_init(fork) != 0) _exit(1);
      const pid_t pid = rump_sys_getpid();
      if (rumpclient_fork_init(other) != -1 || errno != EBUSY) _exit(2);
      _exit(pid != parent && rump_sys_getpid() == pid ? 0 : 3);
    }
    rumpclient_fork_vparent(fork);
    ExpectGoodEnd(child);
    EXPECT_EQ(parent, rump_sys_getpid());
    free(fork);
    free(other);
  });
}

class DaemonTest : public testing::TestWithParam<bool> {};

INSTANTIATE_TEST_SUITE_P(Noclose, DaemonTest, testing::Bool());

TEST_P(DaemonTest, IsTheSameToTheServer) {
  TestServer server;
  int result[2];
  ASSERT_EQ(0, pipe2(result, O_CLOEXEC));
  RunProgram(server, [&] {
    RumpPipe pipe;
    Put(pipe.writer, 'd');
    const pid_t before = getpid();
    const bool keeps_output = GetParam();
    struct stat null = {};
    struct stat output = {};
    ASSERT_EQ(0, stat("/dev/null", &null));
    const int file = memfd_create("output", 0);
    for (int fd = 0; fd <= 2; ++fd) dup2(file, fd);
    ASSERT_EQ(0, rumpclient_daemon(0, keeps_output)) << strerror(errno);
    for (int fd = 0; fd <= 2; ++fd) {
      EXPECT_EQ(0, fstat(fd, &output));
      EXPECT_EQ(!keeps_output, output.st_rdev == null.st_rdev);
    }
    EXPECT_NE(before, getpid());
    EXPECT_EQ(getpid(), getsid(0));
    char directory[8] = "";
    EXPECT_STREQ("/", getcwd(directory, sizeof directory));
    EXPECT_EQ('d', Get(pipe.reader));
    EXPECT_EQ(testing::Test::HasFailure() ? 0 : 1,
              write(result[1], "g", !testing::Test::HasFailure()));
  });
  close(result[1]);
  char c = 0;
  EXPECT_EQ(1, read(result[0], &c, 1));
  EXPECT_EQ('g', c);
  close(result[0]);
}

}  // namespace
}  // namespace rump::client
