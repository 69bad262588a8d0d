// A handler interrupts a call that waits.
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include <atomic>
#include <functional>
#include <memory>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/caller.h"
#include "tests/rumpclient/test_server.h"

namespace rump::client {
namespace {

constinit std::atomic<int> handled{0};
constinit std::atomic<pid_t> handlers_pid{0};

void Count(int) { handled.fetch_add(1); }

void CountAndCall(int) {
  const int saved = errno;
  handlers_pid = rump_sys_getpid();
  handled.fetch_add(1);
  errno = saved;
}

long RumpPoll(int fd, int timeout) {
  pollfd entry = {fd, POLLIN, 0};
  const long result = Call(SYS_poll, {reinterpret_cast<uint64_t>(&entry), 1,
                                      static_cast<uint64_t>(static_cast<int64_t>(timeout))});
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

int RumpListener(sockaddr_in* name) {
  *name = {};
  name->sin_family = AF_INET;
  name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
  auto* const addr = reinterpret_cast<sockaddr*>(name);
  socklen_t size = sizeof *name;
  EXPECT_EQ(0, rump_sys_bind(fd, addr, size)) << strerror(errno);
  EXPECT_EQ(0, rump_sys_getsockname(fd, addr, &size));
  EXPECT_EQ(0, rump_sys_listen(fd, 1));
  return fd;
}

// The blocked thread is the connection's reader if it is alone, else it sleeps.
class InterruptTest : public testing::TestWithParam<bool> {
 protected:
  void Run(const std::function<void()>& program) {
    TestServer server;
    RunProgram(server, [&] {
      RumpPipe silent;
      std::unique_ptr<Caller> reader;
      if (GetParam()) {
        reader = std::make_unique<Caller>([&] {
          char c;
          return rump_sys_read(silent.reader, &c, 1);
        });
        AwaitCallsInFlight(1);
      }
      program();
      EXPECT_EQ(1, rump_sys_write(silent.writer, "x", 1));
      if (reader != nullptr) reader->ExpectResult(1);
    });
  }
  // Waits for the one more call that the test makes.
  void AwaitBlocked() { AwaitCallsInFlight(GetParam() ? 2 : 1); }
};

INSTANTIATE_TEST_SUITE_P(ReaderAndSleeper, InterruptTest, testing::Bool());

TEST_P(InterruptTest, ReadEndsWithEintr) {
  Run([this] {
    Handle(SIGUSR1, &Count, 0);
    RumpPipe pipe;
    char c;
    for (int i = 1; i <= 20; ++i) {
      Caller caller([&] { return rump_sys_read(pipe.reader, &c, 1); });
      AwaitBlocked();
      caller.Signal(SIGUSR1);
      caller.ExpectEintr();
      EXPECT_EQ(i, handled);
    }
  });
}

TEST_P(InterruptTest, ReadIsRestarted) {
  Run([this] {
    Handle(SIGUSR1, &Count, SA_RESTART);
    RumpPipe pipe;
    char c;
    Caller caller([&] { return rump_sys_read(pipe.reader, &c, 1); });
    AwaitBlocked();
    for (int i = 0; i < 20; ++i) caller.Signal(SIGUSR1);
    AwaitBlocked();
    EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
    caller.ExpectResult(1);
    EXPECT_GE(handled, 1);
  });
}

// Which of them ran is known however they mix.
TEST_P(InterruptTest, OnlyTheHandlerWithoutRestartEnds) {
  Run([this] {
    Handle(SIGUSR1, &Count, SA_RESTART);
    Handle(SIGUSR2, &Count, 0);
    RumpPipe pipe;
    char c;
    Caller caller([&] { return rump_sys_read(pipe.reader, &c, 1); });
    AwaitBlocked();
    caller.Signal(SIGUSR1);
    AwaitBlocked();
    caller.Signal(SIGUSR2);
    caller.ExpectEintr();
  });
}

TEST_P(InterruptTest, Accept) {
  Run([this] {
    Handle(SIGUSR1, &Count, 0);
    Handle(SIGUSR2, &Count, SA_RESTART);
    sockaddr_in name;
    const int listener = RumpListener(&name);
    {
      Caller caller([&] { return rump_sys_accept(listener, nullptr, nullptr); });
      AwaitBlocked();
      caller.Signal(SIGUSR1);
      caller.ExpectEintr();
    }
    Caller caller([&] { return rump_sys_accept(listener, nullptr, nullptr) >= 0; });
    AwaitBlocked();
    caller.Signal(SIGUSR2);
    const int client = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(0, rump_sys_connect(client, reinterpret_cast<sockaddr*>(&name), sizeof name));
    caller.ExpectResult(1);
  });
}

// Not even SA_RESTART restarts it.
TEST_P(InterruptTest, PollEndsInAnyCase) {
  Run([this] {
    RumpPipe pipe;
    for (const int flags : {0, SA_RESTART}) {
      Handle(SIGUSR1, &Count, flags);
      Caller caller([&] { return RumpPoll(pipe.reader, -1); });
      AwaitBlocked();
      caller.Signal(SIGUSR1);
      caller.ExpectEintr();
    }
  });
}

TEST_P(InterruptTest, IgnoredAndBlockedSignalsEndNothing) {
  Run([this] {
    signal(SIGUSR1, SIG_IGN);
    Handle(SIGUSR2, &Count, 0);
    RumpPipe pipe;
    char c;
    Caller caller([&] {
      sigset_t blocked;
      sigemptyset(&blocked);
      sigaddset(&blocked, SIGUSR2);
      pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
      const long result = rump_sys_read(pipe.reader, &c, 1);
      EXPECT_EQ(0, handled) << "it is still blocked";
      pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
      EXPECT_EQ(1, handled);
      return result;
    });
    AwaitBlocked();
    caller.Signal(SIGUSR1);
    caller.Signal(SIGUSR2);
    AwaitBlocked();
    EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
    caller.ExpectResult(1);
  });
}

TEST_P(InterruptTest, HandlerMakesCalls) {
  SKIP_WITHOUT_PROMPT_HANDLERS();
  Run([this] {
    RumpPipe pipe;
    char c;
    for (const int flags : {SA_RESTART, 0}) {
      Handle(SIGUSR1, &CountAndCall, flags);
      Caller caller([&] { return rump_sys_read(pipe.reader, &c, 1); });
      AwaitBlocked();
      for (int i = 1; i <= 5; ++i) {
        handled = 0;
        caller.Signal(SIGUSR1);
        while (handled == 0) sched_yield();
        EXPECT_EQ(handlers_pid, rump_sys_getpid());
        if (flags == 0) break;
      }
      if (flags == 0) {
        caller.ExpectEintr();
      } else {
        EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
        caller.ExpectResult(1);
      }
    }
  });
}

constinit RumpPipe* handlers_pipe = nullptr;

// A handler may block in a call of its own, whose thread reads for all then.
TEST_P(InterruptTest, HandlerBlocks) {
  SKIP_WITHOUT_PROMPT_HANDLERS();
  Run([this] {
    RumpPipe pipe;
    RumpPipe second;
    handlers_pipe = &second;
    Handle(
        SIGUSR1,
        [](int) {
          char c;
          if (rump_sys_read(handlers_pipe->reader, &c, 1) == 1) handled.fetch_add(1);
        },
        SA_RESTART);
    char c;
    Caller caller([&] { return rump_sys_read(pipe.reader, &c, 1); });
    AwaitBlocked();
    caller.Signal(SIGUSR1);
    AwaitCallsInFlight(GetParam() ? 3 : 2);
    // The answer to the call below comes first.
    EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
    EXPECT_LT(0, rump_sys_getpid());
    EXPECT_EQ(0, handled);
    EXPECT_EQ(1, rump_sys_write(second.writer, "x", 1));
    caller.ExpectResult(1);
    EXPECT_EQ(1, handled);
  });
}

TEST_P(InterruptTest, Cancellation) {
  Run([this] {
    RumpPipe pipe;
    for (int i = 0; i < 20; ++i) {
      pthread_t thread;
      ASSERT_EQ(0, pthread_create(
                       &thread, nullptr,
                       [](void* ends) -> void* {
                         char c;
                         rump_sys_read(static_cast<RumpPipe*>(ends)->reader, &c, 1);
                         return nullptr;
                       },
                       &pipe));
      AwaitBlocked();
      ASSERT_EQ(0, pthread_cancel(thread));
      void* result;
      ASSERT_EQ(0, pthread_join(thread, &result));
      EXPECT_EQ(PTHREAD_CANCELED, result);
      AwaitCallsInFlight(GetParam() ? 1 : 0);
    }
    EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
    char c;
    EXPECT_EQ(1, rump_sys_read(pipe.reader, &c, 1)) << "no cancelled read has taken it";
  });
}

}  // namespace
}  // namespace rump::client
