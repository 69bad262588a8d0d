// Signals between processes, names and sleep.
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <time.h>

#include <climits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kData = 4096;
constexpr uint64_t kTime = 8192;

class ProcessCallsTest : public testing::Test {
 protected:
  ServerThread server_;
  TestProgram program_{server_.path()};
  TestProgram other_{server_.path()};
  const int64_t other_pid_ = other_.Call(SYS_getpid);
};

TEST_F(ProcessCallsTest, KillOfABlockedProcessInterruptsOneCall) {
  const auto [reader, writer] = other_.Pipe();
  const uint64_t first = other_.StartBlocked(SYS_read, reader, kData, 1);
  const uint64_t second = other_.StartBlocked(SYS_read, reader, kData, 1);
  EXPECT_EQ(program_.Call(SYS_kill, other_pid_, SIGUSR1), 0);
  // Two calls wait: which of them ends is the kernel's choice.
  other_.Call(SYS_getpid);
  EXPECT_THAT(other_.raised(), ElementsAre(SIGUSR1));
  ASSERT_NE(other_.HasFinished(first), other_.HasFinished(second));
  const bool first_ended = other_.HasFinished(first);
  EXPECT_EQ(other_.Finish(first_ended ? first : second), -EINTR);
  EXPECT_EQ(other_.Write(writer, "x"), 1);
  EXPECT_EQ(other_.Finish(first_ended ? second : first), 1);
}

TEST_F(ProcessCallsTest, KillOfABusyProcessWaitsForItsNextCall) {
  EXPECT_EQ(program_.Call(SYS_kill, other_pid_, SIGUSR2), 0);
  EXPECT_EQ(program_.Call(SYS_kill, other_pid_, SIGUSR2), 0);
  EXPECT_EQ(program_.Call(SYS_kill, other_pid_, 64), 0);
  EXPECT_EQ(program_.Call(SYS_kill, other_pid_, 1), 0);
  EXPECT_EQ(other_.Call(SYS_getpid), other_pid_);
  EXPECT_THAT(other_.raised(), ElementsAre(1, SIGUSR2, 64)) << "each is pending once";
  other_.Call(SYS_getpid);
  EXPECT_EQ(other_.raised().size(), 3U);
}

TEST_F(ProcessCallsTest, KillOfOneself) {
  const int64_t pid = program_.Call(SYS_getpid);
  EXPECT_EQ(program_.Call(SYS_kill, pid, SIGTERM), 0);
  EXPECT_EQ(program_.Call(SYS_kill, 0, SIGINT), 0);
  EXPECT_EQ(program_.Call(SYS_kill, -pid, SIGHUP), 0);
  EXPECT_THAT(program_.raised(), ElementsAre(SIGTERM, SIGINT, SIGHUP));
}

TEST_F(ProcessCallsTest, KillChecksItsArguments) {
  EXPECT_EQ(program_.Call(SYS_kill, other_pid_, 0), 0);
  EXPECT_EQ(program_.Call(SYS_kill, 1, 0), 0);
  EXPECT_EQ(program_.Call(SYS_kill, 1, SIGKILL), 0) << "init takes none";
  EXPECT_EQ(program_.Call(SYS_kill, 4'000'000, 0), -ESRCH);
  EXPECT_EQ(program_.Call(SYS_kill, -4'000'000, SIGTERM), -ESRCH);
  EXPECT_EQ(program_.Call(SYS_kill, INT_MIN, SIGTERM), -ESRCH);
  EXPECT_EQ(program_.Call(SYS_kill, -1, SIGTERM), -EPERM);
  for (const int signo : {-1, 65, INT_MAX, INT_MIN}) {
    EXPECT_EQ(program_.Call(SYS_kill, other_pid_, signo), -EINVAL) << signo;
  }
  other_.Call(SYS_getpid);
  EXPECT_THAT(other_.raised(), IsEmpty());
}

TEST_F(ProcessCallsTest, SigioTellsOfReadiness) {
  const auto [reader, writer] = program_.Pipe();
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_GETOWN, 0), 0);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETOWN, other_pid_), 0);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_GETOWN, 0), other_pid_);
  program_.Write(writer, "x");
  other_.Call(SYS_getpid);
  EXPECT_THAT(other_.raised(), IsEmpty()) << "without O_ASYNC";
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETFL, O_ASYNC), 0);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_GETFL, 0) & O_ASYNC, O_ASYNC);
  program_.Write(writer, "x");
  program_.Call(SYS_getpid);
  other_.Call(SYS_getpid);
  EXPECT_THAT(other_.raised(), ElementsAre(SIGIO));
  program_.Put(kData, 0);
  EXPECT_EQ(program_.Call(SYS_ioctl, reader, FIOASYNC, kData), 0);
  program_.Write(writer, "x");
  program_.Call(SYS_getpid);
  other_.Call(SYS_getpid);
  EXPECT_EQ(other_.raised().size(), 1U);
}

