#ifndef TESTS_RUMPCLIENT_CALLER_H_
#define TESTS_RUMPCLIENT_CALLER_H_

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <functional>
#include <thread>
#include <utility>

#include "gtest/gtest.h"

namespace rump::client {

// A thread in one call: `call` returns what the system call did, and sees errno.
class Caller {
 public:
  explicit Caller(std::function<long()> call)
      : thread_([this, call = std::move(call)] {
          result_ = call();
          error_ = errno;
        }) {}
  void Signal(int signo) { EXPECT_EQ(0, pthread_kill(thread_.native_handle(), signo)); }
  void ExpectEintr() {
    thread_.join();
    EXPECT_EQ(-1, result_);
    EXPECT_EQ(EINTR, error_);
  }
  void ExpectResult(long result) {
    thread_.join();
    EXPECT_EQ(result, result_) << strerror(error_);
  }

 private:
  long result_ = 0;
  int error_ = 0;
  std::thread thread_;
};

}  // namespace rump::client

#endif  // TESTS_RUMPCLIENT_CALLER_H_
