// A stream has no frames: what the server reads at a time may end at any byte of one.
#include <string.h>
#include <sys/syscall.h>

#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "protocol/frame.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

std::string Frame(FrameHeader header, const std::string& payload = {}) {
  header.len = kHeaderSize + payload.size();
  std::string bytes(kHeaderSize, '\0');
  EncodeHeader(header, reinterpret_cast<std::byte*>(bytes.data()));
  return bytes + payload;
}

std::string Slots(std::initializer_list<uint64_t> args) {
  return {reinterpret_cast<const char*>(args.begin()), args.size() * sizeof(uint64_t)};
}

// Everything that a client may begin with, up to where the server asks for memory.
std::string Conversation() {
  return Frame({.reqno = 1}, std::string("split\0", 6)) +
         Frame({.reqno = 2, .type = FrameType::kSyscall, .u = SYS_pipe}, Slots({0})) +
         Frame({.reqno = 3, .type = FrameType::kPrefork}) +
         Frame({.reqno = 4, .u = static_cast<uint32_t>(HandshakeKind::kExec)},
               std::string("renamed\0", 8)) +
         Frame({.reqno = 5, .type = FrameType::kSyscall, .u = SYS_write}, Slots({1, 0, 5}));
}

class FrameSplitTest : public testing::Test {
 protected:
  FrameSplitTest() { EXPECT_TRUE(observer_.Guest()); }

  // Sends both parts, the second when the server has read the first.
  void SendInTwo(RawClient& client, const std::string& bytes, size_t first) {
    client.SendBytes(bytes.substr(0, first));
    // Its loop tells what is readable in the order in which it became so.
    for (int i = 0; i < 2; ++i) EXPECT_EQ(observer_.CallResult(SYS_getpid, {}).error, 0);
    client.SendBytes(bytes.substr(first));
  }
  static void ExpectAnswer(RawClient& client, FrameType type, uint64_t reqno) {
    const std::optional<RawFrame> frame = client.Receive();
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(frame->header.cls, FrameClass::kResponse);
    EXPECT_EQ(frame->header.type, type);
    EXPECT_EQ(frame->header.reqno, reqno);
  }

  ServerThread server_;
  RawClient observer_{server_.path()};
};

TEST_F(FrameSplitTest, RequestsMayEndAnywhere) {
  const std::string bytes = Conversation();
  for (size_t first = 1; first < bytes.size(); ++first) {
    SCOPED_TRACE(first);
    RawClient client(server_.path());
    SendInTwo(client, bytes, first);
    ExpectAnswer(client, FrameType::kHandshake, 1);
    const std::optional<RawFrame> fds = client.Receive();
    ASSERT_TRUE(fds && fds->header.type == FrameType::kCopyOut);
    ExpectAnswer(client, FrameType::kSyscall, 2);
    ExpectAnswer(client, FrameType::kPrefork, 3);
    ExpectAnswer(client, FrameType::kHandshake, 4);
    const std::optional<RawFrame> copyin = client.Receive();
    ASSERT_TRUE(copyin && copyin->header.type == FrameType::kCopyIn);
  }
}

TEST_F(FrameSplitTest, AnswersMayEndAnywhere) {
  RawClient client(server_.path());
  ASSERT_TRUE(client.Guest());
  std::string memory(8, '\0');
  ASSERT_EQ(client.Finish(client.SendCall(SYS_pipe, {0}), &memory).error, 0);
  const std::string data = "hello";
  const size_t size = kHeaderSize + data.size();
  for (size_t first = 1; first < size; ++first) {
    SCOPED_TRACE(first);
    const uint64_t write = client.SendCall(SYS_write, {1, 0, data.size()});
    const std::optional<RawFrame> copyin = client.Receive();
    ASSERT_TRUE(copyin && copyin->header.type == FrameType::kCopyIn);
    SendInTwo(client,
              Frame({.reqno = copyin->header.reqno,
                     .cls = FrameClass::kResponse,
                     .type = FrameType::kCopyIn},
                    data),
              first);
    EXPECT_EQ(client.Finish(write, &memory).retval[0], data.size());
    ASSERT_EQ(client.Finish(client.SendCall(SYS_read, {0, 0, 64}), &memory).retval[0], 5U);
    EXPECT_EQ(memory.substr(0, data.size()), data);
  }
}

}  // namespace
}  // namespace rump
