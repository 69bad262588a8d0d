// A client that is sent more than it has read.
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

// Many calls of one client that have much to copy out. The limit is 1 MiB.
class OutputTest : public testing::Test {
 protected:
  static constexpr size_t kChunk = 64 * 1024;
  static constexpr size_t kReads = 64;
  static ServerOptions Options() {
    ServerOptions options;
    options.limits.output_bytes = 1 << 20;
    return options;
  }
  struct Pipe {
    uint64_t reader;
    uint64_t writer;
  };
  Pipe NewPipe() {
    EXPECT_EQ(client_.Finish(client_.SendCall(SYS_pipe, {16}), &memory_).error, 0);
    int fds[2];
    memcpy(fds, memory_.data() + 16, sizeof fds);
    return {static_cast<uint64_t>(fds[0]), static_cast<uint64_t>(fds[1])};
  }
  // kReads pipes, the i-th full of the letter i.
  void FillPipes() {
    for (size_t i = 0; i < kReads; ++i) {
      pipes_.push_back(NewPipe());
      memory_.assign(kChunk, Letter(i));
      const uint64_t write = client_.SendCall(SYS_write, {pipes_[i].writer, 0, kChunk});
      ASSERT_EQ(client_.Finish(write, &memory_).retval[0], kChunk);
    }
  }
  // Reads all pipes at once; nothing is received here before all are sent.
  std::vector<uint64_t> SendReads() {
    std::vector<uint64_t> reads;
    for (size_t i = 0; i < kReads; ++i) {
      reads.push_back(client_.SendCall(SYS_read, {pipes_[i].reader, i * kChunk, kChunk}));
    }
    return reads;
  }
  static char Letter(size_t i) { return static_cast<char>('!' + i); }

  ServerThread server_{Options()};
  RawClient client_{server_.path()};
  bool guest_ = client_.Guest();
  std::string memory_ = std::string(64, '\0');
  std::vector<Pipe> pipes_;
};

TEST_F(OutputTest, ClientThatReadsGetsAllHoweverMuch) {
  FillPipes();
  for (const uint64_t read : SendReads()) {
    EXPECT_EQ(client_.Finish(read, &memory_).retval[0], kChunk);
  }
  for (size_t i = 0; i < kReads; ++i) {
    EXPECT_EQ(memory_.substr(i * kChunk, kChunk), std::string(kChunk, Letter(i))) << i;
  }
}

TEST_F(OutputTest, CallsThatWaitForRoomCanBeCancelled) {
  FillPipes();
  const std::vector<uint64_t> reads = SendReads();
  const uint64_t last = reads.back();
  client_.Send({.reqno = 9000, .type = FrameType::kCancel},
               {reinterpret_cast<const char*>(&last), sizeof last});
  EXPECT_EQ(client_.Finish(last, &memory_).error, EINTR);
  for (const uint64_t read : reads) {
    if (read == last) continue;
    EXPECT_EQ(client_.Finish(read, &memory_).retval[0], kChunk);
  }
  // It has taken nothing.
  const uint64_t again = client_.SendCall(SYS_read, {pipes_.back().reader, 0, kChunk});
  EXPECT_EQ(client_.Finish(again, &memory_).retval[0], kChunk);
}

TEST_F(OutputTest, AnswersAreTakenFromAClientThatHasMuchToRead) {
  const Pipe shared = NewPipe();
  client_.Send({.reqno = 9000, .type = FrameType::kPrefork});
  const std::optional<RawFrame> cookie = client_.Receive();
  ASSERT_TRUE(cookie.has_value());
  RawClient child(server_.path());
  child.Send({.reqno = 9000, .u = static_cast<uint32_t>(HandshakeKind::kFork)},
             cookie->payload + std::string(sizeof(int32_t), '\0'));
  ASSERT_TRUE(child.Receive().has_value());
  FillPipes();
  const uint64_t write = client_.SendCall(SYS_write, {shared.writer, 0, 5});
  const std::optional<RawFrame> copyin = client_.Receive();
  ASSERT_TRUE(copyin && copyin->header.type == FrameType::kCopyIn);
  const std::vector<uint64_t> reads = SendReads();
  client_.Send(
      {.reqno = copyin->header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn},
      "hello");
  // This arrives before the client has read a byte.
  std::string memory(64, '\0');
  const uint64_t read = child.SendCall(SYS_read, {shared.reader, 0, 8});
  EXPECT_EQ(child.Finish(read, &memory).retval[0], 5U);
  EXPECT_EQ(memory.substr(0, 5), "hello");
  EXPECT_EQ(client_.Finish(write, &memory_).retval[0], 5U);
  for (const uint64_t each : reads) EXPECT_EQ(client_.Finish(each, &memory_).retval[0], kChunk);
}

TEST_F(OutputTest, ClientMayHangUpWithCallsThatWaitForRoom) {
  FillPipes();
  SendReads();
  client_.Close();
  RawClient other(server_.path());
  ASSERT_TRUE(other.Guest("other"));
  std::string report;
  const auto processes = [&] {
    report.assign(64 * 1024, '\0');
    return other.Finish(other.SendCall(kSysQuery, {0, 0, report.size(), 0}), &report).retval[0];
  };
  const auto remains = [&] { return report.substr(0, processes()).find("test") != report.npos; };
  while (remains()) {
  }
}

}  // namespace
}  // namespace rump
