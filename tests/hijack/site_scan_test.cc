#include "hijack/site_scan.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <vector>

namespace rump::hijack {
namespace {

constexpr uint32_t kCodeAddress = 0x1000;

std::vector<CallSite> Scan(const std::vector<uint8_t>& code, size_t room = 8) {
  std::vector<CallSite> sites(room);
  sites.resize(ScanForSites(code, kCodeAddress, sites.data(), room));
  return sites;
}

// `before`, mov $number, %eax, and `syscall`.
std::vector<uint8_t> Call(uint8_t before, int number) {
  return {before, 0xb8, static_cast<uint8_t>(number), static_cast<uint8_t>(number >> 8), 0, 0, 0x0f,
          0x05,   0x90};
}

TEST(SiteScanTest, FindsTheNumberRightBeforeTheCall) {
  std::vector<uint8_t> code = Call(0x90, SYS_write);
  const std::vector<uint8_t> other = Call(0xc3, SYS_recvmmsg);
  code.insert(code.end(), other.begin(), other.end());
  const std::vector<CallSite> sites = Scan(code);
  ASSERT_EQ(sites.size(), 2u);
  EXPECT_EQ(sites[0].address, kCodeAddress + 6);
  EXPECT_EQ(sites[0].number, SYS_write);
  EXPECT_EQ(sites[0].displaced, kJumpSize);
  EXPECT_EQ(sites[0].cave, 0u);
  EXPECT_EQ(sites[1].address, kCodeAddress + 15);
  EXPECT_EQ(sites[1].number, SYS_recvmmsg);
}

TEST(SiteScanTest, LeavesCallsAloneThatTheLibraryDoesNotTake) {
  for (const int number : {SYS_rt_sigreturn, SYS_fork, SYS_vfork, SYS_clone3, SYS_exit,
                           SYS_exit_group, SYS_futex, 511}) {
    EXPECT_TRUE(Scan(Call(0x90, number)).empty()) << number;
  }
}

TEST(SiteScanTest, LeavesOtherInstructionsAlone) {
  // mov $1, %r8d
  EXPECT_TRUE(Scan(Call(0x41, SYS_write)).empty());
  // Something between the number and the call.
  EXPECT_TRUE(Scan({0x90, 0xb8, 1, 0, 0, 0, 0x90, 0x0f, 0x05, 0x90}).empty());
}

TEST(SiteScanTest, StaysInItsBounds) {
  const std::vector<uint8_t> code = Call(0x90, SYS_write);
  for (size_t size = 0; size < code.size() - 1; ++size) {
    EXPECT_TRUE(Scan({code.begin(), code.begin() + static_cast<long>(size)}).empty()) << size;
  }
  EXPECT_TRUE(Scan({code.begin() + 1, code.end()}).empty());
  EXPECT_TRUE(Scan(code, 0).empty());
}

}  // namespace
}  // namespace rump::hijack
