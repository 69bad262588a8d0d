// A connection as tests use it, and calls for it.
#ifndef TESTS_RUMPCLIENT_CORE_TEST_CLIENT_H_
#define TESTS_RUMPCLIENT_CORE_TEST_CLIENT_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "rumpclient/core/connection.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {

inline constexpr uint64_t kAnyFd = 7;

inline uint64_t Address(const void* p) { return reinterpret_cast<uint64_t>(p); }

inline std::string_view BytesAt(const void* p, size_t n) {
  return {static_cast<const char*>(p), n};
}

inline Call MakeCall(uint32_t number, std::vector<uint64_t> args = {}) {
  Call call;
  call.number = number;
  call.nargs = args.size();
  std::copy(args.begin(), args.end(), call.args);
  return call;
}

inline Call Read(void* to, size_t n) { return MakeCall(SYS_read, {kAnyFd, Address(to), n}); }
inline Call Write(const void* from, size_t n) {
  return MakeCall(SYS_write, {kAnyFd, Address(from), n});
}

// A connection whose GUEST handshake was accepted.
class Client {
 public:
  explicit Client(const FakeServer& server) {
    EXPECT_EQ(0, connection_.Open(server.endpoint()));
    EXPECT_EQ(0, connection_.Guest("test"));
  }
  ~Client() { connection_.Abandon(); }
  Connection& operator*() { return connection_; }
  Connection* operator->() { return &connection_; }

  // Issues and expects an outcome.
  void Succeed(Call call, uint64_t retval, Interruption* interruption = nullptr) {
    EXPECT_EQ(0, connection_.Issue(&call, interruption));
    EXPECT_EQ(0, call.error);
    EXPECT_EQ(retval, call.retval[0]);
  }
  void Fail(Call call, int error) {
    EXPECT_EQ(0, connection_.Issue(&call));
    EXPECT_EQ(error, call.error);
  }
  void Lose(Call call) {
    EXPECT_EQ(-ENOTCONN, connection_.Issue(&call));
    EXPECT_FALSE(connection_.open());
  }

 private:
  Connection connection_;
};

// A page that can be used, and behind it one that cannot.
class HalfBadMemory {
 public:
  explicit HalfBadMemory(size_t good) : good_(good) {
    base_ = static_cast<char*>(
        mmap(nullptr, 2 * good, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_EQ(0, mprotect(base_ + good, good, PROT_NONE));
  }
  ~HalfBadMemory() { munmap(base_, 2 * good_); }
  char* good() { return base_; }
  char* bad() { return base_ + good_; }

 private:
  const size_t good_;
  char* base_;
};

}  // namespace rump::client

#endif  // TESTS_RUMPCLIENT_CORE_TEST_CLIENT_H_