TEST_F(ProcessCallsTest, SigioInterruptsAnotherCallThanTheOneThatIsReady) {
  const auto [reader, writer] = program_.Pipe();
  const auto [idle, idle_writer] = program_.Pipe();
  const int64_t pid = program_.Call(SYS_getpid);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETFL, O_ASYNC), 0);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETOWN, -pid), 0);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_GETOWN, 0), -pid);
  const uint64_t read = program_.StartBlocked(SYS_read, reader, kData, 1);
  const uint64_t wait = program_.StartBlocked(SYS_read, idle, kData, 1);
  program_.Write(writer, "x");
  EXPECT_EQ(program_.Finish(read), 1);
  EXPECT_EQ(program_.Finish(wait), -EINTR);
  EXPECT_THAT(program_.raised(), ElementsAre(SIGIO));
}

TEST_F(ProcessCallsTest, OwnersThatThereAreNot) {
  const auto [reader, writer] = program_.Pipe();
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETOWN, 4'000'000), -ESRCH);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETOWN, INT_MIN), -EINVAL);
  {
    TestProgram gone(server_.path());
    EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETFL, O_ASYNC), 0);
    EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETOWN, gone.Call(SYS_getpid)), 0);
  }
  EXPECT_EQ(program_.Write(writer, "x"), 1);
  EXPECT_EQ(program_.Call(SYS_fcntl, reader, F_SETOWN, 0), 0);
  EXPECT_EQ(program_.Write(writer, "x"), 1);
  EXPECT_EQ(program_.Read(reader), "xx");
}

TEST_F(ProcessCallsTest, HostNameIsTheServersOwn) {
  utsname host;
  ASSERT_EQ(uname(&host), 0);
  ASSERT_EQ(program_.Call(SYS_uname, kData), 0);
  const auto before = program_.Get<utsname>(kData);
  EXPECT_STREQ(before.sysname, "Linux");
  EXPECT_STREQ(before.machine, "x86_64");
  EXPECT_STREQ(before.release, host.release);
  EXPECT_STREQ(before.nodename, host.nodename);
  program_.PutText(kData, "elsewhere!");
  EXPECT_EQ(program_.Call(SYS_sethostname, kData, 9), 0);
  ASSERT_EQ(other_.Call(SYS_uname, kData), 0);
  EXPECT_STREQ(other_.Get<utsname>(kData).nodename, "elsewhere");
  EXPECT_EQ(program_.Call(SYS_sethostname, kData, 65), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_sethostname, kData, ~uint64_t{0}), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_sethostname, TestProgram::kBad, 5), -EFAULT);
  EXPECT_EQ(program_.Call(SYS_sethostname, kData, 64), 0);
  ASSERT_EQ(other_.Call(SYS_uname, kData), 0);
  EXPECT_EQ(other_.Get<utsname>(kData).nodename[64], '\0');
}

TEST_F(ProcessCallsTest, SleepsForAsLongAsItSays) {
  timespec before;
  timespec after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  program_.Put(kTime, timespec{.tv_sec = 0, .tv_nsec = 5'000'000});
  EXPECT_EQ(program_.Call(SYS_nanosleep, kTime, 0), 0);
  EXPECT_EQ(program_.Call(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, kTime, 0), 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  const int64_t slept =
      (after.tv_sec - before.tv_sec) * 1'000'000'000 + after.tv_nsec - before.tv_nsec;
  EXPECT_GE(slept, 10'000'000);
}

TEST_F(ProcessCallsTest, InterruptedSleepTellsWhatIsLeft) {
  other_.Put(kTime, timespec{.tv_sec = 1000, .tv_nsec = 0});
  const uint64_t sleep = other_.StartBlocked(SYS_nanosleep, kTime, kData);
  EXPECT_EQ(program_.Call(SYS_kill, other_pid_, SIGALRM), 0);
  EXPECT_EQ(other_.Finish(sleep), -EINTR);
  EXPECT_LT(other_.Get<timespec>(kData).tv_sec, 1000);
  EXPECT_GT(other_.Get<timespec>(kData).tv_sec, 900);
  other_.Put(kTime, timespec{.tv_sec = INT64_MAX, .tv_nsec = 0});
  const uint64_t longer = other_.StartBlocked(SYS_nanosleep, kTime, kData);
  EXPECT_EQ(program_.Call(SYS_kill, other_pid_, SIGALRM), 0);
  EXPECT_EQ(other_.Finish(longer), -EINTR);
  EXPECT_EQ(other_.Get<timespec>(kData).tv_sec, INT64_MAX);
}

TEST_F(ProcessCallsTest, SleepChecksItsArguments) {
  for (const timespec time : {timespec{-1, 0}, timespec{0, -1}, timespec{0, 1'000'000'000}}) {
    program_.Put(kTime, time);
    EXPECT_EQ(program_.Call(SYS_nanosleep, kTime, 0), -EINVAL);
  }
  EXPECT_EQ(program_.Call(SYS_nanosleep, TestProgram::kBad, 0), -EFAULT);
  program_.Put(kTime, timespec{0, 0});
  EXPECT_EQ(program_.Call(SYS_clock_nanosleep, 99, 0, kTime, 0), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, kTime, 0),
            -EOPNOTSUPP);
}

}  // namespace
}  // namespace rump
