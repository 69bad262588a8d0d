// Programs that give up what they could do, and go on with their sockets.
#include <sys/resource.h>
#include <sys/wait.h>

#include <functional>

#include "tests/behavior/process_sockets.h"
#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// Sockets that the process has used before, with something to be read.
class Sockets {
 public:
  Sockets() : streams_(TcpPair()), listener_(Listen()), datagrams_(UdpPair()) {
    client_ = Connect(PortOf(listener_));
    EXPECT_EQ(send(datagrams_.first.get(), "question", 8, 0), 8);
  }
  // 0, or the step that failed.
  int Use() {
    const int step = UseSockets({streams_.second.get(), listener_.get(), datagrams_.second.get()});
    if (step != 0) return step;
    if (ReadExactly(streams_.first.get(), 6) != "stream") return 20;
    if (ReadExactly(client_.get(), 100) != "accepted") return 21;
    return ReadExactly(datagrams_.first.get(), 6) == "answer" ? 0 : 22;
  }
  const std::pair<Fd, Fd>& streams() const { return streams_; }

 private:
  std::pair<Fd, Fd> streams_;
  Fd listener_;
  std::pair<Fd, Fd> datagrams_;
  Fd client_;
};

int StatusOf(pid_t pid) {
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// What becomes of sockets in a child that calls `give_up`.
int UseAfter(const std::function<bool()>& give_up) {
  const pid_t pid = fork();
  if (pid == 0) {
    Sockets sockets;
    _exit(give_up() ? sockets.Use() : 30);
  }
  return StatusOf(pid);
}

TEST(Privilege, AnotherRootDirectory) {
  EXPECT_EQ(UseAfter([] { return chroot("/proc/self/fdinfo") == 0 && chdir("/") == 0; }), 0);
}

TEST(Privilege, AnotherRootDirectoryAndThenAChild) {
  const pid_t pid = fork();
  if (pid == 0) {
    const Fd made(socket(AF_INET, SOCK_STREAM, 0));
    if (chroot("/proc/self/fdinfo") != 0 || chdir("/") != 0) _exit(30);
    const pid_t child = fork();
    if (child == 0) {
      Sockets sockets;
      _exit(sockets.Use());
    }
    _exit(StatusOf(child));
  }
  EXPECT_EQ(StatusOf(pid), 0);
}

TEST(Privilege, AnotherDirectoryThatIsGone) {
  EXPECT_EQ(UseAfter([] {
              char path[] = "/tmp/rhXXXXXX";
              return mkdtemp(path) != nullptr && chdir(path) == 0 && rmdir(path) == 0;
            }),
            0);
}

TEST(Privilege, AnotherUser) {
  constexpr uid_t kNobody = 65534;
  if (const pid_t pid = fork(); pid == 0) {
    _exit(setresuid(kNobody, kNobody, kNobody) == 0 ? 0 : 1);
  } else if (StatusOf(pid) != 0) {
    GTEST_SKIP() << "there is no other user in this user namespace";
  }
  EXPECT_EQ(UseAfter([] { return setresuid(kNobody, kNobody, kNobody) == 0; }), 0);
}

TEST(Privilege, NoProcesses) {
  const rlimit none = {0, 0};
  EXPECT_EQ(UseAfter([&] { return setrlimit(RLIMIT_NPROC, &none) == 0; }), 0);
}

TEST(Privilege, NoDescriptors) {
  const pid_t pid = fork();
  if (pid == 0) {
    Sockets sockets;
    const auto& [client, server] = sockets.streams();
    const rlimit one = {1, 1};
    if (setrlimit(RLIMIT_NOFILE, &one) != 0) _exit(1);
    for (int i = 0; i < 100; ++i) {
      if (socket(AF_INET, SOCK_STREAM, 0) != -1 || errno != EMFILE) _exit(2);
      if (dup(client.get()) != -1 || errno != EMFILE) _exit(3);
    }
    if (!WriteAll(client.get(), "x") || ReadExactly(server.get(), 1) != "x") _exit(4);
    if (PollFor(client.get(), POLLIN | POLLOUT, 0) != POLLOUT) _exit(5);
    _exit(PortOf(client) != 0 ? 0 : 6);
  }
  EXPECT_EQ(StatusOf(pid), 0);
}

}  // namespace
}  // namespace rump
