// Calls that move several messages, calls with positions, and timeouts of sockets.
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <string>

#include "gtest/gtest.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

constexpr uint64_t kHeaders = 4096;
constexpr uint64_t kIovecs = 16384;
constexpr uint64_t kNames = 24576;
constexpr uint64_t kData = 32768;
constexpr uint64_t kPiece = 64;
constexpr uint64_t kArg = 65536;

class MessageCallsTest : public testing::Test {
 protected:
  // Puts `count` headers, each with one buffer of kPiece bytes and, if `names`, room for a name.
  void PutMessages(int count, bool names = false) {
    for (int i = 0; i < count; ++i) {
      mmsghdr message{};
      message.msg_hdr.msg_iov = reinterpret_cast<iovec*>(kIovecs + i * sizeof(iovec));
      message.msg_hdr.msg_iovlen = 1;
      if (names) {
        message.msg_hdr.msg_name = reinterpret_cast<void*>(kNames + 128 * i);
        message.msg_hdr.msg_namelen = 128;
      }
      message.msg_len = 0x7777;
      program_.Put(kHeaders + i * sizeof message, message);
      program_.Put(kIovecs + i * sizeof(iovec),
                   iovec{reinterpret_cast<void*>(kData + i * kPiece), kPiece});
    }
  }
  mmsghdr Message(int i) { return program_.Get<mmsghdr>(kHeaders + i * sizeof(mmsghdr)); }
  int64_t SetTimeout(int fd, int option, timeval timeout) {
    program_.Put(kArg, timeout);
    return program_.Call(SYS_setsockopt, fd, SOL_SOCKET, option, kArg, sizeof timeout);
  }

  void Cancel(uint64_t reqno) {
    program_.client().Send({.reqno = 700, .type = FrameType::kCancel},
                           {reinterpret_cast<const char*>(&reqno), sizeof reqno});
  }

  ServerThread server_;
  TestProgram program_{server_.path()};
};

TEST_F(MessageCallsTest, SendsAndReceivesSeveral) {
  const auto [a, b] = program_.Socketpair(SOCK_DGRAM);
  ASSERT_EQ(program_.BindUnix(a, "@sender"), 0);
  PutMessages(3);
  EXPECT_EQ(program_.Call(SYS_sendmmsg, a, kHeaders, 3, 0), 3);
  EXPECT_EQ(Message(2).msg_len, kPiece);
  program_.Write(a, "short");
  PutMessages(5, /*names=*/true);
  EXPECT_EQ(program_.Call(SYS_recvmmsg, b, kHeaders, 5, MSG_WAITFORONE, 0), 4);
  EXPECT_EQ(Message(0).msg_len, kPiece);
  EXPECT_EQ(Message(3).msg_len, 5U);
  EXPECT_EQ(Message(3).msg_hdr.msg_namelen, 2 + strlen("@sender"));
  EXPECT_EQ(program_.Text(kData + 3 * kPiece, 5), "short");
  EXPECT_EQ(Message(4).msg_len, 0x7777U) << "not touched";
}

TEST_F(MessageCallsTest, WaitsForAll) {
  const auto [a, b] = program_.Socketpair(SOCK_DGRAM);
  PutMessages(2);
  const uint64_t receive = program_.StartBlocked(SYS_recvmmsg, b, kHeaders, 2, 0, 0);
  program_.Write(a, "one");
  EXPECT_FALSE(program_.HasFinished(receive));
  program_.Write(a, "three");
  EXPECT_EQ(program_.Finish(receive), 2);
  EXPECT_EQ(Message(1).msg_len, 5U);
}

TEST_F(MessageCallsTest, LongRecordIsMarkedAsCut) {
  const auto [a, b] = program_.Socketpair(SOCK_SEQPACKET);
  program_.Write(a, std::string(kPiece + 1, 'x'));
  PutMessages(1);
  EXPECT_EQ(program_.Call(SYS_recvmmsg, b, kHeaders, 1, 0, 0), 1);
  EXPECT_EQ(Message(0).msg_hdr.msg_flags, MSG_TRUNC);
}

TEST_F(MessageCallsTest, WhatWorkedIsReturnedBeforeAnError) {
  const auto [a, b] = program_.Socketpair(SOCK_DGRAM);
  PutMessages(3);
  program_.Put(kIovecs + sizeof(iovec), iovec{reinterpret_cast<void*>(TestProgram::kBad), 10});
  EXPECT_EQ(program_.Call(SYS_sendmmsg, a, kHeaders, 3, 0), 1);
  program_.Put(kIovecs, iovec{reinterpret_cast<void*>(TestProgram::kBad), 10});
  EXPECT_EQ(program_.Call(SYS_sendmmsg, a, kHeaders, 3, 0), -EFAULT);
  PutMessages(3);
  EXPECT_EQ(program_.Call(SYS_recvmmsg, b, kHeaders, 3, MSG_DONTWAIT, 0), 1);
  EXPECT_EQ(program_.Call(SYS_recvmmsg, b, kHeaders, 3, MSG_DONTWAIT, 0), -EAGAIN);
}

