// What one connection may and may not say: the rules of docs/protocol.md.
#include "sp_server/server/session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <chrono>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class SessionTest : public testing::Test {
 protected:
  // The next frame is ERROR `error` for `reqno`.
  static void ExpectError(RawClient& client, uint64_t reqno, WireError error) {
    const std::optional<RawFrame> frame = client.Receive();
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(frame->header.cls, FrameClass::kError);
    EXPECT_EQ(frame->header.reqno, reqno);
    EXPECT_EQ(frame->header.u, static_cast<uint32_t>(error));
    EXPECT_EQ(frame->header.len, kHeaderSize);
  }
  static std::string Fork(const PreforkCookie& cookie, int32_t cancel = 0) {
    const ForkPayload fork{cookie, cancel};
    return std::string(reinterpret_cast<const char*>(&fork), sizeof fork);
  }
  static PreforkCookie Prefork(RawClient& client) {
    client.Send({.reqno = 900, .type = FrameType::kPrefork});
    const std::optional<RawFrame> frame = client.Receive();
    PreforkCookie cookie;
    if (frame && frame->payload.size() == sizeof cookie) {
      memcpy(&cookie, frame->payload.data(), sizeof cookie);
    }
    return cookie;
  }
  static constexpr uint32_t kFork = static_cast<uint32_t>(HandshakeKind::kFork);
  static constexpr uint32_t kExec = static_cast<uint32_t>(HandshakeKind::kExec);

  ServerThread server_;
};

TEST_F(SessionTest, BannerNamesTheAbiAndTheExtensions) {
  RawClient client(server_.path());
  EXPECT_THAT(client.banner(), StartsWith("RUMPSP-0.4-Linux-"));
  EXPECT_THAT(client.banner(), HasSubstr("/x86_64 +cancel+hostfd+control+inline\n"));
}

TEST_F(SessionTest, GuestIsAProcessOfItsOwn) {
  RawClient first(server_.path());
  RawClient second(server_.path());
  ASSERT_TRUE(first.Guest());
  ASSERT_TRUE(second.Guest());
  const SyscallResultPayload a = first.CallResult(SYS_getpid, {});
  const SyscallResultPayload b = second.CallResult(SYS_getpid, {});
  EXPECT_EQ(a.error, 0);
  EXPECT_GT(a.retval[0], 1U);
  EXPECT_NE(a.retval[0], b.retval[0]);
  EXPECT_EQ(first.CallResult(SYS_getppid, {}).retval[0], 1U);
}

