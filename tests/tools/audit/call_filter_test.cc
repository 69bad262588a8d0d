#include "tools/audit/call_filter.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rump {
namespace {

TEST(CallFilter, HasWhatTheLibraryTakes) {
  EXPECT_THAT(DispatchedCalls(), testing::IsSupersetOf({SYS_socket, SYS_read, SYS_close}));
  EXPECT_THAT(DispatchedCalls(), testing::Not(testing::Contains(SYS_getpid)));
}

// Without a tracer the calls that are for one fail with ENOSYS.
TEST(CallFilter, StopsAtItsCallsAlone) {
  const std::vector<sock_filter> filter = CallFilter({SYS_getuid, SYS_getppid, SYS_getgid});
  const pid_t child = fork();
  if (child == 0) {
    if (InstallCallFilter(filter) != 0) _exit(1);
    for (const long number : {SYS_getuid, SYS_getppid, SYS_getgid}) {
      if (syscall(number) != -1 || errno != ENOSYS) _exit(2);
    }
    for (const long number : {SYS_getpid, SYS_geteuid, SYS_gettid}) {
      if (syscall(number) < 0) _exit(3);
    }
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
}

}  // namespace
}  // namespace rump
