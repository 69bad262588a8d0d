// A client that makes calls wait for its memory, or with it.
#include "sp_server/kernel/call_memory.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "protocol/frame.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

TEST(CallMemory, IsGivenUpToTheBudgetAndTakenBack) {
  const Process process(KernelLimits(), nullptr, nullptr);
  {
    CallMemory all(process);
    EXPECT_TRUE(all.Take(Process::kCallMemory));
    CallMemory more(process);
    EXPECT_FALSE(more.Take(CallMemory::kSmall + 1));
    EXPECT_TRUE(more.Take(CallMemory::kSmall));
    EXPECT_EQ(process.call_memory->used(), Process::kCallMemory);
    EXPECT_TRUE(all.Take(Process::kCallMemory / 2));
    EXPECT_TRUE(more.Take(Process::kCallMemory / 2));
    EXPECT_FALSE(more.Take(Process::kCallMemory / 2 + 1)) << "what it had is given back";
    const CallMemory moved(std::move(all));
    EXPECT_EQ(process.call_memory->used(), Process::kCallMemory / 2);
  }
  EXPECT_EQ(process.call_memory->used(), 0U);
}

TEST(CallMemory, BufferIsSmallWithoutABudget) {
  const Process process(KernelLimits(), nullptr, nullptr);
  CallMemory all(process);
  ASSERT_TRUE(all.Take(Process::kCallMemory));
  CallBuffer buffer(process);
  buffer.Resize(100);
  EXPECT_EQ(buffer.size(), 100U);
  buffer.Resize(100'000);
  EXPECT_EQ(buffer.bytes().size(), CallMemory::kSmall);
  ASSERT_TRUE(all.Take(0));
  buffer.Resize(100'000);
  EXPECT_EQ(buffer.size(), 100'000U);
  EXPECT_EQ(process.call_memory->used(), 100'000U);
}

// A process with a pipe: descriptor 0 reads, 1 writes.
class CallMemoryTest : public testing::Test {
 protected:
  static constexpr size_t kChunk = 64 * 1024;

  CallMemoryTest() {
    EXPECT_TRUE(client_.Guest());
    EXPECT_EQ(client_.Finish(client_.SendCall(SYS_pipe, {0}), &memory_).error, 0);
    memory_.resize(kChunk);
  }
  // The length of the COPYIN that comes next.
  size_t NextCopyIn() {
    const std::optional<RawFrame> frame = client_.Receive();
    CopyPayload range;
    if (!frame || frame->header.type != FrameType::kCopyIn) return 0;
    memcpy(&range, frame->payload.data(), sizeof range);
    return range.len;
  }
  // Starts writes, and answers none of their copies, until there is no more budget.
  void UseBudgetUp() {
    size_t asked = 0;
    for (int i = 0; i < 1000; ++i) {
      waiting_.push_back(client_.SendCall(SYS_write, {1, 0, kChunk}));
      const size_t length = NextCopyIn();
      if (length == CallMemory::kSmall) break;
      ASSERT_EQ(length, kChunk);
      asked += length;
    }
    EXPECT_EQ(asked, Process::kCallMemory);
  }

  ServerThread server_;
  RawClient client_{server_.path()};
  std::string memory_ = std::string(64, '\0');
  std::vector<uint64_t> waiting_;
};

TEST_F(CallMemoryTest, WritesGoOnInSmallPieces) {
  UseBudgetUp();
  for (size_t i = 0; i < memory_.size(); ++i) memory_[i] = static_cast<char>(i * 7 / 3);
  constexpr size_t kSize = 3 * CallMemory::kSmall + 5;
  const std::string sent = memory_.substr(0, kSize);
  const uint64_t write = client_.SendCall(SYS_write, {1, 0, kSize});
  EXPECT_EQ(client_.Finish(write, &memory_).retval[0], kSize);
  const uint64_t read = client_.SendCall(SYS_read, {0, 0, kChunk});
  EXPECT_EQ(client_.Finish(read, &memory_).retval[0], kSize);
  EXPECT_EQ(memory_.substr(0, kSize), sent);
}

TEST_F(CallMemoryTest, WhatCannotBeSmallFails) {
  ASSERT_EQ(
      client_.Finish(client_.SendCall(SYS_socketpair, {AF_UNIX, SOCK_DGRAM, 0, 0}), &memory_).error,
      0);
  int fds[2];
  memcpy(fds, memory_.data(), sizeof fds);
  const auto socket = static_cast<uint64_t>(fds[0]);
  constexpr uint64_t kIovecs = 1024;
  constexpr uint64_t kLongIoctl = _IOC(_IOC_WRITE, 'x', 1, 16'000);
  const auto error = [&](uint32_t number, std::initializer_list<uint64_t> args) {
    return client_.Finish(client_.SendCall(number, args), &memory_).error;
  };
  UseBudgetUp();
  EXPECT_EQ(error(SYS_sendto, {socket, 0, kChunk / 2, 0, 0, 0}), ENOBUFS);
  EXPECT_EQ(error(SYS_poll, {0, 1000, 0}), ENOMEM);
  EXPECT_EQ(error(SYS_readv, {0, 0, kIovecs}), ENOMEM);
  EXPECT_EQ(error(SYS_ioctl, {0, kLongIoctl, 0}), ENOMEM);
  // Small ones are never refused.
  EXPECT_EQ(error(SYS_sendto, {socket, 0, 100, 0, 0, 0}), 0);
  EXPECT_EQ(error(SYS_poll, {0, 1, 0}), 0);
}

TEST_F(CallMemoryTest, SelectOfManyFilesFails) {
  // Copies of descriptor 1, and a set with all of them.
  constexpr uint64_t kFiles = 128;
  for (uint64_t fd = 2; fd < kFiles; ++fd) {
    ASSERT_EQ(client_.CallResult(SYS_dup2, {1, fd}).error, 0);
  }
  memory_.assign(kChunk, '\xff');
  const auto select = [&] {
    return client_.Finish(client_.SendCall(SYS_select, {kFiles, 0, 16, 0, 0}), &memory_).error;
  };
  EXPECT_EQ(select(), 0);
  UseBudgetUp();
  memory_.assign(kChunk, '\xff');
  EXPECT_EQ(select(), ENOMEM);
}

TEST_F(CallMemoryTest, CallsThatEndGiveItBack) {
  UseBudgetUp();
  for (const uint64_t call : waiting_) {
    client_.Send({.reqno = 9000, .type = FrameType::kCancel},
                 {reinterpret_cast<const char*>(&call), sizeof call});
  }
  for (const uint64_t call : waiting_) EXPECT_EQ(client_.Finish(call, &memory_).error, EINTR);
  client_.SendCall(SYS_write, {1, 0, kChunk});
  EXPECT_EQ(NextCopyIn(), kChunk);
}

TEST_F(CallMemoryTest, BlockedWritesCount) {
  // A full pipe: what is written from now on waits for room, with its buffer.
  ASSERT_EQ(client_.Finish(client_.SendCall(SYS_write, {1, 0, kChunk}), &memory_).retval[0],
            kChunk);
  size_t held = 0;
  for (int i = 0; i < 1000; ++i) {
    client_.SendCall(SYS_write, {1, 0, kChunk});
    const std::optional<RawFrame> copyin = client_.Receive();
    ASSERT_TRUE(copyin && copyin->header.type == FrameType::kCopyIn);
    CopyPayload range;
    memcpy(&range, copyin->payload.data(), sizeof range);
    if (range.len == CallMemory::kSmall) break;
    held += range.len;
    client_.Send(
        {.reqno = copyin->header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn},
        std::string(range.len, 'x'));
  }
  EXPECT_EQ(held, Process::kCallMemory);
}

}  // namespace
}  // namespace rump