TEST_F(SessionTest, NothingButAHandshakeComesFirst) {
  RawClient client(server_.path());
  client.Send({.reqno = 7, .type = FrameType::kSyscall, .u = SYS_getpid});
  ExpectError(client, 7, WireError::kAuth);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(SessionTest, AuthHandshakeIsRefused) {
  RawClient client(server_.path());
  client.Send({.reqno = 7, .u = static_cast<uint32_t>(HandshakeKind::kAuth)}, "abc");
  ExpectError(client, 7, WireError::kAuth);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(SessionTest, GuestWithoutANameIsMalformed) {
  RawClient client(server_.path());
  client.Send({.reqno = 7});
  ExpectError(client, 7, WireError::kMalformedRequest);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(RawClient(server_.path()).Guest());
}

TEST_F(SessionTest, LongCommandNameIsCut) {
  const std::string name(10'000, 'n');
  RawClient named(server_.path());
  ASSERT_TRUE(named.Guest(name));
  RawClient renamed(server_.path());
  ASSERT_TRUE(renamed.Guest());
  renamed.Send({.reqno = 500, .u = kExec}, name + '\0');
  ASSERT_TRUE(renamed.Receive().has_value());
  RawClient reader(server_.path());
  ASSERT_TRUE(reader.Guest());
  std::string report;
  ASSERT_EQ(reader.Finish(reader.SendCall(kSysQuery, {0, 0, 64 * 1024, 0}), &report).error, 0);
  EXPECT_THAT(report, HasSubstr(name.substr(0, kMaxCommandName - 1)));
  EXPECT_THAT(report, testing::Not(HasSubstr(name.substr(0, kMaxCommandName))));
}

TEST_F(SessionTest, ExecWithoutANameLeavesTheConnectionAlive) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  client.Send({.reqno = 7, .u = kExec}, "unterminated");
  ExpectError(client, 7, WireError::kMalformedRequest);
  EXPECT_EQ(client.CallResult(SYS_getpid, {}).error, 0);
}

TEST_F(SessionTest, SecondGuestEndsTheConnection) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  client.Send({.reqno = 7}, std::string("x\0", 2));
  ExpectError(client, 7, WireError::kMalformedRequest);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(SessionTest, UnknownClassAndTypeLeaveTheConnectionAlive) {
  RawClient client(server_.path());
  client.Send({.reqno = 6, .cls = static_cast<FrameClass>(9), .type = FrameType::kSyscall});
  ExpectError(client, 6, WireError::kMalformedRequest);
  ASSERT_TRUE(client.Guest());
  client.Send({.reqno = 8, .type = static_cast<FrameType>(77)});
  ExpectError(client, 8, WireError::kMalformedRequest);
  EXPECT_EQ(client.CallResult(SYS_getpid, {}).error, 0);
}

TEST_F(SessionTest, ResponseThatNobodyWaitsForIsIgnored) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  client.Send({.reqno = 12345, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn}, "zz");
  EXPECT_EQ(client.CallResult(SYS_getpid, {}).error, 0);
}

TEST_F(SessionTest, ImpossibleLengthsEndTheConnection) {
  for (const uint64_t len :
       {uint64_t{0}, uint64_t{10}, uint64_t{kMaxFrame + 1}, uint64_t{1} << 62}) {
    RawClient client(server_.path());
    ASSERT_TRUE(client.Guest());
    FrameHeader header{.len = len, .reqno = 9, .type = FrameType::kSyscall};
    client.SendBytes({reinterpret_cast<const char*>(&header), sizeof header});
    EXPECT_TRUE(client.AtEnd()) << len;
  }
}

TEST_F(SessionTest, UnknownCallNumbersAreEnosys) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  for (const uint32_t number : {9999U, 0xffffffffU, 0x80000000U, 0x10fffU}) {
    EXPECT_EQ(client.CallResult(number, {1, 2, 3}).error, ENOSYS) << number;
  }
}

TEST_F(SessionTest, MissingArgumentsAreEinval) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  EXPECT_EQ(client.CallResult(SYS_read, {3}).error, EINVAL);
  EXPECT_EQ(client.CallResult(SYS_socket, {}).error, EINVAL);
}

TEST_F(SessionTest, PaddingOfAReplyIsZero) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  const SyscallResultPayload result = client.CallResult(SYS_getpid, {});
  EXPECT_EQ(result.pad, 0U);
  EXPECT_EQ(result.retval[1], 0U);
}

TEST_F(SessionTest, FrameMayComeByteByByte) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  const FrameHeader header{
      .len = kHeaderSize, .reqno = 77, .type = FrameType::kSyscall, .u = SYS_getpid};
  std::string bytes(kHeaderSize, '\0');
  EncodeHeader(header, reinterpret_cast<std::byte*>(bytes.data()));
  for (const char c : bytes) client.SendBytes({&c, 1});
  std::string memory;
  EXPECT_EQ(client.Finish(77, &memory).error, 0);
}

