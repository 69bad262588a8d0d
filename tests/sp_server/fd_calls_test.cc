// Calls on descriptors: what stands for one, what is written to whom, what an interruption leaves.
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kArgs = 4096;
constexpr uint64_t kData = 8192;

class FdCallsTest : public testing::Test {
 protected:
  void PutIovecs(std::initializer_list<uint64_t> sizes) {
    uint64_t addr = kArgs;
    for (const uint64_t size : sizes) {
      program_.Put(addr, iovec{reinterpret_cast<void*>(kData), size});
      addr += sizeof(iovec);
    }
  }
  void Cancel(uint64_t reqno) {
    program_.client().Send({.reqno = 700, .type = FrameType::kCancel},
                           {reinterpret_cast<const char*>(&reqno), sizeof reqno});
  }
  FrameType NextFrame() {
    const std::optional<RawFrame> frame = program_.client().Receive();
    return frame.has_value() ? frame->header.type : FrameType{};
  }

  ServerThread server_;
  TestProgram program_{server_.path()};
};

// An object's id has a descriptor in its lower half.
TEST_F(FdCallsTest, SlotThatIsNoIntIsNoDescriptor) {
  const auto [reader, writer] = program_.Pipe();
  const auto epoll = program_.Call(SYS_epoll_create1, 0);
  program_.Put(kArgs, epoll_event{.events = EPOLLIN, .data = {}});
  const auto number = static_cast<uint64_t>(reader);
  for (const uint64_t slot :
       {kFirstObjectId + number, (uint64_t{1} << 63) + number, 0xffffffff00000000 + number}) {
    EXPECT_EQ(program_.Call(SYS_close, slot), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_read, slot, kData, 1), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_pread64, slot, kData, 1, 0), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_ioctl, slot, FIONREAD, kData), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_dup, slot), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_dup2, slot, 20), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_dup2, writer, slot), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_dup2, slot, slot), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_dup3, slot, 20, 0), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_dup3, writer, slot, 0), -EBADF) << slot;
    for (const int command : {F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL}) {
      EXPECT_EQ(program_.Call(SYS_fcntl, slot, command, 0), -EBADF) << slot;
    }
    EXPECT_EQ(program_.Call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, slot, kArgs), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_epoll_wait, slot, kData, 1, 0), -EBADF) << slot;
    EXPECT_EQ(program_.Call(SYS_listen, slot, 1), -EBADF) << slot;
  }
  EXPECT_EQ(program_.Write(writer, "x"), 1) << "the reader is still there";
}

TEST_F(FdCallsTest, NothingIsCopiedForNobody) {
  const auto [reader, writer] = program_.Pipe();
  ASSERT_EQ(program_.Close(reader), 0);
  program_.Start(SYS_write, writer, kData, 100'000);
  EXPECT_EQ(NextFrame(), FrameType::kRaise);
  EXPECT_EQ(NextFrame(), FrameType::kSyscall);
  PutIovecs({10, 10});
  EXPECT_EQ(program_.Call(SYS_writev, writer, kArgs, 2), -EPIPE);
  EXPECT_THAT(program_.raised(), ElementsAre(SIGPIPE));
}

TEST_F(FdCallsTest, WritingNothingIsNoWriting) {
  const auto [reader, writer] = program_.Pipe();
  EXPECT_EQ(program_.Call(SYS_write, writer, kData, 0), 0);
  EXPECT_EQ(program_.Call(SYS_write, reader, kData, 0), -EBADF);
  ASSERT_EQ(program_.Close(reader), 0);
  EXPECT_EQ(program_.Call(SYS_write, writer, kData, 0), 0);
  EXPECT_THAT(program_.raised(), IsEmpty());
}

TEST_F(FdCallsTest, ReaderMayLeaveDuringTheCopy) {
  const auto [reader, writer] = program_.Pipe();
  RawClient& client = program_.client();
  program_.Start(SYS_write, writer, kData, 5);
  const std::optional<RawFrame> copyin = client.Receive();
  ASSERT_EQ(copyin->header.type, FrameType::kCopyIn);
  ASSERT_EQ(program_.Close(reader), 0);
  client.Send(
      {.reqno = copyin->header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn},
      "hello");
  EXPECT_EQ(NextFrame(), FrameType::kRaise);
  EXPECT_EQ(NextFrame(), FrameType::kSyscall);
}

TEST_F(FdCallsTest, InterruptionLeavesWhatIsWritten) {
  const auto [reader, writer] = program_.Pipe();
  PutIovecs({40'000, 40'000});
  const uint64_t write = program_.StartBlocked(SYS_writev, writer, kArgs, 2);
  EXPECT_FALSE(program_.HasFinished(write));
  Cancel(write);
  EXPECT_EQ(program_.Finish(write), 65'536);
  const uint64_t none = program_.StartBlocked(SYS_writev, writer, kArgs, 2);
  Cancel(none);
  EXPECT_EQ(program_.Finish(none), -EINTR);
}

TEST_F(FdCallsTest, InterruptionOfAReadThatFoundNothing) {
  const auto [reader, writer] = program_.Pipe();
  PutIovecs({10, 10});
  const uint64_t read = program_.StartBlocked(SYS_readv, reader, kArgs, 2);
  Cancel(read);
  EXPECT_EQ(program_.Finish(read), -EINTR);
  // What there is comes at once, however much was asked for.
  EXPECT_EQ(program_.Write(writer, "abcdefghijklmn"), 14);
  EXPECT_EQ(program_.Call(SYS_readv, reader, kArgs, 2), 14);
}

TEST_F(FdCallsTest, NumbersWithoutARowAreEnosys) {
  constexpr uint32_t kLast = 600;
  for (uint32_t number = 0; number < kLast; ++number) {
    if (FindSyscall(number) != nullptr) continue;
    EXPECT_EQ(program_.Call(number, 1, 2, 3), -ENOSYS) << number;
    EXPECT_EQ(program_.Call(number), -ENOSYS) << number;
  }
}

TEST_F(FdCallsTest, OneArgumentTooFewIsEinval) {
  for (const SyscallSpec& row : AllSyscalls()) {
    if (row.nargs == 0) continue;
    RawClient& client = program_.client();
    const std::string payload((row.nargs - 1) * sizeof(uint64_t), '\0');
    client.Send({.reqno = 900, .type = FrameType::kSyscall, .u = row.number}, payload);
    EXPECT_EQ(program_.Finish(900), -EINVAL) << row.name;
    client.Send({.reqno = 901, .type = FrameType::kSyscall, .u = row.number});
    EXPECT_EQ(program_.Finish(901), -EINVAL) << row.name;
  }
}

}  // namespace
}  // namespace rump
