// poll, ppoll, select and pselect6.
#include <errno.h>
#include <poll.h>
#include <sys/select.h>
#include <time.h>

#include <vector>

#include "gtest/gtest.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

constexpr uint64_t kFds = 4096;
constexpr uint64_t kTime = 8192;
constexpr uint64_t kSet = 16384;
constexpr int kForever = -1;

class PollCallsTest : public testing::Test {
 protected:
  void PutPollFds(std::initializer_list<pollfd> fds) {
    uint64_t addr = kFds;
    for (const pollfd& fd : fds) {
      program_.Put(addr, fd);
      addr += sizeof fd;
    }
  }
  int Revents(int index) { return program_.Get<pollfd>(kFds + index * sizeof(pollfd)).revents; }
  static pollfd For(int fd, int events) {
    return {.fd = fd, .events = static_cast<int16_t>(events), .revents = 0x7777};
  }

  // Puts a set at kSet + 512 * `index`, where select's argument `index` + 1 finds it.
  uint64_t PutSet(int index, std::initializer_list<int> fds) {
    uint64_t words[4] = {};
    for (const int fd : fds) words[fd / 64] |= uint64_t{1} << (fd % 64);
    program_.Put(SetAddress(index), words);
    return SetAddress(index);
  }
  bool InSet(int index, int fd) {
    return (program_.Get<uint64_t>(SetAddress(index) + fd / 64 * 8) >> (fd % 64) & 1) != 0;
  }
  static uint64_t SetAddress(int index) { return kSet + 512 * static_cast<uint64_t>(index); }

  ServerThread server_;
  TestProgram program_{server_.path()};
};

TEST_F(PollCallsTest, TellsWhatHolds) {
  const auto [reader, writer] = program_.Pipe();
  PutPollFds({For(reader, POLLIN), For(writer, POLLOUT), For(-5, POLLIN), For(77, POLLIN)});
  EXPECT_EQ(program_.Call(SYS_poll, kFds, 4, kForever), 2);
  EXPECT_EQ(Revents(0), 0);
  EXPECT_EQ(Revents(1), POLLOUT);
  EXPECT_EQ(Revents(2), 0) << "a negative descriptor is passed over";
  EXPECT_EQ(Revents(3), POLLNVAL);
}

TEST_F(PollCallsTest, HangUpIsToldUnasked) {
  const auto [reader, writer] = program_.Pipe();
  program_.Close(writer);
  PutPollFds({For(reader, 0)});
  EXPECT_EQ(program_.Call(SYS_poll, kFds, 1, kForever), 1);
  EXPECT_EQ(Revents(0), POLLHUP);
}

TEST_F(PollCallsTest, NormalDataIsData) {
  const auto [reader, writer] = program_.Pipe();
  PutPollFds({For(reader, POLLRDNORM)});
  const uint64_t poll = program_.StartBlocked(SYS_poll, kFds, 1, kForever);
  program_.Write(writer, "x");
  EXPECT_EQ(program_.Finish(poll), 1);
  EXPECT_EQ(Revents(0), POLLRDNORM);
}

TEST_F(PollCallsTest, WaitsForAnyOfSeveral) {
  const auto [first, first_writer] = program_.Pipe();
  const auto [second, second_writer] = program_.Pipe();
  // One of them twice: both entries are told.
  PutPollFds({For(first, POLLIN), For(second, POLLIN), For(second, POLLIN)});
  const uint64_t poll = program_.StartBlocked(SYS_poll, kFds, 3, kForever);
  EXPECT_FALSE(program_.HasFinished(poll));
  EXPECT_EQ(program_.Write(second_writer, "x"), 1);
  EXPECT_EQ(program_.Finish(poll), 2);
  EXPECT_EQ(Revents(0), 0);
  EXPECT_EQ(Revents(1), POLLIN);
  EXPECT_EQ(Revents(2), POLLIN);
}

TEST_F(PollCallsTest, SeveralCallsWaitForOneFile) {
  const auto [reader, writer] = program_.Pipe();
  PutPollFds({For(reader, POLLIN), For(reader, POLLIN)});
  const uint64_t first = program_.StartBlocked(SYS_poll, kFds, 2, kForever);
  const uint64_t second = program_.StartBlocked(SYS_poll, kFds, 1, kForever);
  EXPECT_EQ(program_.Write(writer, "x"), 1);
  EXPECT_EQ(program_.Finish(first), 2);
  EXPECT_EQ(program_.Finish(second), 1);
}