TEST_F(SessionTest, PipeCarriesBytesByCopies) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  std::string memory(64, '\0');
  ASSERT_EQ(client.Finish(client.SendCall(SYS_pipe, {16}), &memory).error, 0);
  int fds[2];
  memcpy(fds, memory.data() + 16, sizeof fds);
  memory.replace(0, 5, "hello");
  const auto wfd = static_cast<uint64_t>(fds[1]);
  const auto rfd = static_cast<uint64_t>(fds[0]);
  EXPECT_EQ(client.Finish(client.SendCall(SYS_write, {wfd, 0, 5}), &memory).retval[0], 5U);
  EXPECT_EQ(client.Finish(client.SendCall(SYS_read, {rfd, 32, 100}), &memory).retval[0], 5U);
  EXPECT_EQ(memory.substr(32, 5), "hello");
}

TEST_F(SessionTest, CopyinOfTheWrongSizeIsEfault) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  std::string memory(64, '\0');
  ASSERT_EQ(client.Finish(client.SendCall(SYS_pipe, {0}), &memory).error, 0);
  int fds[2];
  memcpy(fds, memory.data(), sizeof fds);
  for (const std::string reply : {"", "toolong"}) {
    const uint64_t reqno = client.SendCall(SYS_write, {static_cast<uint64_t>(fds[1]), 0, 5});
    const std::optional<RawFrame> copyin = client.Receive();
    ASSERT_TRUE(copyin && copyin->header.type == FrameType::kCopyIn);
    client.Send(
        {.reqno = copyin->header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn},
        reply);
    EXPECT_EQ(client.Finish(reqno, &memory).error, EFAULT);
  }
}

TEST_F(SessionTest, ForkClaimsACopyOnce) {
  RawClient parent(server_.path());
  ASSERT_TRUE(parent.Guest());
  std::string memory(64, '\0');
  ASSERT_EQ(parent.Finish(parent.SendCall(SYS_pipe, {0}), &memory).error, 0);
  int fds[2];
  memcpy(fds, memory.data(), sizeof fds);
  const PreforkCookie cookie = Prefork(parent);

  RawClient child(server_.path());
  child.Send({.reqno = 1, .u = kFork}, Fork(cookie));
  const std::optional<RawFrame> granted = child.Receive();
  ASSERT_TRUE(granted && granted->header.cls == FrameClass::kResponse);
  EXPECT_EQ(child.CallResult(SYS_getppid, {}).retval[0],
            parent.CallResult(SYS_getpid, {}).retval[0]);
  memory.replace(0, 5, "child");
  EXPECT_EQ(child.Finish(child.SendCall(SYS_write, {static_cast<uint64_t>(fds[1]), 0, 5}), &memory)
                .retval[0],
            5U);
  EXPECT_EQ(
      parent.Finish(parent.SendCall(SYS_read, {static_cast<uint64_t>(fds[0]), 32, 9}), &memory)
          .retval[0],
      5U);

  RawClient again(server_.path());
  again.Send({.reqno = 1, .u = kFork}, Fork(cookie));
  ExpectError(again, 1, WireError::kInvalidPrefork);
  EXPECT_TRUE(again.AtEnd());
}

TEST_F(SessionTest, CancelledForkIsGone) {
  RawClient parent(server_.path());
  ASSERT_TRUE(parent.Guest());
  const PreforkCookie cookie = Prefork(parent);
  RawClient cancel(server_.path());
  cancel.Send({.reqno = 1, .u = kFork}, Fork(cookie, 1));
  EXPECT_TRUE(cancel.AtEnd());
  RawClient child(server_.path());
  child.Send({.reqno = 1, .u = kFork}, Fork(cookie));
  ExpectError(child, 1, WireError::kInvalidPrefork);
}

TEST_F(SessionTest, UnclaimedForkEndsWithItsParent) {
  PreforkCookie cookie;
  {
    RawClient parent(server_.path());
    ASSERT_TRUE(parent.Guest());
    cookie = Prefork(parent);
    // The server closes its end once it has seen ours.
    shutdown(parent.fd(), SHUT_WR);
    EXPECT_TRUE(parent.AtEnd());
  }
  RawClient child(server_.path());
  child.Send({.reqno = 1, .u = kFork}, Fork(cookie));
  ExpectError(child, 1, WireError::kInvalidPrefork);
}

