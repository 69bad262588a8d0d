// Sockets in children, by every way in which a process can be made, and after every kind of exec.
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/behavior/process_sockets.h"
#include "tests/behavior/sockets.h"

extern char** environ;

namespace rump {
namespace {

// The parent's side of ProcessSockets.
class Peers {
 public:
  Peers() : streams_(TcpPair()), listener_(Listen()), datagrams_(UdpPair()) {
    client_ = Connect(PortOf(listener_));
    EXPECT_EQ(send(datagrams_.first.get(), "question", 8, 0), 8);
    sockets_ = {streams_.second.get(), listener_.get(), datagrams_.second.get()};
  }

  const ProcessSockets& sockets() const { return sockets_; }

  void ExpectUsed() {
    EXPECT_EQ(ReadExactly(streams_.first.get(), 6), "stream");
    EXPECT_EQ(ReadExactly(client_.get(), 100), "accepted");
    char buffer[16];
    EXPECT_EQ(recv(datagrams_.first.get(), buffer, sizeof buffer, 0), 6);
    // What the child has closed is its own.
    EXPECT_EQ(WriteAll(streams_.second.get(), "x"), true);
    EXPECT_EQ(ReadExactly(streams_.first.get(), 1), "x");
  }

 private:
  std::pair<Fd, Fd> streams_;
  Fd listener_;
  std::pair<Fd, Fd> datagrams_;
  Fd client_;
  ProcessSockets sockets_;
};

int StatusOf(pid_t pid) {
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// The program to exec.
std::string ProgramPath() {
  char directory[4096];
  EXPECT_NE(getcwd(directory, sizeof directory), nullptr);
  return std::string(directory) + "/tests/behavior/process_program";
}

// Arguments of the program for these sockets.
class Arguments {
 public:
  explicit Arguments(const ProcessSockets& sockets) : path(ProgramPath()) {
    texts_ = {path, std::to_string(sockets.stream), std::to_string(sockets.listener),
              std::to_string(sockets.datagram)};
    for (std::string& text : texts_) argv.push_back(text.data());
    argv.push_back(nullptr);
  }
  std::string Command() const {
    return texts_[0] + " " + texts_[1] + " " + texts_[2] + " " + texts_[3];
  }

  const std::string path;
  std::vector<char*> argv;

 private:
  std::vector<std::string> texts_;
};

pid_t RawClone(uint64_t flags) {
  return static_cast<pid_t>(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));
}

pid_t RawClone3() {
  clone_args args{};
  args.exit_signal = SIGCHLD;
  return static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
}

void ExpectUsableAfter(const std::function<pid_t()>& make) {
  for (int round = 0; round < 2; ++round) {
    Peers peers;
    const pid_t pid = make();
    if (pid == 0) _exit(UseSockets(peers.sockets()));
    ASSERT_GT(pid, 0);
    EXPECT_EQ(StatusOf(pid), 0);
    peers.ExpectUsed();
  }
}

TEST(Processes, Fork) { ExpectUsableAfter(fork); }
TEST(Processes, PlainFork) { ExpectUsableAfter(_Fork); }
TEST(Processes, ForkAsASystemCall) {
  ExpectUsableAfter([] { return static_cast<pid_t>(syscall(SYS_fork)); });
}
TEST(Processes, CloneAsASystemCall) {
  ExpectUsableAfter([] { return RawClone(0); });
}
TEST(Processes, Clone3AsASystemCall) { ExpectUsableAfter(RawClone3); }

TEST(Processes, CloneOnAStackOfItsOwn) {
  Peers peers;
  std::vector<char> stack(256 * 1024);
  const auto child = [](void* sockets) {
    return UseSockets(*static_cast<const ProcessSockets*>(sockets));
  };
  const pid_t pid = clone(child, stack.data() + stack.size(), SIGCHLD,
                          const_cast<ProcessSockets*>(&peers.sockets()));
  ASSERT_GT(pid, 0);
  EXPECT_EQ(StatusOf(pid), 0);
  peers.ExpectUsed();
}

TEST(Processes, AChildOfAChild) {
  Peers peers;
  const pid_t pid = fork();
  if (pid == 0) {
    const pid_t grandchild = _Fork();
    if (grandchild == 0) {
      const pid_t last = fork();
      if (last == 0) _exit(UseSockets(peers.sockets()));
      _exit(StatusOf(last));
    }
    _exit(StatusOf(grandchild));
  }
  EXPECT_EQ(StatusOf(pid), 0);
  peers.ExpectUsed();
}

TEST(Processes, Daemon) {
  Peers peers;
  int status[2];
  ASSERT_EQ(pipe(status), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    if (daemon(1, 1) != 0) _exit(100);
    const char step = static_cast<char>(UseSockets(peers.sockets()));
    _exit(write(status[1], &step, 1) == 1 ? 0 : 1);
  }
  EXPECT_EQ(StatusOf(pid), 0);
  EXPECT_EQ(ReadExactly(status[0], 1), std::string(1, '\0'));
  peers.ExpectUsed();
  close(status[0]);
  close(status[1]);
}

// `exec` replaces the child, which `make` makes.
void ExpectUsableAfterExec(const std::function<pid_t()>& make,
                           const std::function<void(const Arguments&)>& exec) {
  Peers peers;
  const Arguments arguments(peers.sockets());
  const pid_t pid = make();
  if (pid == 0) {
    exec(arguments);
    _exit(101);
  }
  ASSERT_GT(pid, 0);
  EXPECT_EQ(StatusOf(pid), 0);
  peers.ExpectUsed();
}

void Execve(const Arguments& a) { execve(a.path.c_str(), a.argv.data(), environ); }

TEST(Exec, AfterEachKindOfFork) {
  ExpectUsableAfterExec(fork, Execve);
  ExpectUsableAfterExec(_Fork, Execve);
  ExpectUsableAfterExec([] { return RawClone(0); }, Execve);
}

TEST(Exec, AfterVfork) {
  Peers peers;
  const Arguments a(peers.sockets());
  const pid_t pid = vfork();
  if (pid == 0) {
    execve(a.path.c_str(), a.argv.data(), environ);
    _exit(101);
  }
  EXPECT_EQ(StatusOf(pid), 0);
  peers.ExpectUsed();
}

TEST(Exec, EachForm) {
  using Form = std::function<void(const Arguments&)>;
  const auto directory = [](const Arguments& a) { return a.path.substr(0, a.path.rfind('/')); };
  const Form forms[] = {
      [](const Arguments& a) { execv(a.path.c_str(), a.argv.data()); },
      [](const Arguments& a) {
        execl(a.path.c_str(), a.argv[0], a.argv[1], a.argv[2], a.argv[3], nullptr);
      },
      [](const Arguments& a) {
        execle(a.path.c_str(), a.argv[0], a.argv[1], a.argv[2], a.argv[3], nullptr, environ);
      },
      [&](const Arguments& a) {
        setenv("PATH", directory(a).c_str(), 1);
        execlp("process_program", a.argv[0], a.argv[1], a.argv[2], a.argv[3], nullptr);
      },
      [&](const Arguments& a) {
        setenv("PATH", directory(a).c_str(), 1);
        execvp("process_program", a.argv.data());
      },
      [&](const Arguments& a) {
        setenv("PATH", directory(a).c_str(), 1);
        execvpe("process_program", a.argv.data(), environ);
      },
      [](const Arguments& a) {
        fexecve(open(a.path.c_str(), O_PATH | O_CLOEXEC), a.argv.data(), environ);
      },
      [](const Arguments& a) { execveat(AT_FDCWD, a.path.c_str(), a.argv.data(), environ, 0); },
      [](const Arguments& a) { syscall(SYS_execve, a.path.c_str(), a.argv.data(), environ); },
  };
  for (const Form& form : forms) ExpectUsableAfterExec(fork, form);
}

TEST(Exec, OneThatFailsLeavesTheSocketsUsable) {
  ExpectUsableAfter([] {
    const pid_t pid = fork();
    char* const argv[] = {const_cast<char*>("x"), nullptr};
    if (pid == 0) execve("/no/such/program", argv, environ);
    return pid;
  });
}

TEST(Exec, EnvironmentsThatAreNone) {
  const auto bad = [](uintptr_t address) { return reinterpret_cast<char*>(address); };
  const Fd socket_of_the_process(socket(AF_INET, SOCK_STREAM, 0));
  const std::string path = ProgramPath();
  char* const argv[] = {const_cast<char*>("x"), nullptr};
  char* const bad_string[] = {bad(16), nullptr};
  for (char* const* environment :
       {static_cast<char* const*>(bad_string), reinterpret_cast<char* const*>(bad(16))}) {
    const pid_t pid = fork();
    if (pid == 0) {
      const Fd own(socket(AF_INET, SOCK_STREAM, 0));
      _exit(execve(path.c_str(), argv, environment) == -1 && errno == EFAULT &&
                    listen(own.get(), 1) == 0
                ? 0
                : 1);
    }
    EXPECT_EQ(StatusOf(pid), 0);
  }
}

TEST(Exec, Twice) {
  ExpectUsableAfterExec(fork, [](const Arguments& a) {
    const std::string command = "exec " + a.Command();
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
  });
}

TEST(Spawn, WithFileActions) {
  for (const auto spawn : {posix_spawn, posix_spawnp}) {
    Peers peers;
    const Arguments a({60, 61, 62});
    const ProcessSockets& sockets = peers.sockets();
    posix_spawn_file_actions_t actions;
    ASSERT_EQ(posix_spawn_file_actions_init(&actions), 0);
    posix_spawn_file_actions_adddup2(&actions, sockets.stream, 60);
    posix_spawn_file_actions_adddup2(&actions, sockets.listener, 61);
    posix_spawn_file_actions_adddup2(&actions, sockets.datagram, 62);
    posix_spawn_file_actions_addclose(&actions, sockets.stream);
    posix_spawn_file_actions_addclosefrom_np(&actions, 63);
    pid_t pid = -1;
    EXPECT_EQ(spawn(&pid, a.path.c_str(), &actions, nullptr, a.argv.data(), environ), 0);
    EXPECT_EQ(StatusOf(pid), 0);
    peers.ExpectUsed();
    posix_spawn_file_actions_destroy(&actions);
  }
}

TEST(Spawn, BySystem) {
  Peers peers;
  EXPECT_EQ(system(Arguments(peers.sockets()).Command().c_str()), 0);
  peers.ExpectUsed();
}

TEST(Spawn, ByPopen) {
  Peers peers;
  FILE* const pipe = popen(Arguments(peers.sockets()).Command().c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  EXPECT_EQ(pclose(pipe), 0);
  peers.ExpectUsed();
}

volatile sig_atomic_t forked = 0;
volatile sig_atomic_t failed = 0;

// An exec that fails has the process's connection for a moment, of which a child knows nothing.
TEST(Exec, AChildOfAHandlerInTheMiddle) {
  const Fd listener = Listen();
  forked = 0;
  failed = 0;
  struct sigaction action = {};
  action.sa_handler = [](int) {
    const pid_t pid = fork();
    if (pid == 0) _exit(socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1);
    int status = -1;
    if (waitpid(pid, &status, 0) != pid || status != 0) failed = failed + 1;
    forked = forked + 1;
  };
  struct sigaction before = {};
  ASSERT_EQ(sigaction(SIGALRM, &action, &before), 0);
  char* const argv[] = {nullptr};
  constexpr int kChildren = 20;
  while (forked < kChildren) {
    const int seen = forked;
    constexpr itimerval kSoon = {.it_interval = {}, .it_value = {.tv_sec = 0, .tv_usec = 100}};
    ASSERT_EQ(setitimer(ITIMER_REAL, &kSoon, nullptr), 0);
    while (forked == seen) EXPECT_EQ(execve("/nowhere", argv, environ), -1);
  }
  EXPECT_EQ(failed, 0);
  ASSERT_EQ(sigaction(SIGALRM, &before, nullptr), 0);
}

// A first use in a child on this memory must teach the parent nothing wrong.
TEST(Spawn, ByAChildThatHasUsedNothing) {
  Peers peers;
  const Arguments a(peers.sockets());
  const pid_t pid = RawClone(0);
  if (pid == 0) {
    pid_t grandchild = -1;
    if (posix_spawn(&grandchild, a.path.c_str(), nullptr, nullptr, a.argv.data(), environ) != 0) {
      _exit(102);
    }
    const int status = StatusOf(grandchild);
    const Fd own(socket(AF_INET, SOCK_STREAM, 0));
    _exit(status != 0 ? status : listen(own.get(), 1) == 0 ? 0 : 103);
  }
  EXPECT_EQ(StatusOf(pid), 0);
  peers.ExpectUsed();
}

}  // namespace
}  // namespace rump
