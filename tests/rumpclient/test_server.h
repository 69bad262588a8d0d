// A rump_server of a test's own, which can be killed and started again, and programs that use it.
#ifndef TESTS_RUMPCLIENT_TEST_SERVER_H_
#define TESTS_RUMPCLIENT_TEST_SERVER_H_

#include <stdint.h>
#include <sys/types.h>

#include <functional>
#include <initializer_list>
#include <string>

#include "gtest/gtest.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {

class TestServer {
 public:
  // `option`: one of rump_server's; nullptr for what SERVER_OPTION in the environment says, if
  // anything.
  explicit TestServer(Transport transport = Transport::kUnix, const char* option = nullptr);
  ~TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  // Starts it at the same URL.
  void Start();
  // SIGKILL; returns when it is gone.
  void Kill();

  const std::string& directory() const { return directory_; }
  std::string path() const { return directory_ + "/s"; }
  const std::string& url() const { return url_; }

 private:
  const char* const option_;
  std::string directory_;
  std::string url_;
  pid_t pid_ = -1;
};

// Runs `program` in a process of its own, which has called rumpclient_init(), and expects all its
// expectations to hold.
void RunProgram(const TestServer& server, const std::function<void()>& program);
// The same without rumpclient_init().
void RunBareProgram(const TestServer& server, const std::function<void()>& program);

// Ends the calling process, with what its expectations came to as its status.
[[noreturn]] void ExitWithResult();
// Expects that process to end well.
void ExpectGoodEnd(pid_t pid);

// Waits until the server has `count` calls of this process in flight.
void AwaitCallsInFlight(int count);
// How many processes the server has.
int CountProcesses();

// A system call of the server's: its value, or -errno.
long Call(int number, std::initializer_list<uint64_t> args);

// sigaction(2) without a mask.
void Handle(int signo, void (*handler)(int), int flags);

// ThreadSanitizer's runtime holds handlers back until the thread calls libc.
#ifdef __SANITIZE_THREAD__
#define SKIP_WITHOUT_PROMPT_HANDLERS() GTEST_SKIP() << "not under ThreadSanitizer"
#else
#define SKIP_WITHOUT_PROMPT_HANDLERS()
#endif

struct RumpPipe {
  RumpPipe();  // read end, write end
  int reader = -1;
  int writer = -1;
};

}  // namespace rump::client

#endif  // TESTS_RUMPCLIENT_TEST_SERVER_H_