TEST_F(PollCallsTest, TimesOut) {
  const auto [reader, writer] = program_.Pipe();
  PutPollFds({For(reader, POLLIN)});
  EXPECT_EQ(program_.Call(SYS_poll, kFds, 1, 0), 0);
  EXPECT_EQ(Revents(0), 0);
  EXPECT_EQ(program_.Call(SYS_poll, kFds, 1, 5), 0);
  program_.Put(kTime, timespec{.tv_sec = 0, .tv_nsec = 5'000'000});
  EXPECT_EQ(program_.Call(SYS_ppoll, kFds, 1, kTime, 0, 0), 0);
  EXPECT_EQ(program_.Get<timespec>(kTime).tv_nsec, 5'000'000) << "the caller's is a constant";
  EXPECT_EQ(program_.Call(SYS_poll, 0, 0, 5), 0) << "no descriptors: a sleep";
}

TEST_F(PollCallsTest, FileMayBeClosedMeanwhile) {
  const auto [reader, writer] = program_.Pipe();
  PutPollFds({For(reader, POLLIN)});
  const uint64_t poll = program_.StartBlocked(SYS_poll, kFds, 1, kForever);
  EXPECT_EQ(program_.Close(reader), 0);
  EXPECT_EQ(program_.Write(writer, "x"), 1) << "the waiting call keeps the file open";
  EXPECT_EQ(program_.Finish(poll), 1);
  EXPECT_EQ(program_.Write(writer, "x"), -EPIPE);
}

TEST_F(PollCallsTest, HostileArguments) {
  EXPECT_EQ(program_.Call(SYS_poll, kFds, 4097, 0), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_poll, kFds, ~uint64_t{0}, 0), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_poll, TestProgram::kBad, 1, 0), -EFAULT);
  program_.Put(kTime, timespec{.tv_sec = 0, .tv_nsec = 1'000'000'000});
  EXPECT_EQ(program_.Call(SYS_ppoll, kFds, 0, kTime, 0, 0), -EINVAL);
  program_.Put(kTime, timespec{.tv_sec = -1, .tv_nsec = 0});
  EXPECT_EQ(program_.Call(SYS_ppoll, kFds, 0, kTime, 0, 0), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_ppoll, kFds, 0, TestProgram::kBad, 0, 0), -EFAULT);
  EXPECT_EQ(program_.Call(SYS_ppoll, kFds, 0, 0, kTime, 7), -EINVAL) << "size of the mask";
  // Longer than the server can count: for ever, until something happens.
  const auto [reader, writer] = program_.Pipe();
  PutPollFds({For(reader, POLLIN)});
  program_.Put(kTime, timespec{.tv_sec = INT64_MAX, .tv_nsec = 999'999'999});
  const uint64_t poll = program_.StartBlocked(SYS_ppoll, kFds, 1, kTime, 0, 0);
  EXPECT_FALSE(program_.HasFinished(poll));
  EXPECT_EQ(program_.Write(writer, "x"), 1);
  EXPECT_EQ(program_.Finish(poll), 1);
}

TEST_F(PollCallsTest, ExecEndsTheWait) {
  const auto [reader, writer] = program_.Pipe();
  PutPollFds({For(reader, POLLIN), For(reader, POLLIN)});
  const uint64_t poll = program_.StartBlocked(SYS_poll, kFds, 2, 3'600'000);
  program_.client().Send({.reqno = 900, .u = static_cast<uint32_t>(HandshakeKind::kExec)},
                         std::string("new\0", 4));
  const std::optional<RawFrame> answer = program_.client().Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.reqno, 900U);
  EXPECT_FALSE(program_.HasFinished(poll));
  EXPECT_EQ(program_.Write(writer, "x"), 1);
}

TEST_F(PollCallsTest, ClientsMayLeaveWhileTheyWait) {
  for (int i = 0; i < 50; ++i) {
    TestProgram leaver(server_.path());
    const auto [reader, writer] = leaver.Pipe();
    leaver.Put(kFds, For(reader, POLLIN));
    leaver.StartBlocked(SYS_poll, kFds, 1, 3'600'000);
    leaver.Start(SYS_poll, kFds, 1, kForever);
  }
  EXPECT_GT(program_.Call(SYS_getpid), 1);
}

