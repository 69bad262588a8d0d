// A signal that comes between the library's look for pending ones and its wait ends the call, too.
// The caller is traced, so that the signal comes exactly there.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/fake_server.h"
#include "tests/rumpclient/test_server.h"

namespace rump::client {
namespace {

// A child that stops before and behind each of its system calls.
class TracedProgram {
 public:
  explicit TracedProgram(void (*program)()) : pid_(fork()) {
    if (pid_ == 0) {
      ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      raise(SIGSTOP);
      program();
      ExitWithResult();
    }
    EXPECT_EQ(pid_, waitpid(pid_, &status_, 0));
    constexpr long kOptions = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
    EXPECT_EQ(0, ptrace(PTRACE_SETOPTIONS, pid_, nullptr, kOptions)) << strerror(errno);
  }
  ~TracedProgram() {
    if (!ended()) Kill();
  }

  // Goes on to the next system call's entry or exit, or to the end.
  void Step() {
    Continue(0);
    while (WIFSTOPPED(status_) && WSTOPSIG(status_) == SIGUSR1) {
      handles_ = true;
      Continue(SIGUSR1);
    }
    info_ = {};
    if (!ended()) ptrace(PTRACE_GET_SYSCALL_INFO, pid_, sizeof info_, &info_);
  }
  void Kill() {
    kill(pid_, SIGKILL);
    waitpid(pid_, &status_, 0);
  }
  void Signal() { EXPECT_EQ(0, kill(pid_, SIGUSR1)); }

  // Whether its handler has begun.
  bool handles() const { return handles_; }
  bool ended() const { return !WIFSTOPPED(status_); }
  int status() const { return status_; }
  bool Enters(uint64_t number) const {
    return info_.op == PTRACE_SYSCALL_INFO_ENTRY && info_.entry.nr == number;
  }
  // Where nothing happens any more until the server answers.
  bool EntersWait() const {
    return Enters(SYS_ppoll) || (Enters(SYS_recvmsg) && (info_.entry.args[2] & MSG_PEEK) != 0);
  }

 private:
  void Continue(long signo) {
    ASSERT_EQ(0, ptrace(PTRACE_SYSCALL, pid_, nullptr, signo));
    ASSERT_EQ(pid_, waitpid(pid_, &status_, 0));
  }

  const pid_t pid_;
  int status_ = 0;
  bool handles_ = false;
  __ptrace_syscall_info info_ = {};
};

void ReadAndExpectEintr() {
  EXPECT_EQ(0, rumpclient_init());
  Handle(
      SIGUSR1, [](int) {}, 0);
  char c;
  EXPECT_EQ(-1, rump_sys_read(0, &c, 1));
  EXPECT_EQ(EINTR, errno);
}

// Sends the signal `steps` steps behind the look for pending ones. False: that is beyond the wait.
bool SignalAfter(int steps) {
  TracedProgram program(&ReadAndExpectEintr);
  while (!program.ended() && !program.Enters(SYS_rt_sigpending)) program.Step();
  for (int i = 0; i < steps; ++i) {
    if (program.EntersWait()) return false;
    program.Step();
  }
  program.Signal();
  // What comes next is CANCEL.
  while (!program.ended() && !program.Enters(SYS_sendto)) {
    if (program.handles() && program.EntersWait()) {
      ADD_FAILURE() << "it waits on, the signal having come " << steps << " steps before";
      return false;
    }
    program.Step();
  }
  while (!program.ended()) program.Step();
  EXPECT_EQ(0, program.status());
  return true;
}

TEST(SignalGapTest, NoneIsLostOnTheWayToTheWait) {
  SKIP_WITHOUT_PROMPT_HANDLERS();
  bool more = true;
  for (int steps = 0; more; ++steps) {
    FakeServer server([&](FakePeer* peer) {
      peer->Welcome("RUMPSP-0.4-Linux-6.1.0/x86_64 +cancel\n");
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      // None if the program has been killed.
      if (peer->ReadFrame().header.type == FrameType::kCancel) peer->Fail(call, EINTR);
    });
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    more = SignalAfter(steps);
  }
}

}  // namespace
}  // namespace rump::client
