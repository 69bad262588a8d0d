// The "cancel" extension: what CANCEL ends, and what it leaves alone.
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <optional>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "protocol/frame.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

// A process with a pipe: descriptor 0 reads, 1 writes.
class CancelTest : public testing::Test {
 protected:
  CancelTest() {
    EXPECT_TRUE(client_.Guest());
    EXPECT_EQ(client_.Finish(client_.SendCall(SYS_pipe, {0}), &memory_).error, 0);
  }
  void Cancel(uint64_t reqno) {
    client_.Send({.reqno = 700, .type = FrameType::kCancel},
                 {reinterpret_cast<const char*>(&reqno), sizeof reqno});
  }
  // The next frame is a COPYIN; returns its reqno.
  uint64_t ExpectCopyIn() {
    const std::optional<RawFrame> frame = client_.Receive();
    EXPECT_TRUE(frame && frame->header.type == FrameType::kCopyIn);
    return frame ? frame->header.reqno : 0;
  }
  void Answer(uint64_t reqno, std::string_view data) {
    client_.Send({.reqno = reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn}, data);
  }

  // The error that is the next frame, for `reqno`.
  static WireError ReceiveError(RawClient& client, uint64_t reqno) {
    const std::optional<RawFrame> frame = client.Receive();
    EXPECT_TRUE(frame && frame->header.cls == FrameClass::kError && frame->header.reqno == reqno);
    return frame ? static_cast<WireError>(frame->header.u) : WireError::kNone;
  }

  ServerThread server_;
  RawClient client_{server_.path()};
  std::string memory_ = std::string(64, '\0');
};

TEST_F(CancelTest, EndsABlockedCallAndNoOther) {
  const uint64_t first = client_.SendCall(SYS_read, {0, 0, 8});
  const uint64_t second = client_.SendCall(SYS_read, {0, 8, 8});
  Cancel(second);
  EXPECT_EQ(client_.Finish(second, &memory_).error, EINTR);
  const uint64_t write = client_.SendCall(SYS_write, {1, 0, 5});
  EXPECT_EQ(client_.Finish(write, &memory_).retval[0], 5U);
  EXPECT_EQ(client_.Finish(first, &memory_).retval[0], 5U);
}

TEST_F(CancelTest, LeavesWhatTheCallHasDone) {
  constexpr size_t kChunk = 64 * 1024;
  const uint64_t write = client_.SendCall(SYS_write, {1, 0, 4 * kChunk});
  Answer(ExpectCopyIn(), std::string(kChunk, 'x'));
  Answer(ExpectCopyIn(), std::string(kChunk, 'y'));
  Cancel(write);
  const SyscallResultPayload result = client_.Finish(write, &memory_);
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.retval[0], kChunk);
}

TEST_F(CancelTest, DoesNotWaitForACopy) {
  const uint64_t write = client_.SendCall(SYS_write, {1, 0, 5});
  const uint64_t copyin = ExpectCopyIn();
  Cancel(write);
  EXPECT_EQ(client_.Finish(write, &memory_).error, EINTR);
  Answer(copyin, "hello");
  const uint64_t again = client_.SendCall(SYS_write, {1, 0, 3});
  EXPECT_EQ(client_.Finish(again, &memory_).retval[0], 3U);
  const uint64_t read = client_.SendCall(SYS_read, {0, 0, 8});
  EXPECT_EQ(client_.Finish(read, &memory_).retval[0], 3U);
}

TEST_F(CancelTest, TakesNoDatagramAlong) {
  const auto fd = client_.CallResult(SYS_socket, {AF_INET, SOCK_DGRAM, 0}).retval[0];
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  memory_.replace(16, sizeof address, reinterpret_cast<char*>(&address), sizeof address);
  memory_.replace(32, sizeof length, reinterpret_cast<char*>(&length), sizeof length);
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_bind, {fd, 16, 16}), &memory_).error, 0);
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_getsockname, {fd, 16, 32}), &memory_).error, 0);
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_sendto, {fd, 40, 3, 0, 16, 16}), &memory_).error,
            0);

  const uint64_t receive = client_.SendCall(SYS_recvfrom, {fd, 40, 8, 0, 16, 32});
  ExpectCopyIn();
  Cancel(receive);
  EXPECT_EQ(client_.Finish(receive, &memory_).error, EINTR);
  const uint64_t again = client_.SendCall(SYS_recvfrom, {fd, 40, 8, 0, 16, 32});
  EXPECT_EQ(client_.Finish(again, &memory_).retval[0], 3U);
}

TEST_F(CancelTest, OfNothingIsIgnored) {
  Cancel(123456);
  EXPECT_EQ(client_.CallResult(SYS_getpid, {}).error, 0);
  client_.Send({.reqno = 8, .type = FrameType::kCancel}, "abc");
  EXPECT_EQ(ReceiveError(client_, 8), WireError::kMalformedRequest);
  RawClient stranger(server_.path());
  stranger.Send({.reqno = 9, .type = FrameType::kCancel}, std::string(8, '\0'));
  EXPECT_EQ(ReceiveError(stranger, 9), WireError::kAuth);
}

TEST_F(CancelTest, ExecDoesNotWaitForACopyEither) {
  client_.SendCall(SYS_write, {1, 0, 5});
  const uint64_t copyin = ExpectCopyIn();
  client_.Send({.reqno = 500, .u = static_cast<uint32_t>(HandshakeKind::kExec)},
               std::string("new\0", 4));
  const std::optional<RawFrame> answer = client_.Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.reqno, 500U);
  Answer(copyin, "hello");
  EXPECT_EQ(client_.CallResult(SYS_getpid, {}).error, 0);
}

}  // namespace
}  // namespace rump