TEST_F(PollCallsTest, SelectCountsBits) {
  const auto [a, b] = program_.Socketpair(SOCK_STREAM);
  EXPECT_EQ(program_.Write(a, "x"), 1);
  PutSet(0, {a, b});
  PutSet(1, {a, b});
  PutSet(2, {a, b});
  EXPECT_EQ(program_.Call(SYS_select, b + 1, SetAddress(0), SetAddress(1), SetAddress(2), 0), 3);
  EXPECT_FALSE(InSet(0, a));
  EXPECT_TRUE(InSet(0, b));
  EXPECT_TRUE(InSet(1, a));
  EXPECT_TRUE(InSet(1, b));
  EXPECT_FALSE(InSet(2, a));
}

TEST_F(PollCallsTest, SelectWaitsAndTellsWhatTimeWasLeft) {
  const auto [reader, writer] = program_.Pipe();
  PutSet(0, {reader});
  program_.Put(kTime, timeval{.tv_sec = 100, .tv_usec = 0});
  const uint64_t select = program_.StartBlocked(SYS_select, reader + 1, SetAddress(0), 0, 0, kTime);
  EXPECT_FALSE(program_.HasFinished(select));
  EXPECT_EQ(program_.Write(writer, "x"), 1);
  EXPECT_EQ(program_.Finish(select), 1);
  EXPECT_TRUE(InSet(0, reader));
  EXPECT_LT(program_.Get<timeval>(kTime).tv_sec, 100);
  EXPECT_GT(program_.Get<timeval>(kTime).tv_sec, 50);
}

TEST_F(PollCallsTest, SelectTimesOutWithEmptySets) {
  const auto [reader, writer] = program_.Pipe();
  PutSet(0, {reader});
  program_.Put(kTime, timeval{.tv_sec = 0, .tv_usec = 5000});
  EXPECT_EQ(program_.Call(SYS_select, reader + 1, SetAddress(0), 0, 0, kTime), 0);
  EXPECT_FALSE(InSet(0, reader));
  EXPECT_EQ(program_.Get<timeval>(kTime).tv_usec, 0);
}

// Of a set for exceptions a hang-up is no news, and must not keep the server busy.
TEST_F(PollCallsTest, SelectForExceptionsSleepsThroughAHangUp) {
  const auto [reader, writer] = program_.Pipe();
  program_.Close(writer);
  PutSet(2, {reader});
  program_.Put(kTime, timespec{.tv_sec = 0, .tv_nsec = 5'000'000});
  EXPECT_EQ(program_.Call(SYS_pselect6, reader + 1, 0, 0, SetAddress(2), kTime, 0), 0);
}

TEST_F(PollCallsTest, SelectsHostileArguments) {
  EXPECT_EQ(program_.Call(SYS_select, -1, 0, 0, 0, 0), -EINVAL);
  PutSet(0, {99});
  EXPECT_EQ(program_.Call(SYS_select, 100, SetAddress(0), 0, 0, 0), -EBADF);
  EXPECT_EQ(program_.Call(SYS_select, 100, TestProgram::kBad, 0, 0, 0), -EFAULT);
  program_.Put(kTime, timeval{.tv_sec = -1, .tv_usec = 0});
  EXPECT_EQ(program_.Call(SYS_select, 0, 0, 0, 0, kTime), -EINVAL);
  program_.Put(kTime, timeval{.tv_sec = INT64_MAX, .tv_usec = INT64_MAX});
  EXPECT_EQ(program_.Call(SYS_select, 0, 0, 0, 0, kTime), -EINVAL);
  // A program cannot have that many: what lies beyond is not looked at.
  PutSet(0, {});
  program_.Put(kTime, timeval{});
  EXPECT_EQ(program_.Call(SYS_select, INT32_MAX, SetAddress(0), 0, 0, kTime), 0);
  const uint64_t mask[2] = {kTime, 4};
  program_.Put(kFds, mask);
  EXPECT_EQ(program_.Call(SYS_pselect6, 0, 0, 0, 0, 0, kFds), -EINVAL);
}

}  // namespace
}  // namespace rump