TEST_F(SessionTest, ExecDrainsBlockedCallsAndKeepsThePid) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  const uint64_t pid = client.CallResult(SYS_getpid, {}).retval[0];
  std::string memory(64, '\0');
  ASSERT_EQ(client.Finish(client.SendCall(SYS_pipe2, {0, O_CLOEXEC}), &memory).error, 0);
  int fds[2];
  memcpy(fds, memory.data(), sizeof fds);
  client.SendCall(SYS_read, {static_cast<uint64_t>(fds[0]), 0, 8});
  client.Send({.reqno = 500, .u = kExec}, std::string("new\0", 4));
  const std::optional<RawFrame> answer = client.Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.reqno, 500U) << "the blocked read must not answer";
  EXPECT_EQ(client.CallResult(SYS_getpid, {}).retval[0], pid);
  EXPECT_EQ(client.CallResult(SYS_close, {static_cast<uint64_t>(fds[0])}).error, EBADF);
}

TEST_F(SessionTest, ClosingWithABlockedCallFreesIt) {
  for (int i = 0; i < 100; ++i) {
    RawClient client(server_.path());
    ASSERT_TRUE(client.Guest());
    std::string memory(64, '\0');
    ASSERT_EQ(client.Finish(client.SendCall(SYS_pipe, {0}), &memory).error, 0);
    client.SendCall(SYS_read, {0, 0, 8});
    client.SendCall(SYS_write, {1, 0, 8});
  }
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  std::string report(64 * 1024, '\0');
  const uint64_t reqno = client.SendCall(kSysQuery, {0, 0, report.size(), 0});
  const SyscallResultPayload result = client.Finish(reqno, &report);
  ASSERT_EQ(result.error, 0);
  EXPECT_THAT(report.substr(0, result.retval[0]), testing::Not(HasSubstr("test")));
}

class PlainServerTest : public SessionTest {
 protected:
  static ServerOptions Options() {
    ServerOptions options;
    options.extensions = 0;
    return options;
  }
  ServerThread plain_{Options()};
};

TEST_F(PlainServerTest, BannerNamesTheAbiAlone) {
  EXPECT_THAT(RawClient(plain_.path()).banner(), testing::EndsWith("/x86_64\n"));
}

TEST_F(PlainServerTest, CancelIsMalformedAndTheCallGoesOn) {
  RawClient client(plain_.path());
  ASSERT_TRUE(client.Guest());
  std::string memory(64, '\0');
  ASSERT_EQ(client.Finish(client.SendCall(SYS_pipe, {0}), &memory).error, 0);
  const uint64_t read = client.SendCall(SYS_read, {0, 0, 8});
  client.Send({.reqno = 700, .type = FrameType::kCancel},
              {reinterpret_cast<const char*>(&read), sizeof read});
  ExpectError(client, 700, WireError::kMalformedRequest);
  EXPECT_EQ(client.Finish(client.SendCall(SYS_write, {1, 0, 5}), &memory).retval[0], 5U);
  EXPECT_EQ(client.Finish(read, &memory).retval[0], 5U);
}

TEST_F(PlainServerTest, CallsOfExtensionsAreEnosys) {
  RawClient client(plain_.path());
  ASSERT_TRUE(client.Guest());
  for (const SyscallSpec& spec : AllSyscalls()) {
    if (spec.number < kPrivateCallBase) continue;
    EXPECT_EQ(client.CallResult(spec.number, {AF_INET, SOCK_STREAM, 0, 0}).error, ENOSYS)
        << spec.name;
  }
}

TEST(ServerExtensions, OneDoesNotBringAnother) {
  ServerOptions options;
  options.extensions = kExtensionControl;
  const ServerThread server(options);
  RawClient client(server.path());
  EXPECT_THAT(client.banner(), testing::EndsWith("/x86_64 +control\n"));
  ASSERT_TRUE(client.Guest());
  EXPECT_EQ(client.CallResult(kSysHostSocket, {AF_INET, SOCK_STREAM, 0}).error, ENOSYS);
  EXPECT_EQ(client.CallResult(kSysQuery, {0, 0, 0, 0}).error, 0);
}