TEST_F(MessageCallsTest, InterruptionLeavesWhatWasReceived) {
  const auto [a, b] = program_.Socketpair(SOCK_DGRAM);
  PutMessages(3);
  const uint64_t none = program_.StartBlocked(SYS_recvmmsg, b, kHeaders, 3, 0, 0);
  Cancel(none);
  EXPECT_EQ(program_.Finish(none), -EINTR);
  const uint64_t some = program_.StartBlocked(SYS_recvmmsg, b, kHeaders, 3, 0, 0);
  program_.Write(a, "one");
  program_.Write(a, "three");
  for (int i = 0; i < 6; ++i) program_.Call(SYS_getpid);  // its copies
  EXPECT_FALSE(program_.HasFinished(some));
  Cancel(some);
  EXPECT_EQ(program_.Finish(some), 2);
  EXPECT_EQ(Message(1).msg_len, 5U);
}

TEST_F(MessageCallsTest, InterruptionLeavesWhatWasSent) {
  const auto [a, b] = program_.Socketpair(SOCK_DGRAM);
  program_.Put(kArg, int{1});
  ASSERT_EQ(program_.Call(SYS_setsockopt, a, SOL_SOCKET, SO_SNDBUF, kArg, sizeof(int)), 0);
  constexpr int kMessages = 100;
  PutMessages(kMessages);
  const uint64_t some = program_.Start(SYS_sendmmsg, a, kHeaders, kMessages, 0);
  for (int i = 0; i < 4 * kMessages; ++i) program_.Call(SYS_getpid);  // its copies
  EXPECT_FALSE(program_.HasFinished(some));
  Cancel(some);
  const int64_t sent = program_.Finish(some);
  EXPECT_GT(sent, 0);
  EXPECT_LT(sent, kMessages);
  const uint64_t none = program_.StartBlocked(SYS_sendmmsg, a, kHeaders, kMessages, 0);
  Cancel(none);
  EXPECT_EQ(program_.Finish(none), -EINTR);
  EXPECT_EQ(program_.Call(SYS_recvmmsg, b, kHeaders, kMessages, MSG_DONTWAIT, 0), sent);
}

TEST_F(MessageCallsTest, TimeoutEndsReceivingAfterAMessage) {
  const auto [a, b] = program_.Socketpair(SOCK_DGRAM);
  program_.Write(a, "one");
  program_.Write(a, "two");
  PutMessages(2);
  program_.Put(kArg, timespec{.tv_sec = 0, .tv_nsec = 0});
  EXPECT_EQ(program_.Call(SYS_recvmmsg, b, kHeaders, 2, 0, kArg), 1);
  program_.Put(kArg, timespec{.tv_sec = -1, .tv_nsec = 0});
  EXPECT_EQ(program_.Call(SYS_recvmmsg, b, kHeaders, 2, 0, kArg), -EINVAL);
}

TEST_F(MessageCallsTest, HostileArguments) {
  const auto [a, b] = program_.Socketpair(SOCK_DGRAM);
  const auto [reader, writer] = program_.Pipe();
  EXPECT_EQ(program_.Call(SYS_sendmmsg, writer, kHeaders, 1, 0), -ENOTSOCK);
  EXPECT_EQ(program_.Call(SYS_recvmmsg, reader, kHeaders, 1, 0, 0), -ENOTSOCK);
  EXPECT_EQ(program_.Call(SYS_sendmmsg, 77, kHeaders, 1, 0), -EBADF);
  EXPECT_EQ(program_.Call(SYS_sendmmsg, a, kHeaders, 0, 0), 0);
  EXPECT_EQ(program_.Call(SYS_sendmmsg, a, TestProgram::kBad, 1, 0), -EFAULT);
  EXPECT_EQ(program_.Call(SYS_sendmmsg, a, TestProgram::kBad, ~uint64_t{0}, 0), -EFAULT);
  EXPECT_EQ(program_.Call(SYS_recvmmsg, b, TestProgram::kBad, 1, 0, 0), -EFAULT);
}

TEST_F(MessageCallsTest, AncillaryDataIsNotLostSilently) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  PutMessages(1);
  mmsghdr message = Message(0);
  message.msg_hdr.msg_control = reinterpret_cast<void*>(kArg);
  message.msg_hdr.msg_controllen = 20;
  program_.Put(kHeaders, message);
  EXPECT_EQ(program_.Call(SYS_sendmsg, a, kHeaders, 0), -EOPNOTSUPP);
}

