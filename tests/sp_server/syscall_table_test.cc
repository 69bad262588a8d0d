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
