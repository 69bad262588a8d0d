// The table of system calls against those who must know every row of it.
#include <algorithm>

#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "sp_server/kernel/syscalls.h"
#include "sp_server/kernel/trace_format.h"

namespace rump {
namespace {

TEST(SyscallTable, EveryRowHasAHandler) {
  for (const SyscallSpec& row : AllSyscalls()) {
    EXPECT_NE(FindHandler(row.number), nullptr) << row.name;
  }
}

// What programs written for rumpclient are promised.
TEST(SyscallTable, PromisedCallsAreThere) {
  for (const uint32_t number :
       {SYS_getpid,      SYS_getppid,     SYS_read,        SYS_write,         SYS_readv,
        SYS_writev,      SYS_pread64,     SYS_pwrite64,    SYS_preadv,        SYS_pwritev,
        SYS_close,       SYS_dup,         SYS_dup2,        SYS_dup3,          SYS_fcntl,
        SYS_ioctl,       SYS_pipe,        SYS_pipe2,       SYS_socket,        SYS_socketpair,
        SYS_bind,        SYS_listen,      SYS_accept,      SYS_accept4,       SYS_connect,
        SYS_getsockname, SYS_getpeername, SYS_getsockopt,  SYS_setsockopt,    SYS_shutdown,
        SYS_sendto,      SYS_recvfrom,    SYS_sendmsg,     SYS_recvmsg,       SYS_sendmmsg,
        SYS_recvmmsg,    SYS_poll,        SYS_ppoll,       SYS_select,        SYS_pselect6,
        SYS_epoll_ctl,   SYS_epoll_wait,  SYS_epoll_pwait, SYS_epoll_create1, SYS_uname,
        SYS_nanosleep,   SYS_kill,        SYS_sethostname}) {
    EXPECT_NE(FindSyscall(number), nullptr) << number;
    EXPECT_NE(FindHandler(number), nullptr) << number;
  }
}

TEST(SyscallTable, EveryHandlerHasARow) {
  constexpr uint32_t kMore = 4096;
  for (const uint32_t base : {0U, kPrivateCallBase}) {
    for (uint32_t number = base; number < base + kMore; ++number) {
      if (FindHandler(number) != nullptr) {
        EXPECT_NE(FindSyscall(number), nullptr) << number;
      }
    }
  }
}

TEST(SyscallTable, TraceKnowsEveryKindOfArgument) {
  for (const SyscallSpec& row : AllSyscalls()) {
    for (size_t i = 0; i < row.nargs; ++i) {
      EXPECT_TRUE(HasTraceDecoder(row.args[i].kind)) << row.name << " argument " << i;
    }
  }
}

}  // namespace
}  // namespace rump
