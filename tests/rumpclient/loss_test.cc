// What becomes of a program whose server is lost, under each setting of rumpclient_setconnretry().
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/test_server.h"

namespace rump::client {
namespace {

constexpr char kLost[] = "is lost: reconnecting";
constexpr char kBack[] = "connected again";

int Count(const std::string& text, const std::string& word) {
  int count = 0;
  for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; ++at) ++count;
  return count;
}

// What `program` writes to stderr.
std::string Stderr(const std::function<void()>& program) {
  testing::internal::CaptureStderr();
  program();
  return testing::internal::GetCapturedStderr();
}

void ExpectLost() {
  EXPECT_EQ(-1, rump_sys_getpid());
  EXPECT_EQ(ENOTCONN, errno);
}

// A program that the test talks with, since who forks later shares the server's end of no socket.
class Program {
 public:
  Program(const TestServer& server, const std::function<void(Program*)>& program) {
    EXPECT_EQ(0, pipe2(to_test_, O_CLOEXEC));
    EXPECT_EQ(0, pipe2(to_program_, O_CLOEXEC));
    pid_ = fork();
    if (pid_ != 0) return;
    setenv("RUMP_SERVER", server.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
    std::swap(to_test_, to_program_);
    program(this);
    ExitWithResult();
  }
  ~Program() {
    if (pid_ > 0) ExpectGoodEnd(pid_);
    for (const int fd : {to_test_[0], to_test_[1], to_program_[0], to_program_[1]}) close(fd);
  }
  // Both sides' step to where they meet.
  void Tell() { EXPECT_EQ(1, write(to_program_[1], "x", 1)); }
  void Hear() {
    char c;
    EXPECT_EQ(1, read(to_test_[0], &c, 1));
  }
  // For a program that does not end well.
  int Status() {
    int status = -1;
    EXPECT_EQ(pid_, waitpid(pid_, &status, 0));
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
  int to_test_[2];
  int to_program_[2];
};

TEST(LossTest, CallsFailUnlessToldOtherwise) {
  TestServer server;
  Program program(server, [](Program* test) {
    RumpPipe pipe;
    std::vector<std::thread> readers;
    for (int i = 0; i < 4; ++i) {
      readers.emplace_back([&] {
        char c;
        EXPECT_EQ(-1, rump_sys_read(pipe.reader, &c, 1));
        EXPECT_EQ(ENOTCONN, errno);
      });
    }
    AwaitCallsInFlight(4);
    const std::string said = Stderr([&] {
      test->Tell();
      for (std::thread& reader : readers) reader.join();
      ExpectLost();
      test->Tell();
      test->Hear();
      ExpectLost();
    });
    EXPECT_EQ("", said);
    EXPECT_EQ(0, rumpclient_init()) << "which connects again";
    EXPECT_LT(0, rump_sys_getpid());
  });
  program.Hear();
  server.Kill();
  program.Hear();
  server.Start();
  program.Tell();
}

class TransportTest : public testing::TestWithParam<Transport> {};

INSTANTIATE_TEST_SUITE_P(UnixAndTcp, TransportTest,
                         testing::Values(Transport::kUnix, Transport::kTcp));

TEST_P(TransportTest, Once) {
  TestServer server(GetParam());
  Program program(server, [](Program* test) {
    rumpclient_setconnretry(RUMPCLIENT_RETRYCONN_ONCE);
    RumpPipe pipe;
    const std::string said = Stderr([&] {
      test->Tell();
      test->Hear();
      ExpectLost();
      ExpectLost();
      test->Tell();
      test->Hear();
      EXPECT_LT(0, rump_sys_getpid());
      EXPECT_EQ(-1, rump_sys_write(pipe.writer, "x", 1));
      EXPECT_EQ(EBADF, errno) << "it is a new process";
    });
    EXPECT_EQ(1, Count(said, kLost)) << said;
    EXPECT_EQ(1, Count(said, kBack)) << said;
  });
  program.Hear();
  server.Kill();
  program.Tell();
  program.Hear();
  server.Start();
  program.Tell();
}

TEST(LossTest, ForSeconds) {
  TestServer server;
  Program program(server, [](Program* test) {
    test->Tell();
    test->Hear();
    rumpclient_setconnretry(1);
    EXPECT_EQ(1, Count(Stderr([] { ExpectLost(); }), kLost));
    // Long enough for any machine.
    rumpclient_setconnretry(600);
    const std::string said = Stderr([&] {
      test->Tell();
      EXPECT_LT(0, rump_sys_getpid());
    });
    EXPECT_EQ(0, Count(said, kLost)) << "it has been said";
    EXPECT_EQ(1, Count(said, kBack));
  });
  program.Hear();
  server.Kill();
  program.Tell();
  program.Hear();
  server.Start();
}

// The call that finds the server lost is made again, on a process without descriptors; the others
// are lost, and calls that come later wait.
TEST(LossTest, ForEverWithCallsInFlight) {
  constexpr int kThreads = 6;
  TestServer server;
  Program program(server, [](Program* test) {
    rumpclient_setconnretry(RUMPCLIENT_RETRYCONN_INFTIME);
    std::atomic<int> again{0};
    std::atomic<int> lost{0};
    RumpPipe pipe;
    std::vector<std::thread> readers;
    for (int i = 0; i < kThreads; ++i) {
      readers.emplace_back([&] {
        char c;
        EXPECT_EQ(-1, rump_sys_read(pipe.reader, &c, 1));
        if (errno == EBADF) again.fetch_add(1);
        if (errno == ENOTCONN) lost.fetch_add(1);
      });
    }
    AwaitCallsInFlight(kThreads);
    const std::string said = Stderr([&] {
      test->Tell();
      while (lost != kThreads - 1) sched_yield();
      std::thread later([] { EXPECT_LT(0, rump_sys_getpid()); });
      test->Tell();
      for (std::thread& reader : readers) reader.join();
      later.join();
    });
    EXPECT_EQ(1, again);
    EXPECT_EQ(kThreads - 1, lost);
    EXPECT_EQ(1, Count(said, kLost)) << said;
    EXPECT_EQ(1, Count(said, kBack)) << said;
  });
  program.Hear();
  server.Kill();
  program.Hear();
  server.Start();
}

TEST(LossTest, ManyTimesUnderLoad) {
  static constexpr int kTimes = 10;
  static constexpr int kThreads = 6;
  TestServer server;
  Program program(server, [](Program* test) {
    rumpclient_setconnretry(RUMPCLIENT_RETRYCONN_INFTIME);
    std::atomic<bool> stop{false};
    std::atomic<int> calls[kThreads] = {};
    const auto call = [&](int thread) {
      while (!stop) {
        if (rump_sys_getpid() > 0) {
          calls[thread].fetch_add(1);
        } else {
          EXPECT_EQ(ENOTCONN, errno);
        }
      }
    };
    const std::string said = Stderr([&] {
      std::vector<std::thread> threads;
      for (int i = 0; i < kThreads; ++i) threads.emplace_back(call, i);
      for (int round = 0; round <= kTimes; ++round) {
        // Each of them has been answered in this round, some of their calls having been lost.
        for (std::atomic<int>& made : calls) {
          for (const int before = made; made < before + 10;) sched_yield();
        }
        test->Tell();
        test->Hear();
      }
      stop = true;
      for (std::thread& thread : threads) thread.join();
    });
    EXPECT_EQ(kTimes, Count(said, kLost)) << said;
    EXPECT_EQ(kTimes, Count(said, kBack)) << said;
  });
  for (int i = 0; i < kTimes; ++i) {
    program.Hear();
    server.Kill();
    server.Start();
    program.Tell();
  }
  program.Hear();
  program.Tell();
}

int CountThreads() {
  int count = 0;
  DIR* const threads = opendir("/proc/self/task");
  while (const dirent* const entry = readdir(threads)) count += entry->d_name[0] != '.';
  closedir(threads);
  return count;
}

// Neither for calls, long or short, nor for forks and reconnections.
TEST(LossTest, NoThreadIsStarted) {
  TestServer server;
  Program program(server, [](Program* test) {
    // A sanitizer may have one of its own.
    const int threads = CountThreads();
#ifndef __SANITIZE_THREAD__
    EXPECT_EQ(1, threads);
#endif
    rumpclient_setconnretry(RUMPCLIENT_RETRYCONN_INFTIME);
    const timespec moment = {0, 5'000'000};
    const auto expect_none = [&] {
      EXPECT_LT(0, rump_sys_getpid());
      EXPECT_EQ(0, rump_sys_nanosleep(&moment, nullptr));
      EXPECT_EQ(threads, CountThreads());
    };
    expect_none();
    const pid_t child = rumpclient_fork();
    if (child == 0) {
      expect_none();
      ExitWithResult();
    }
    ExpectGoodEnd(child);
    test->Tell();
    test->Hear();
    EXPECT_EQ(1, Count(Stderr(expect_none), kBack));
  });
  program.Hear();
  server.Kill();
  server.Start();
  program.Tell();
}

TEST(LossTest, Die) {
  TestServer server;
  int said[2];
  ASSERT_EQ(0, pipe2(said, O_CLOEXEC));
  Program program(server, [&](Program* test) {
    dup2(said[1], STDERR_FILENO);
    rumpclient_setconnretry(RUMPCLIENT_RETRYCONN_DIE);
    test->Tell();
    test->Hear();
    rump_sys_getpid();
    _exit(7);
  });
  program.Hear();
  server.Kill();
  program.Tell();
  const int status = program.Status();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(1, WEXITSTATUS(status));
  char line[256] = "";
  EXPECT_LT(0, read(said[0], line, sizeof line - 1));
  EXPECT_EQ(1, Count(line, "is lost: exiting")) << line;
  EXPECT_EQ(1, Count(line, server.url())) << line;
  close(said[0]);
  close(said[1]);
}

constinit std::atomic<int> refused{0};

// The call below the handler is one that the reconnecting thread waits for.
TEST(LossTest, HandlersCallIsNotMadeToWaitForItself) {
  SKIP_WITHOUT_PROMPT_HANDLERS();
  static constinit int in_handler[2];
  static constinit int go_on[2];
  TestServer server;
  Program program(server, [](Program* test) {
    rumpclient_setconnretry(RUMPCLIENT_RETRYCONN_INFTIME);
    int said[2];
    EXPECT_EQ(0, pipe2(said, O_CLOEXEC));
    EXPECT_EQ(0, pipe2(in_handler, O_CLOEXEC));
    EXPECT_EQ(0, pipe2(go_on, O_CLOEXEC));
    dup2(said[1], STDERR_FILENO);
    Handle(
        SIGUSR1,
        [](int) {
          char c;
          (void)!write(in_handler[1], "x", 1);
          (void)!read(go_on[0], &c, 1);
          if (rump_sys_getpid() == -1 && errno == ENOTCONN) refused.fetch_add(1);
        },
        SA_RESTART);
    RumpPipe pipe;
    const auto read_expecting = [&pipe](int error) {
      char c;
      EXPECT_EQ(-1, rump_sys_read(pipe.reader, &c, 1));
      EXPECT_EQ(error, errno);
    };
    std::thread reader([&] { read_expecting(EBADF); });
    AwaitCallsInFlight(1);
    std::thread interrupted([&] { read_expecting(ENOTCONN); });
    AwaitCallsInFlight(2);
    char c;
    EXPECT_EQ(0, pthread_kill(interrupted.native_handle(), SIGUSR1));
    EXPECT_EQ(1, read(in_handler[0], &c, 1));
    test->Tell();
    char line[256] = "";
    EXPECT_LT(0, read(said[0], line, sizeof line - 1));
    EXPECT_EQ(1, Count(line, kLost)) << line;
    EXPECT_EQ(1, write(go_on[1], "x", 1));
    interrupted.join();
    EXPECT_EQ(1, refused);
    test->Tell();
    reader.join();
  });
  program.Hear();
  server.Kill();
  program.Hear();
  server.Start();
}

TEST(LossTest, HandlersRunWhileReconnecting) {
  TestServer server;
  Program program(server, [](Program* test) {
    rumpclient_setconnretry(RUMPCLIENT_RETRYCONN_INFTIME);
    struct sigaction action = {};
    action.sa_handler = [](int) {
      const int saved = errno;
      if (rump_sys_getpid() == -1 && errno == ENOTCONN) refused.fetch_add(1);
      errno = saved;
    };
    EXPECT_EQ(0, sigaction(SIGUSR1, &action, nullptr));
    int said[2];
    EXPECT_EQ(0, pipe2(said, O_CLOEXEC));
    dup2(said[1], STDERR_FILENO);
    test->Tell();
    test->Hear();
    std::thread caller([] { EXPECT_LT(0, rump_sys_getpid()); });
    char line[256] = "";
    EXPECT_LT(0, read(said[0], line, sizeof line - 1));
    EXPECT_EQ(1, Count(line, kLost)) << line;
    while (refused < 3) {
      pthread_kill(caller.native_handle(), SIGUSR1);
      usleep(1000);
    }
    test->Tell();
    caller.join();
    EXPECT_LT(0, read(said[0], line, sizeof line - 1));
    EXPECT_EQ(1, Count(line, kBack)) << line;
  });
  program.Hear();
  server.Kill();
  program.Tell();
  program.Hear();
  server.Start();
}

}  // namespace
}  // namespace rump::client
