// Duplicates of descriptors and what fcntl(2), ioctl(2) and the calls that make descriptors say
// about them.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <string>

#include "gtest/gtest.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

constexpr uint64_t kAddress = 4096;
constexpr uint64_t kLength = 4224;
constexpr uint64_t kInt = 4352;

class DescriptorFlagsTest : public testing::Test {
 protected:
  int64_t FdFlags(int64_t fd) { return program_.Call(SYS_fcntl, fd, F_GETFD, 0); }
  bool IsNonblocking(int64_t fd) {
    return (program_.Call(SYS_fcntl, fd, F_GETFL, 0) & O_NONBLOCK) != 0;
  }

  ServerThread server_;
  TestProgram program_{server_.path()};
};

TEST_F(DescriptorFlagsTest, DuplicatesAreNotCloseOnExecUnlessAskedFor) {
  const auto [reader, writer] = program_.Pipe(O_CLOEXEC);
  EXPECT_EQ(FdFlags(reader), FD_CLOEXEC);
  EXPECT_EQ(program_.Call(SYS_dup, reader), 2);
  EXPECT_EQ(FdFlags(2), 0);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_DUPFD, 10), 10);
  EXPECT_EQ(FdFlags(10), 0);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_DUPFD_CLOEXEC, 10), 11);
  EXPECT_EQ(FdFlags(11), FD_CLOEXEC);
  EXPECT_EQ(program_.Call(SYS_dup2, reader, 20), 20);
  EXPECT_EQ(FdFlags(20), 0);
  EXPECT_EQ(program_.Call(SYS_dup3, reader, 21, O_CLOEXEC), 21);
  EXPECT_EQ(FdFlags(21), FD_CLOEXEC);
  EXPECT_EQ(program_.Call(SYS_dup3, reader, 22, 0), 22);
  EXPECT_EQ(FdFlags(22), 0);
}

TEST_F(DescriptorFlagsTest, Dup2ToItselfChangesNothingAndDup3Refuses) {
  const auto [reader, writer] = program_.Pipe(O_CLOEXEC);
  EXPECT_EQ(program_.Call(SYS_dup2, reader, reader), reader);
  EXPECT_EQ(FdFlags(reader), FD_CLOEXEC);
  EXPECT_EQ(program_.Call(SYS_dup3, reader, reader, 0), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_dup3, reader, 20, O_NONBLOCK), -EINVAL);
}

TEST_F(DescriptorFlagsTest, DuplicateReplacesWhatWasThere) {
  const auto [reader, writer] = program_.Pipe();
  const auto [other, other_writer] = program_.Pipe();
  EXPECT_EQ(program_.Call(SYS_dup2, reader, other_writer), other_writer);
  EXPECT_EQ(program_.Read(other), "") << "its last writer was replaced";
  EXPECT_EQ(program_.Write(writer, "abc"), 3);
  EXPECT_EQ(program_.Read(other_writer), "abc");
}

TEST_F(DescriptorFlagsTest, DuplicatesShareTheFilesFlags) {
  const auto [reader, writer] = program_.Pipe();
  const int64_t copy = program_.Call(SYS_dup, reader);
  EXPECT_EQ(program_.Call(SYS_fcntl, copy, F_SETFL, O_NONBLOCK), 0);
  EXPECT_TRUE(IsNonblocking(reader));
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_GETFL, 0) & O_ACCMODE, O_RDONLY);
  EXPECT_EQ(program_.Call(SYS_fcntl, writer, F_GETFL, 0) & O_ACCMODE, O_WRONLY);
  EXPECT_EQ(program_.Call(SYS_fcntl, copy, F_SETFL, O_WRONLY), 0);
  EXPECT_FALSE(IsNonblocking(reader));
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_GETFL, 0) & O_ACCMODE, O_RDONLY);
}

