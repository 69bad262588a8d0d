#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/caller.h"
#include "tests/rumpclient/fake_server.h"
#include "tests/rumpclient/test_server.h"

namespace rump::client {
namespace {

constinit std::atomic<int> handled{0};

void Count(int) { handled.fetch_add(1); }

// Cleanup handlers find the thread's own mask, not the one of the call.
TEST(SignalTest, CancellationRestoresTheMask) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe pipe;
    static constinit std::atomic<bool> blocked{false};
    pthread_t thread;
    ASSERT_EQ(0, pthread_create(
                     &thread, nullptr,
                     [](void* ends) -> void* {
                       sigset_t own;
                       sigemptyset(&own);
                       sigaddset(&own, SIGUSR1);
                       pthread_sigmask(SIG_SETMASK, &own, nullptr);
                       sigset_t none;
                       sigemptyset(&none);
                       pollfd entry = {static_cast<RumpPipe*>(ends)->reader, POLLIN, 0};
                       pthread_cleanup_push(
                           [](void*) {
                             sigset_t mask;
                             pthread_sigmask(SIG_SETMASK, nullptr, &mask);
                             blocked = sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGUSR2);
                           },
                           nullptr);
                       rump_sys_ppoll(&entry, 1, nullptr, &none);
                       pthread_cleanup_pop(0);
                       return nullptr;
                     },
                     &pipe));
    AwaitCallsInFlight(1);
    ASSERT_EQ(0, pthread_cancel(thread));
    void* result;
    ASSERT_EQ(0, pthread_join(thread, &result));
    EXPECT_EQ(PTHREAD_CANCELED, result);
    EXPECT_TRUE(blocked);
  });
}

// One signal for each call, which is known to be in the server by then: were it lost on the call,
// the call would never end.
TEST(SignalTest, NoneIsLostAtTheStartOfACall) {
  constexpr int kTimes = 300;
  int threads_pid[2];
  ASSERT_EQ(0, pipe2(threads_pid, O_CLOEXEC));
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome("RUMPSP-0.4-Linux-6.1.0/x86_64 +cancel\n");
    pid_t pid = -1;
    EXPECT_EQ(sizeof pid, read(threads_pid[0], &pid, sizeof pid));
    for (int i = 0; i < kTimes; ++i) {
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      EXPECT_EQ(0, kill(pid, SIGUSR1));
      const auto cancel = peer->ExpectRequest(FrameType::kCancel);
      EXPECT_EQ(0, memcmp(&call.header.reqno, cancel.payload.data(), sizeof call.header.reqno));
      peer->Fail(call, EINTR);
    }
    peer->ExpectEnd();
  });
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
    Handle(SIGUSR1, &Count, 0);
    const pid_t self = getpid();
    EXPECT_EQ(sizeof self, write(threads_pid[1], &self, sizeof self));
    for (int i = 0; i < kTimes; ++i) {
      char c;
      EXPECT_EQ(-1, rump_sys_read(0, &c, 1));
      EXPECT_EQ(EINTR, errno);
    }
    EXPECT_EQ(kTimes, handled);
    ExitWithResult();
  }
  ExpectGoodEnd(pid);
}

constinit int handlers_report = -1;

// Each handler makes a call, which is answered while the one that it has interrupted waits. Its
// other request would be CANCEL.
TEST(SignalTest, WithoutTheExtensionTheCallGoesOn) {
  constexpr int kTimes = 20;
  constexpr int kHandlersAnswer = 7;
  int threads_pid[2];
  int handler_ran[2];
  ASSERT_EQ(0, pipe2(threads_pid, O_CLOEXEC));
  ASSERT_EQ(0, pipe2(handler_ran, O_CLOEXEC));
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    pid_t pid = -1;
    EXPECT_EQ(sizeof pid, read(threads_pid[0], &pid, sizeof pid));
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    for (int i = 0; i < kTimes; ++i) {
      EXPECT_EQ(0, kill(pid, SIGUSR1));
      const auto handlers = peer->ExpectRequest(FrameType::kSyscall);
      EXPECT_EQ(static_cast<uint32_t>(SYS_getpid), handlers.header.u);
      peer->Answer(handlers, kHandlersAnswer);
      char c;
      EXPECT_EQ(1, read(handler_ran[0], &c, 1));
    }
    peer->Answer(call, 42);
    peer->ExpectEnd();
  });
  handlers_report = handler_ran[1];
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
    Handle(
        SIGUSR1,
        [](int) {
          if (rump_sys_getpid() == kHandlersAnswer) (void)!write(handlers_report, "x", 1);
        },
        0);
    const pid_t self = getpid();
    EXPECT_EQ(sizeof self, write(threads_pid[1], &self, sizeof self));
    EXPECT_EQ(42, rump_sys_getppid());
    ExitWithResult();
  }
  ExpectGoodEnd(pid);
}

// What is sent to the process ends the call of the one thread that runs the handler.
TEST(SignalTest, EndsOneThreadsCall) {
  TestServer server;
  RunProgram(server, [] {
    constexpr int kThreads = 4;
    constexpr int kRounds = 50;
    Handle(
        SIGUSR1, [](int) {}, 0);
    RumpPipe pipe;
    std::atomic<int> ended{0};
    std::atomic<int> read{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        char c;
        while (rump_sys_read(pipe.reader, &c, 1) == -1 && errno == EINTR) ended.fetch_add(1);
        read.fetch_add(1);
      });
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    ASSERT_EQ(0, pthread_sigmask(SIG_BLOCK, &signals, nullptr));
    for (int round = 1; round <= kRounds; ++round) {
      AwaitCallsInFlight(kThreads);
      EXPECT_EQ(0, kill(getpid(), SIGUSR1));
      while (ended < round) sched_yield();
    }
    AwaitCallsInFlight(kThreads);
    EXPECT_EQ(kThreads, rump_sys_write(pipe.writer, "abcd", kThreads));
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(kRounds, ended);
    EXPECT_EQ(kThreads, read);
  });
}

