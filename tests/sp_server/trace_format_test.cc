#include "sp_server/kernel/trace_format.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace rump {
namespace {

class FormatCallTest : public testing::Test {
 protected:
  void See(uint64_t addr, std::string_view bytes) {
    memory_.Add(addr, std::as_bytes(std::span(bytes.data(), bytes.size())));
  }
  template <typename T>
  void SeeObject(uint64_t addr, const T& object) {
    See(addr, {reinterpret_cast<const char*>(&object), sizeof object});
  }
  std::string Format(uint32_t number, const std::vector<uint64_t>& args, uint64_t result = 0,
                     int error = 0) const {
    return FormatCall(number, args, memory_, {.error = Errno(error), .result = result});
  }

  SeenMemory memory_;
};

TEST_F(FormatCallTest, Buffers) {
  See(0x1000, "a\"b\\c\nd\x01");
  EXPECT_EQ(Format(SYS_write, {3, 0x1000, 8}, 8), R"(write(3, "a\"b\\c\nd\x01", 8) = 8)");
  See(0x2000, std::string(33, 'x'));
  EXPECT_EQ(Format(SYS_read, {3, 0x2000, 64}, 33),
            "read(3, \"" + std::string(32, 'x') + "\"..., 64) = 33");
  EXPECT_EQ(Format(SYS_read, {3, 0x3000, 64}, 0, EBADF),
            "read(3, 0x3000, 64) = -1 EBADF (Bad file descriptor)");
  EXPECT_EQ(Format(SYS_read, {3, 0, 0}), "read(3, NULL, 0) = 0");
}

TEST_F(FormatCallTest, TheLastCopyCounts) {
  SeeObject(0x1000, socklen_t{128});
  SeeObject(0x1000, socklen_t{16});
  EXPECT_EQ(Format(SYS_getsockname, {3, 0, 0x1000}), "getsockname(3, NULL, [16]) = 0");
}

TEST_F(FormatCallTest, Addresses) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(80);
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  SeeObject(0x1000, in);
  EXPECT_EQ(Format(SYS_connect, {3, 0x1000, 16}, 0, ECONNREFUSED),
            "connect(3, {AF_INET, 127.0.0.1:80}, 16) = -1 ECONNREFUSED (Connection refused)");
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(443);
  in6.sin6_addr = in6addr_loopback;
  SeeObject(0x2000, in6);
  EXPECT_EQ(Format(SYS_bind, {3, 0x2000, 28}), "bind(3, {AF_INET6, [::1]:443}, 28) = 0");
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  strcpy(un.sun_path, "/a");
  SeeObject(0x3000, un);
  EXPECT_EQ(Format(SYS_bind, {3, 0x3000, 110}), "bind(3, {AF_UNIX, \"/a\"}, 110) = 0");
  See(0x4000, "x");
  EXPECT_EQ(Format(SYS_bind, {3, 0x4000, 1}, 0, EINVAL),
            "bind(3, \"x\", 1) = -1 EINVAL (Invalid argument)");
}

TEST_F(FormatCallTest, VectorsAndMessages) {
  const iovec vectors[2] = {{reinterpret_cast<void*>(0x5000), 2},
                            {reinterpret_cast<void*>(0x6000), 3}};
  SeeObject(0x1000, vectors);
  See(0x5000, "ab");
  EXPECT_EQ(Format(SYS_writev, {1, 0x1000, 2}, 2), "writev(1, [{\"ab\", 2}, {0x6000, 3}], 2) = 2");
  msghdr message{};
  message.msg_iov = reinterpret_cast<iovec*>(0x1000);
  message.msg_iovlen = 1;
  SeeObject(0x2000, message);
  EXPECT_EQ(Format(SYS_sendmsg, {1, 0x2000, MSG_DONTWAIT}, 2),
            "sendmsg(1, {name=NULL, iov=[{\"ab\", 2}], controllen=0, flags=0}, 64) = 2");
}

TEST_F(FormatCallTest, ACountThatLiesEndsWithWhatIsKnown) {
  const iovec vector = {nullptr, 1};
  SeeObject(0x1000, vector);
  EXPECT_EQ(Format(SYS_writev, {1, 0x1000, UINT64_MAX}, 0, EINVAL).substr(0, 30),
            "writev(1, [{NULL, 1}, ...], -1");
}

TEST_F(FormatCallTest, WordsAndNumbers) {
  const int fds[2] = {3, 4};
  SeeObject(0x1000, fds);
  EXPECT_EQ(Format(SYS_pipe2, {0x1000, 0x80000}), "pipe2([3, 4], 0x80000) = 0");
  SeeObject(0x2000, int{1});
  EXPECT_EQ(Format(SYS_setsockopt, {3, 1, 2, 0x2000, 4}), "setsockopt(3, 1, 2, [1], 4) = 0");
  EXPECT_EQ(Format(SYS_fcntl, {0xffffffff, 3, 0}, 0, EBADF),
            "fcntl(-1, 3, 0) = -1 EBADF (Bad file descriptor)");
}

TEST_F(FormatCallTest, Objects) {
  EXPECT_EQ(Format(kSysHostSocket, {2, 1, 0}, kFirstObjectId + 5),
            "host_socket(2, 1, 0) = 0x100000005");
  EXPECT_EQ(Format(kSysHostRelease, {kFirstObjectId + 5}), "host_release(object 0x100000005) = 0");
}

TEST_F(FormatCallTest, WhatNobodyKnows) {
  EXPECT_EQ(Format(9999, {1, 2}, 0, ENOSYS),
            "syscall_9999(0x1, 0x2) = -1 ENOSYS (Function not implemented)");
  EXPECT_EQ(Format(SYS_read, {7}, 0, EINVAL), "read(7) = -1 EINVAL (Invalid argument)");
  EXPECT_EQ(Format(SYS_getpid, {}, 0, 4000), "getpid() = -1 4000 (unknown error)");
}

}  // namespace
}  // namespace rump
