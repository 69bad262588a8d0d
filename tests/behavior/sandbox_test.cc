// Programs that take system calls away from themselves, and go on with what they have open.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <functional>
#include <initializer_list>
#include <vector>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

constexpr sock_filter Load(uint32_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset); }
constexpr sock_filter Answer(uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
constexpr sock_filter IfIs(uint32_t number, uint8_t skip) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, skip, 0);
}

// Gives `listed` system calls one answer, the others another.
class Filter {
 public:
  Filter(std::initializer_list<int> listed, uint32_t answer, uint32_t otherwise) {
    code_.push_back(Load(offsetof(seccomp_data, nr)));
    size_t left = listed.size();
    for (const int number : listed) {
      code_.push_back(IfIs(static_cast<uint32_t>(number), static_cast<uint8_t>(left--)));
    }
    code_.push_back(Answer(otherwise));
    code_.push_back(Answer(answer));
  }

  bool InstallByPrctl() {
    const sock_fprog program = this->program();
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
  }
  bool InstallBySyscall() {
    const sock_fprog program = this->program();
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
  }

 private:
  sock_fprog program() {
    return {.len = static_cast<unsigned short>(code_.size()), .filter = code_.data()};
  }

  std::vector<sock_filter> code_;
};

// As that of sshd: little more than moving bytes.
Filter Strict() {
  return Filter({SYS_read, SYS_write, SYS_close, SYS_poll, SYS_getpid, SYS_shutdown, SYS_exit_group,
                 SYS_mmap, SYS_munmap, SYS_brk},
                SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
}

// The wait status of a child that runs `program` and exits with what it returns.
int InChild(const std::function<int()>& program) {
  const pid_t pid = fork();
  if (pid == 0) _exit(program());
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

// Bytes through everything that was open before; what was never open may be closed.
int UseWhatIsOpen(int connection, const int (&pipe_ends)[2], const int (&pair)[2]) {
  char data[5];
  if (read(connection, data, 4) != 4 || write(connection, "pong", 4) != 4) return 1;
  if (write(pipe_ends[1], "a", 1) != 1 || read(pipe_ends[0], data, 1) != 1) return 2;
  if (write(pair[0], "b", 1) != 1 || read(pair[1], data, 1) != 1) return 3;
  if (close(900) != -1 || errno != EBADF) return 4;
  for (const int fd : {pipe_ends[0], pipe_ends[1], pair[0], pair[1]}) {
    if (close(fd) != 0) return 5;
  }
  return shutdown(connection, SHUT_RDWR) == 0 && close(connection) == 0 ? 0 : 6;
}

TEST(Sandbox, WhatIsOpenWorksOn) {
  const auto connection_ends = TcpPair();
  const Fd& client = connection_ends.first;
  const Fd& server = connection_ends.second;
  ASSERT_EQ(write(client.get(), "ping", 4), 4);
  const Fd datagram(socket(AF_INET, SOCK_DGRAM, 0));
  EXPECT_EQ(InChild([&] {
              // Numbers that meant something else before.
              const int connection = dup(server.get());
              close(server.get());
              int pipe_ends[2];
              int pair[2];
              if (pipe(pipe_ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 7;
              const rlimit nothing_new = {1, 1};
              if (setrlimit(RLIMIT_NOFILE, &nothing_new) != 0) return 8;
              if (!Strict().InstallByPrctl()) return 9;
              return UseWhatIsOpen(connection, pipe_ends, pair);
            }),
            0);
  EXPECT_EQ(ReadExactly(client.get(), 4), "pong");
}

TEST(Sandbox, AFilterCanComeBySyscall) {
  const auto connection_ends = TcpPair();
  const Fd& client = connection_ends.first;
  const Fd& server = connection_ends.second;
  EXPECT_EQ(InChild([&] {
              int pair[2];
              if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 7;
              if (!Strict().InstallBySyscall()) return 9;
              return write(pair[0], "b", 1) == 1 && write(server.get(), "x", 1) == 1 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(ReadExactly(client.get(), 1), "x");
}

TEST(Sandbox, WhatTheFilterForbidsIsForbidden) {
  const int status = InChild([] { return Strict().InstallByPrctl() ? dup(2) : 1; });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << status;
}

// What the library would ask about descriptors, names and interfaces is not asked either.
TEST(Sandbox, WhatIsAllowedAndConcernsTheLibrary) {
  EXPECT_EQ(InChild([] {
              const int local = socket(AF_UNIX, SOCK_DGRAM, 0);
              Filter filter(
                  {SYS_dup, SYS_fcntl, SYS_pipe, SYS_pipe2, SYS_openat, SYS_ioctl, SYS_exit_group},
                  SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
              if (!filter.InstallByPrctl()) return 9;
              int ends[2];
              if (pipe(ends) != 0 || dup(ends[0]) < 0) return 1;
              if (fcntl(ends[1], F_DUPFD_CLOEXEC, 0) < 0) return 2;
              if (open("/etc/resolv.conf", O_RDONLY) < 0 && errno != ENOENT) return 3;
              ifreq loopback = {.ifr_ifrn = {"lo"}, .ifr_ifru = {}};
              return ioctl(local, SIOCGIFINDEX, &loopback) == 0 ? 0 : 4;
            }),
            0);
}

// A filter of the forgiving kind leaves sockets whole, those that come later too.
TEST(Sandbox, SocketsBehindADenyList) {
  const Fd listener = Listen();
  EXPECT_EQ(InChild([&] {
              Filter deny({SYS_ptrace, SYS_reboot}, SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_ALLOW);
              if (!deny.InstallByPrctl()) return 9;
              const Fd twin(dup(listener.get()));
              const Fd client = Connect(PortOf(twin));
              const Fd server(accept(twin.get(), nullptr, nullptr));
              return PortOf(server) == PortOf(listener) && WriteAll(server.get(), "x") &&
                             ReadExactly(client.get(), 1) == "x"
                         ? 0
                         : 1;
            }),
            0);
}

TEST(Sandbox, AFilterThatIsNoneIsRefused) {
  EXPECT_EQ(
      InChild([] {
        sock_fprog nowhere = {.len = 3, .filter = nullptr};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 1;
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &nowhere) != -1) return 2;
        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nullptr) == -1 && errno == EFAULT ? 0 : 3;
      }),
      0);
}

}  // namespace
}  // namespace rump