class PreforkLifetimeTest : public SessionTest {
 protected:
  static ServerOptions Options() {
    ServerOptions options;
    options.prefork_lifetime = std::chrono::milliseconds(20);
    return options;
  }
  ServerThread short_lived_{Options()};
};

TEST_F(PreforkLifetimeTest, UnclaimedForkExpires) {
  RawClient parent(short_lived_.path());
  ASSERT_TRUE(parent.Guest());
  const PreforkCookie cookie = Prefork(parent);
  // Its process goes from the report when it does.
  std::string report(64 * 1024, '\0');
  const auto waits = [&] {
    const uint64_t reqno = parent.SendCall(kSysQuery, {0, 0, report.size(), 0});
    const SyscallResultPayload result = parent.Finish(reqno, &report);
    return report.substr(0, result.retval[0]).find("waits for its fork") != std::string::npos;
  };
  while (waits()) {
  }
  RawClient child(short_lived_.path());
  child.Send({.reqno = 1, .u = kFork}, Fork(cookie));
  ExpectError(child, 1, WireError::kInvalidPrefork);
}

class LimitsTest : public testing::Test {
 protected:
  static ServerOptions Options() {
    ServerOptions options;
    options.max_clients = 3;
    options.max_preforks = 2;
    options.limits.calls_in_flight = 4;
    options.limits.output_bytes = 1 << 20;
    return options;
  }
  ServerThread server_{Options()};
};

TEST_F(LimitsTest, OneClientTooManyIsTurnedAway) {
  RawClient a(server_.path());
  RawClient b(server_.path());
  RawClient c(server_.path());
  ASSERT_TRUE(c.Guest());
  RawClient d(server_.path());
  ASSERT_TRUE(d.connected());
  EXPECT_FALSE(d.Guest());
  EXPECT_TRUE(d.AtEnd());
}

TEST_F(LimitsTest, OneCallTooManyIsTryAgain) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  std::string memory(64, '\0');
  ASSERT_EQ(client.Finish(client.SendCall(SYS_pipe, {0}), &memory).error, 0);
  for (int i = 0; i < 4; ++i) client.SendCall(SYS_read, {0, 0, 8});
  const uint64_t reqno = client.SendCall(SYS_getpid, {});
  const std::optional<RawFrame> frame = client.Receive();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->header.reqno, reqno);
  EXPECT_EQ(frame->header.u, static_cast<uint32_t>(WireError::kTryAgain));
}

TEST_F(LimitsTest, OnePreforkTooManyIsNoMemory) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  for (const bool granted : {true, true, false}) {
    client.Send({.reqno = 5, .type = FrameType::kPrefork});
    const std::optional<RawFrame> frame = client.Receive();
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(frame->header.cls, granted ? FrameClass::kResponse : FrameClass::kError);
  }
}

TEST_F(LimitsTest, ClientThatNeverReadsStopsNobody) {
  RawClient slow(server_.path());
  ASSERT_TRUE(slow.Guest());
  std::string frames;
  for (int i = 0; i < 200'000; ++i) {
    const FrameHeader header{
        .len = kHeaderSize, .reqno = 1, .type = FrameType::kSyscall, .u = SYS_getpid};
    frames.append(reinterpret_cast<const char*>(&header), sizeof header);
  }
  // Until the server has had enough and cuts the client off.
  slow.SendBytes(frames);
  EXPECT_EQ(send(slow.fd(), "", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  RawClient other(server_.path());
  ASSERT_TRUE(other.Guest());
  EXPECT_EQ(other.CallResult(SYS_getpid, {}).error, 0);
}

}  // namespace
}  // namespace rump