TEST_F(MessageCallsTest, NoFileHasAPosition) {
  const auto [reader, writer] = program_.Pipe();
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  const auto epoll = static_cast<int>(program_.Call(SYS_epoll_create1, 0));
  for (const int fd : {reader, writer, a, epoll}) {
    for (const uint32_t call : {SYS_pread64, SYS_pwrite64}) {
      EXPECT_EQ(program_.Call(call, fd, kData, 10, 0), -ESPIPE);
    }
    for (const uint32_t call : {SYS_preadv, SYS_pwritev}) {
      EXPECT_EQ(program_.Call(call, fd, kIovecs, 1, 0, 0), -ESPIPE);
    }
  }
  EXPECT_EQ(program_.Call(SYS_pread64, 77, kData, 10, 0), -EBADF);
  EXPECT_EQ(program_.Call(SYS_pread64, reader, kData, 10, -1), -EINVAL);
}

TEST_F(MessageCallsTest, ReceiveTimeoutIsEagain) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  ASSERT_EQ(SetTimeout(b, SO_RCVTIMEO, {.tv_sec = 0, .tv_usec = 5000}), 0);
  EXPECT_EQ(program_.Read(b), "errno " + std::to_string(EAGAIN));
  EXPECT_EQ(program_.Call(SYS_recvfrom, b, kData, 10, 0, 0, 0), -EAGAIN);
  program_.Write(a, "part");
  EXPECT_EQ(program_.Call(SYS_recvfrom, b, kData, 10, MSG_WAITALL, 0, 0), 4);
  // A long one does not end early, and zero is none.
  ASSERT_EQ(SetTimeout(b, SO_RCVTIMEO, {.tv_sec = 1000, .tv_usec = 0}), 0);
  const uint64_t read = program_.StartBlocked(SYS_read, b, kData, 10);
  EXPECT_FALSE(program_.HasFinished(read));
  program_.Write(a, "x");
  EXPECT_EQ(program_.Finish(read), 1);
  EXPECT_EQ(SetTimeout(b, SO_RCVTIMEO, {.tv_sec = 0, .tv_usec = 1'000'000}), -EDOM);
}

TEST_F(MessageCallsTest, SendTimeoutIsEagainOrWhatWasSent) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  ASSERT_EQ(SetTimeout(a, SO_SNDTIMEO, {.tv_sec = 0, .tv_usec = 5000}), 0);
  int64_t last = 0;
  int64_t total = 0;
  while ((last = program_.Call(SYS_write, a, kData, 100'000)) > 0) total += last;
  EXPECT_EQ(last, -EAGAIN);
  EXPECT_NE(total % 100'000, 0) << "the last one that fitted in part was partial";
}

TEST_F(MessageCallsTest, TimeoutsOfTcpSockets) {
  const auto listener = static_cast<int>(program_.Call(SYS_socket, AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(program_.Call(SYS_listen, listener, 1), 0);
  ASSERT_EQ(SetTimeout(listener, SO_RCVTIMEO, {.tv_sec = 0, .tv_usec = 5000}), 0);
  EXPECT_EQ(program_.Call(SYS_accept, listener, 0, 0), -EAGAIN);
  const auto udp = static_cast<int>(program_.Call(SYS_socket, AF_INET, SOCK_DGRAM, 0));
  ASSERT_EQ(SetTimeout(udp, SO_RCVTIMEO, {.tv_sec = 0, .tv_usec = 5000}), 0);
  EXPECT_EQ(program_.Call(SYS_recvfrom, udp, kData, 10, 0, 0, 0), -EAGAIN);
}

// Nobody takes the connections of a listener with a full queue, so that the next is left waiting.
TEST_F(MessageCallsTest, ConnectTimeoutIsEinprogress) {
  const auto listener = static_cast<int>(program_.Call(SYS_socket, AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(program_.Call(SYS_listen, listener, 0), 0);
  program_.Put(kArg, socklen_t{sizeof(sockaddr_in)});
  ASSERT_EQ(program_.Call(SYS_getsockname, listener, kData, kArg), 0);
  auto address = program_.Get<sockaddr_in>(kData);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  program_.Put(kData, address);
  int64_t result = 0;
  for (int i = 0; i < 4 && result == 0; ++i) {
    const auto client = static_cast<int>(program_.Call(SYS_socket, AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(SetTimeout(client, SO_SNDTIMEO, {.tv_sec = 0, .tv_usec = 20'000}), 0);
    result = program_.Call(SYS_connect, client, kData, sizeof address);
  }
  EXPECT_EQ(result, -EINPROGRESS);
}

}  // namespace
}  // namespace rump
