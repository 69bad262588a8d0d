// A real server without any extension: all but EINTR is there.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/test_server.h"

namespace rump::client {
namespace {

constexpr char kNoExtensions[] = "--no-extensions";

class PlainServerTest : public testing::Test {
 protected:
  TestServer server{Transport::kUnix, kNoExtensions};
};

// So that the tests below are of what they say.
TEST_F(PlainServerTest, AnnouncesNone) {
  RunProgram(server, [] {
    char report[16];
    EXPECT_EQ(-ENOSYS, Call(kSysQuery, {0, reinterpret_cast<uint64_t>(report), sizeof report, 0}));
  });
}

TEST_F(PlainServerTest, Sockets) {
  RunProgram(server, [] {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const name = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    const int listener = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(0, rump_sys_bind(listener, name, size));
    ASSERT_EQ(0, rump_sys_listen(listener, 1));
    ASSERT_EQ(0, rump_sys_getsockname(listener, name, &size));
    const std::string sent(100'000, 'x');
    std::thread sender([&] {
      const int client = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
      EXPECT_EQ(0, rump_sys_connect(client, name, size));
      EXPECT_EQ(static_cast<ssize_t>(sent.size()),
                rump_sys_write(client, sent.data(), sent.size()));
      EXPECT_EQ(0, rump_sys_close(client));
    });
    const int accepted = rump_sys_accept(listener, nullptr, nullptr);
    pollfd entry = {accepted, POLLIN, 0};
    EXPECT_EQ(1, rump_sys_poll(&entry, 1, -1));
    std::string got;
    char part[4096];
    ssize_t n;
    while ((n = rump_sys_read(accepted, part, sizeof part)) > 0) got.append(part, n);
    EXPECT_EQ(0, n);
    EXPECT_EQ(sent, got);
    EXPECT_EQ(0, rump_sys_read(accepted, nullptr, sizeof part)) << "nothing is copied";
    sender.join();
  });
}

TEST_F(PlainServerTest, ForkAndExec) {
  char* const program = realpath("tests/rumpclient/exec_program", nullptr);
  ASSERT_NE(nullptr, program);
  RunProgram(server, [&] {
    RumpPipe pipe;
    for (const auto fork_function : {&rumpclient_fork, &rumpclient_vfork}) {
      const pid_t child = fork_function();
      if (child == 0) {
        const std::string pid = std::to_string(rump_sys_getpid());
        const char* const argv[] = {"exec_program", "pid", pid.c_str(), nullptr};
        if (rump_sys_write(pipe.writer, "x", 1) != 1) _exit(2);
        rumpclient_exec(program, const_cast<char**>(argv), environ);
        _exit(3);
      }
      char c;
      EXPECT_EQ(1, rump_sys_read(pipe.reader, &c, 1));
      ExpectGoodEnd(child);
    }
    struct rumpclient_fork* const fork = rumpclient_prefork();
    ASSERT_NE(nullptr, fork);
    EXPECT_EQ(0, rump_sys_close(pipe.writer));
    rumpclient_fork_cancel(fork);
    char c;
    EXPECT_EQ(0, rump_sys_read(pipe.reader, &c, 1)) << "the copy's write end is closed";
  });
  free(program);
}

constinit std::atomic<int> handled{0};

// Handlers run, and the call goes on. Threads are cancelled, and their calls with the process.
TEST_F(PlainServerTest, SignalsAndCancellation) {
  SKIP_WITHOUT_PROMPT_HANDLERS();
  RunProgram(server, [] {
    RumpPipe pipe;
    Handle(
        SIGUSR1,
        [](int) {
          if (rump_sys_getpid() > 0) handled.fetch_add(1);
        },
        0);
    std::thread reader([&] {
      char c;
      EXPECT_EQ(1, rump_sys_read(pipe.reader, &c, 1));
    });
    for (int i = 1; i <= 20; ++i) {
      pthread_kill(reader.native_handle(), SIGUSR1);
      while (handled < i) sched_yield();
    }
    EXPECT_EQ(1, rump_sys_write(pipe.writer, "x", 1));
    reader.join();
    RumpPipe silent;
    pthread_t thread;
    ASSERT_EQ(0, pthread_create(
                     &thread, nullptr,
                     [](void* ends) -> void* {
                       char c;
                       rump_sys_read(static_cast<RumpPipe*>(ends)->reader, &c, 1);
                       return nullptr;
                     },
                     &silent));
    ASSERT_EQ(0, pthread_cancel(thread));
    void* result;
    ASSERT_EQ(0, pthread_join(thread, &result));
    EXPECT_EQ(PTHREAD_CANCELED, result);
    EXPECT_LT(0, rump_sys_getpid());
  });
}

TEST_F(PlainServerTest, LossAndReconnection) {
  RunBareProgram(server, [] {
    TestServer own(Transport::kUnix, kNoExtensions);
    setenv("RUMP_SERVER", own.url().c_str(), 1);
    ASSERT_EQ(0, rumpclient_init());
    rumpclient_setconnretry(RUMPCLIENT_RETRYCONN_INFTIME);
    RumpPipe pipe;
    own.Kill();
    own.Start();
    EXPECT_EQ(-1, rump_sys_write(pipe.writer, "x", 1));
    EXPECT_EQ(EBADF, errno) << "it is a new process";
    EXPECT_LT(0, rump_sys_getpid());
  });
}

}  // namespace
}  // namespace rump::client
