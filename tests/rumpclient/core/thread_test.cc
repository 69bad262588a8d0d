// Threads that share a connection.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "rumpclient/core/connection.h"
#include "tests/rumpclient/core/test_client.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {
namespace {

TEST(ThreadTest, AnswersOutOfOrder) {
  constexpr int kThreads = 8;
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    std::vector<ReceivedFrame> calls;
    for (int i = 0; i < kThreads; ++i) {
      calls.push_back(peer->ExpectRequest(FrameType::kSyscall));
    }
    while (!calls.empty()) {
      peer->Answer(calls.back(), calls.back().arg(0));
      calls.pop_back();
    }
    peer->ExpectEnd();
  });
  Client client(server);
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&client, i] { client.Succeed(MakeCall(SYS_dup, {i}), i); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ThreadTest, BlockedCallDelaysNoOther) {
  constexpr int kOthers = 100;
  std::promise<void> blocked;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto write = peer->ExpectRequest(FrameType::kSyscall);
    blocked.set_value();
    for (int i = 0; i < kOthers; ++i) {
      const auto other = peer->ExpectRequest(FrameType::kSyscall);
      EXPECT_EQ("blocked", peer->CopyIn(write.arg(1), write.arg(2)));
      peer->Answer(other, 1);
    }
    peer->Answer(write, 7);
    peer->ExpectEnd();
  });
  Client client(server);
  std::thread thread([&] { client.Succeed(Write("blocked", 7), 7); });
  blocked.get_future().wait();
  for (int i = 0; i < kOthers; ++i) client.Succeed(MakeCall(SYS_getpid), 1);
  thread.join();
}

// All but the caller's.
bool OtherThreadsSleep() {
  bool sleep = true;
  DIR* const threads = opendir("/proc/self/task");
  while (const dirent* const entry = readdir(threads)) {
    if (entry->d_name[0] == '.' || atoi(entry->d_name) == gettid()) continue;
    std::ifstream file(std::string("/proc/self/task/") + entry->d_name + "/stat");
    std::string stat;
    std::getline(file, stat);
    sleep = sleep && stat.find(") S ") != std::string::npos;
  }
  closedir(threads);
  return sleep;
}

// Who sends waits for a server that waits for its answer to be read.
TEST(ThreadTest, AnswersComeWhileTheDescriptorIsToMove) {
  constexpr int kStuck = 16;
  std::promise<void> first_sent;
  std::promise<void> all_wait;
  std::promise<void> first_answered;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto first = peer->ExpectRequest(FrameType::kSyscall);
    first_sent.set_value();
    all_wait.get_future().wait();
    peer->Answer(first, 1);
    first_answered.get_future().wait();
    for (int i = 0; i < kStuck; ++i) {
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      peer->Answer(call, call.arg(0));
    }
    peer->ExpectEnd();
  });
  Client client(server);
  const int old = client->fd();
  const int small = 1;
  ASSERT_EQ(0, setsockopt(old, SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
  std::thread first([&] {
    // So that it is no hindrance where it waits.
    Interruption interruption;
    Call call = MakeCall(SYS_getpid);
    EXPECT_EQ(0, client->Issue(&call, &interruption));
    EXPECT_EQ(1u, call.retval[0]);
  });
  first_sent.get_future().wait();
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < kStuck; ++i) {
    threads.emplace_back([&client, i] { client.Succeed(MakeCall(SYS_dup, {i}), i); });
  }
  while (!OtherThreadsSleep()) sched_yield();
  threads.emplace_back([&] { EXPECT_EQ(0, client->MoveFd()); });
  while (!OtherThreadsSleep()) sched_yield();
  all_wait.set_value();
  first.join();
  first_answered.set_value();
  for (std::thread& thread : threads) thread.join();
  EXPECT_NE(old, client->fd());
  client->Abandon();
}

bool WaitsIn(pid_t thread, int number) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/syscall");
  int current = -1;
  return file >> current && current == number;
}

