// Many signals, many threads, many calls.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/test_server.h"

namespace rump::client {
namespace {

constinit std::atomic<int> handled{0};
constinit std::atomic<pid_t> handlers_pid{0};

void CountAndCall(int) {
  const int saved = errno;
  handlers_pid = rump_sys_getpid();
  handled.fetch_add(1);
  errno = saved;
}

// Repeats what a handler ended.
template <typename Function>
ssize_t Uninterrupted(Function call) {
  ssize_t result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// A pipe's round trip and a getpid, again and again.
void MixedCalls(int calls, std::atomic<int>* failures) {
  RumpPipe pipe;
  const pid_t pid = rump_sys_getpid();
  for (int i = 0; i < calls; i += 3) {
    const uint64_t out = static_cast<uint64_t>(i) << 20 | static_cast<uint64_t>(pipe.reader);
    uint64_t in = 0;
    const ssize_t sent =
        Uninterrupted([&] { return rump_sys_write(pipe.writer, &out, sizeof out); });
    const ssize_t got = Uninterrupted([&] { return rump_sys_read(pipe.reader, &in, sizeof in); });
    if (sent != sizeof out || got != sizeof in || in != out) failures->fetch_add(1);
    if (rump_sys_getpid() != pid) failures->fetch_add(1);
  }
  rump_sys_close(pipe.reader);
  rump_sys_close(pipe.writer);
}

class TimerTest : public testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(Flags, TimerTest, testing::Values(SA_RESTART, 0));

TEST_P(TimerTest, ThreadsCall) {
  TestServer server;
  RunProgram(server, [] {
    constexpr int kThreads = 8;
    constexpr int kCalls = 10'000;
    Handle(SIGALRM, &CountAndCall, GetParam());
    const itimerval every = {{0, 10'000}, {0, 10'000}};
    ASSERT_EQ(0, setitimer(ITIMER_REAL, &every, nullptr));
    std::atomic<int> failures{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] { MixedCalls(kCalls, &failures); });
    }
    for (std::thread& thread : threads) thread.join();
    const itimerval never = {};
    ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, nullptr));
    EXPECT_EQ(0, failures);
    EXPECT_GT(handled, 0);
    EXPECT_EQ(rump_sys_getpid(), handlers_pid);
  });
}

// Threads that block, are signalled and are cancelled, beside others that call: none of them is
// lost, and none of their calls.
TEST(StormTest, SignalsAndCancellations) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer takes what a cancelled thread has unwound for still in use";
#endif
  TestServer server;
  RunProgram(server, [] {
    constexpr int kRounds = 40;
    constexpr int kBlocked = 6;
    Handle(SIGUSR1, &CountAndCall, 0);
    Handle(SIGUSR2, &CountAndCall, SA_RESTART);
    std::atomic<int> failures{0};
    std::thread caller([&] { MixedCalls(20'000, &failures); });
    RumpPipe pipe;
    for (int round = 0; round < kRounds; ++round) {
      std::vector<pthread_t> threads(kBlocked);
      for (pthread_t& thread : threads) {
        ASSERT_EQ(0, pthread_create(
                         &thread, nullptr,
                         [](void* ends) -> void* {
                           char c;
                           for (;;) rump_sys_read(static_cast<RumpPipe*>(ends)->reader, &c, 1);
                         },
                         &pipe));
      }
      for (int i = 0; i < 10; ++i) {
        for (const pthread_t thread : threads) {
          pthread_kill(thread, (i + round) % 3 == 0 ? SIGUSR1 : SIGUSR2);
        }
        EXPECT_LT(0, rump_sys_getpid());
      }
      for (const pthread_t thread : threads) {
        EXPECT_EQ(0, pthread_cancel(thread));
        EXPECT_EQ(0, pthread_join(thread, nullptr));
      }
    }
    caller.join();
    EXPECT_EQ(0, failures);
    AwaitCallsInFlight(0);
  });
}

}  // namespace
}  // namespace rump::client