TEST_F(DescriptorFlagsTest, FionbioIsNonblocking) {
  const auto [reader, writer] = program_.Pipe();
  program_.Put(kInt, 1);
  EXPECT_EQ(program_.Call(SYS_ioctl, reader, FIONBIO, kInt), 0);
  ASSERT_TRUE(IsNonblocking(reader));
  EXPECT_EQ(program_.Read(reader), "errno " + std::to_string(EAGAIN));
  program_.Put(kInt, 0);
  EXPECT_EQ(program_.Call(SYS_ioctl, reader, FIONBIO, kInt), 0);
  EXPECT_FALSE(IsNonblocking(reader));
}

TEST_F(DescriptorFlagsTest, TypeFlagsOfSocketsAndAccept4) {
  const int64_t fd =
      program_.Call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  EXPECT_EQ(FdFlags(fd), FD_CLOEXEC);
  EXPECT_TRUE(IsNonblocking(fd));
  ASSERT_EQ(program_.BindUnix(static_cast<int>(fd), "@flags"), 0);
  ASSERT_EQ(program_.Call(SYS_listen, fd, 4), 0);
  EXPECT_EQ(program_.Call(SYS_accept4, fd, 0, 0, SOCK_CLOEXEC), -EAGAIN);
  EXPECT_EQ(program_.Call(SYS_accept4, fd, 0, 0, O_APPEND), -EINVAL);
  for (const int flags : {0, int{SOCK_NONBLOCK}, int{SOCK_CLOEXEC}}) {
    const int64_t end = program_.Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    ASSERT_EQ(program_.ConnectUnix(static_cast<int>(end), "@flags"), 0);
    const int64_t accepted = program_.Call(SYS_accept4, fd, 0, 0, flags);
    EXPECT_EQ(FdFlags(accepted), flags == SOCK_CLOEXEC ? FD_CLOEXEC : 0);
    EXPECT_EQ(IsNonblocking(accepted), flags == SOCK_NONBLOCK) << "not inherited on Linux";
  }
}

// One listener for both: an IPv4 client's address is a mapped one there.
TEST_F(DescriptorFlagsTest, Inet6ListenerTakesInetConnections) {
  const int64_t listener = program_.Call(SYS_socket, AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  program_.Put(kAddress, any);
  ASSERT_EQ(program_.Call(SYS_bind, listener, kAddress, sizeof any), 0);
  ASSERT_EQ(program_.Call(SYS_listen, listener, 4), 0);
  program_.Put(kLength, socklen_t{sizeof any});
  ASSERT_EQ(program_.Call(SYS_getsockname, listener, kAddress, kLength), 0);
  const in_port_t port = program_.Get<sockaddr_in6>(kAddress).sin6_port;

  const int64_t four = program_.Call(SYS_socket, AF_INET, SOCK_STREAM, 0);
  sockaddr_in loopback{};
  loopback.sin_family = AF_INET;
  loopback.sin_port = port;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  program_.Put(kAddress, loopback);
  ASSERT_EQ(program_.Call(SYS_connect, four, kAddress, sizeof loopback), 0);
  program_.Put(kLength, socklen_t{sizeof any});
  EXPECT_GE(program_.Call(SYS_accept, listener, kAddress, kLength), 0);
  const in6_addr mapped = program_.Get<sockaddr_in6>(kAddress).sin6_addr;
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&mapped));

  const int64_t six = program_.Call(SYS_socket, AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 loopback6{};
  loopback6.sin6_family = AF_INET6;
  loopback6.sin6_port = port;
  loopback6.sin6_addr = in6addr_loopback;
  program_.Put(kAddress, loopback6);
  ASSERT_EQ(program_.Call(SYS_connect, six, kAddress, sizeof loopback6), 0);
  program_.Put(kLength, socklen_t{sizeof any});
  EXPECT_GE(program_.Call(SYS_accept, listener, kAddress, kLength), 0);
  const in6_addr plain = program_.Get<sockaddr_in6>(kAddress).sin6_addr;
  EXPECT_TRUE(IN6_IS_ADDR_LOOPBACK(&plain));
}

}  // namespace
}  // namespace rump