// A thread whose handler takes its time reads for nobody, so the role goes to one that waits.
TEST(SignalTest, RoleGoesToAThreadThatWaits) {
  SKIP_WITHOUT_PROMPT_HANDLERS();
  static constinit int in_handler[2];
  static constinit int go_on[2];
  ASSERT_EQ(0, pipe2(in_handler, O_CLOEXEC));
  ASSERT_EQ(0, pipe2(go_on, O_CLOEXEC));
  constexpr int kCalls = 3;
  std::promise<void> sent[kCalls];
  std::promise<void> busy;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    ReceivedFrame calls[kCalls];
    for (int i = 0; i < kCalls; ++i) {
      calls[i] = peer->ExpectRequest(FrameType::kSyscall);
      sent[i].set_value();
    }
    busy.get_future().wait();
    for (int i = 0; i < kCalls; ++i) peer->Answer(calls[i], i);
    peer->ExpectEnd();
  });
  setenv("RUMP_SERVER", server.url().c_str(), 1);
  ASSERT_EQ(0, rumpclient_init());
  Handle(
      SIGUSR1,
      [](int) {
        char c;
        (void)!write(in_handler[1], "x", 1);
        (void)!read(go_on[0], &c, 1);
      },
      SA_RESTART);
  std::unique_ptr<Caller> callers[kCalls];
  for (int i = 0; i < kCalls; ++i) {
    callers[i] = std::make_unique<Caller>([] { return rump_sys_getpid(); });
    sent[i].get_future().wait();
  }
  char c;
  callers[2]->Signal(SIGUSR1);
  EXPECT_EQ(1, read(in_handler[0], &c, 1));
  busy.set_value();
  callers[0]->ExpectResult(0);
  callers[1]->ExpectResult(1);
  EXPECT_EQ(1, write(go_on[1], "x", 1));
  callers[2]->ExpectResult(2);
  int own = 1000;
  while (shutdown(own, SHUT_RDWR) != 0) ++own;
}

// What the server leaves undone must not keep a program from being ended.
class StallTest : public testing::TestWithParam<bool> {};

INSTANTIATE_TEST_SUITE_P(ReadingAndSending, StallTest, testing::Bool());

TEST_P(StallTest, ProgramCanBeEnded) {
  static constexpr size_t kSize = 8 << 20;
  std::promise<pid_t> client;
  std::promise<void> ended;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    if (GetParam()) {
      // Answers that nobody reads fill the socket.
      const CopyPayload range = {kMaxCopy, call.arg(1)};
      const std::string payload(reinterpret_cast<const char*>(&range), sizeof range);
      for (uint64_t i = 0; i < kSize / kMaxCopy; ++i) {
        peer->Send(Frame(FrameClass::kRequest, FrameType::kCopyIn, i, 0, payload));
      }
      peer->Read(kHeaderSize);
    } else {
      const std::string answer = SyscallAnswer(call.header.reqno, 0, 0);
      peer->Send(answer.substr(0, answer.size() / 2));
      peer->Drain();
    }
    EXPECT_EQ(0, kill(client.get_future().get(), SIGTERM));
    ended.get_future().wait();
  });
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
    static char data[kSize];
    rump_sys_write(1, data, sizeof data);
    _exit(0);
  }
  client.set_value(pid);
  int status = -1;
  EXPECT_EQ(pid, waitpid(pid, &status, 0));
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(SIGTERM, WTERMSIG(status));
  ended.set_value();
}

TEST(SignalTest, ServersSignalIsDelivered) {
  TestServer server;
  RunProgram(server, [] {
    Handle(SIGPIPE, &Count, 0);
    RumpPipe pipe;
    EXPECT_EQ(0, rump_sys_close(pipe.reader));
    EXPECT_EQ(-1, rump_sys_write(pipe.writer, "x", 1));
    EXPECT_EQ(EPIPE, errno);
    EXPECT_EQ(1, handled);
  });
}

// kill(2) of the server's: the call that waits gets the signal.
TEST(SignalTest, ServersSignalEndsOrRestarts) {
  TestServer server;
  RunProgram(server, [] {
    const pid_t self = rump_sys_getpid();
    RumpPipe pipe;
    for (const int flags : {0, SA_RESTART}) {
      handled = 0;
      Handle(SIGUSR1, &Count, flags);
      char c;
      Caller caller([&] { return rump_sys_read(pipe.reader, &c, 1); });
      AwaitCallsInFlight(1);
      const pid_t killer = rumpclient_fork();
      if (killer == 0) {
        EXPECT_EQ(0, Call(SYS_kill, {static_cast<uint64_t>(self), SIGUSR1}));
        ExitWithResult();
      }
      ExpectGoodEnd(killer);
      while (handled == 0) sched_yield();
      if (flags == 0) {
        caller.ExpectEintr();
      } else {
        AwaitCallsInFlight(1);
        EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
        caller.ExpectResult(1);
      }
    }
  });
}

}  // namespace
}  // namespace rump::client