// A stop makes the reader's wait start anew, where its descriptor is another one by then.
TEST(ThreadTest, StoppedReaderLooksForItsDescriptorAnew) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "its runtime starts no thread in the child of a process that had some";
#endif
  int moved[2];
  ASSERT_EQ(0, pipe2(moved, O_CLOEXEC));
  std::promise<void> went_on;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    went_on.get_future().wait();
    peer->Answer(call, 1);
    peer->ExpectEnd();
  });
  const pid_t pid = fork();
  if (pid == 0) {
    Client client(server);
    std::atomic<pid_t> tid{0};
    std::thread reader([&] {
      Interruption interruption;
      Call call = MakeCall(SYS_poll);
      tid = gettid();
      EXPECT_EQ(0, client->Issue(&call, &interruption));
    });
    while (!WaitsIn(tid, SYS_ppoll)) sched_yield();
    int silent[2];
    EXPECT_EQ(0, pipe2(silent, O_CLOEXEC));
    const int old = client->fd();
    EXPECT_EQ(0, client->MoveFd());
    EXPECT_EQ(old, dup2(silent[0], old));
    EXPECT_EQ(1, write(moved[1], "x", 1));
    reader.join();
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  char c;
  EXPECT_EQ(1, read(moved[0], &c, 1));
  int status = 0;
  EXPECT_EQ(0, kill(pid, SIGSTOP));
  EXPECT_EQ(pid, waitpid(pid, &status, WUNTRACED));
  EXPECT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(0, kill(pid, SIGCONT));
  went_on.set_value();
  EXPECT_EQ(pid, waitpid(pid, &status, 0));
  EXPECT_EQ(0, status);
}

// Calls of many threads, whose waits let signals in if there is an `interruption`.
void MakeManyCalls(Interruption* interruption) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 1000;
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    std::map<uint64_t, ReceivedFrame> writes;  // by our COPYIN's number
    uint64_t copies = 0;
    for (;;) {
      const ReceivedFrame frame = peer->ReadFrame();
      if (frame.header.len == 0) return;
      if (frame.header.cls == FrameClass::kResponse) {
        const auto write = writes.extract(frame.header.reqno);
        ASSERT_FALSE(write.empty());
        const std::string& data = frame.payload;
        ASSERT_EQ(write.mapped().arg(2), data.size());
        EXPECT_EQ(std::string::npos,
                  data.find_first_not_of(static_cast<char>('a' + data.size() % 26)));
        peer->Answer(write.mapped(), data.size());
        continue;
      }
      switch (frame.header.u) {
        case SYS_read: {
          const size_t n = frame.arg(2);
          peer->CopyOut(frame.arg(1), std::string(n, static_cast<char>('A' + n % 26)));
          peer->Answer(frame, n);
          break;
        }
        case SYS_write: {
          const CopyPayload range = {frame.arg(2), frame.arg(1)};
          writes[copies] = frame;
          peer->Send(Frame(FrameClass::kRequest, FrameType::kCopyIn, copies++, 0,
                           BytesAt(&range, sizeof range)));
          break;
        }
        default:
          peer->Answer(frame, frame.arg(0) + 1);
      }
    }
  });
  std::vector<std::thread> threads;
  Client client(server);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&client, t, interruption] {
      std::vector<char> buffer(12000);
      for (int i = 0; i < kRounds; ++i) {
        const size_t n = 1 + (t * 977 + i * 131) % buffer.size();
        switch (i % 3) {
          case 0: {
            client.Succeed(Read(buffer.data(), n), n, interruption);
            const auto wrong = std::string_view(buffer.data(), n)
                                   .find_first_not_of(static_cast<char>('A' + n % 26));
            EXPECT_EQ(std::string_view::npos, wrong);
            break;
          }
          case 1:
            memset(buffer.data(), static_cast<char>('a' + n % 26), n);
            client.Succeed(Write(buffer.data(), n), n, interruption);
            break;
          default:
            client.Succeed(MakeCall(SYS_dup, {n}), n + 1, interruption);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  client->Abandon();
}

TEST(ThreadTest, ManyCalls) { MakeManyCalls(nullptr); }

TEST(ThreadTest, ManyCallsThatLetSignalsIn) {
  Interruption interruption;
  MakeManyCalls(&interruption);
}

// There requests are left to threads that have been woken and have not run yet.
TEST(ThreadTest, ManyCallsOnOneCpu) {
  cpu_set_t before;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof before, &before));
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(0, sched_setaffinity(0, sizeof one, &one));
  Interruption interruption;
  MakeManyCalls(&interruption);
  ASSERT_EQ(0, sched_setaffinity(0, sizeof before, &before));
}

}  // namespace
}  // namespace rump::client
