#include "hijack/object_id.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>

namespace rump::hijack {
namespace {

// A socket bound to the abstract `name`.
class NamedSocket {
 public:
  explicit NamedSocket(const std::string& name) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un addr = {};
    addr.sun_family = AF_UNIX;
    memcpy(addr.sun_path + 1, name.data(), name.size());
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&addr),
                   offsetof(sockaddr_un, sun_path) + 1 + name.size()),
              0)
        << strerror(errno);
  }
  NamedSocket(const NamedSocket&) = delete;
  NamedSocket& operator=(const NamedSocket&) = delete;
  ~NamedSocket() { close(fd_); }
  int fd() const { return fd_; }

 private:
  const int fd_;
};

TEST(ObjectIdTest, ReadsTheServersNames) {
  EXPECT_EQ(ObjectOf(NamedSocket("rump/00abcdef01234567").fd()), 0xabcdef01234567);
  EXPECT_EQ(ObjectOf(NamedSocket("rump/7fffffff00000001").fd()), 0x7fffffff00000001);
}

TEST(ObjectIdTest, OtherNamesAreTheHosts) {
  for (const char* name :
       {"rump/", "rump/xyz", "rump/1", "rump/00ABCDEF01234567", "rumq/1234567890",
        "rump/12345678901234567", "rump/8000000000000000", "rump/123456789 "}) {
    EXPECT_EQ(ObjectOf(NamedSocket(name).fd()), 0) << name;
  }
}

TEST(ObjectIdTest, OtherDescriptorsAreTheHosts) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  EXPECT_EQ(ObjectOf(fds[0]), 0);
  close(fds[0]);
  close(fds[1]);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  EXPECT_EQ(ObjectOf(fds[0]), 0);
  close(fds[0]);
  close(fds[1]);
}

TEST(ObjectIdTest, ClosedDescriptorsAreTold) {
  EXPECT_EQ(ObjectOf(-1), -EBADF);
  EXPECT_EQ(ObjectOf(100'000), -EBADF);
}

}  // namespace
}  // namespace rump::hijack
