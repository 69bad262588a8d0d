#include "hijack/call_stubs.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/syscall.h>

#include <vector>

namespace rump::hijack {
namespace {

constexpr int16_t kNumbers[] = {
    kAnyNumber,
#define CALL(name, ...) SYS_##name,
#include "hijack/dispatched_calls.inc"
#undef CALL
};

// A libc with one call: so many nops, and `syscall`.
struct Libc {
  explicit Libc(uint8_t displaced) : code(displaced, 0x90) {
    code.insert(code.end(), {0x0f, 0x05});
    code.resize(code.size() + 16, 0x90);
    site.address = displaced;
    site.displaced = displaced;
  }
  uint8_t* base() { return code.data(); }

  std::vector<uint8_t> code;
  CallSite site{};
};

// Where the relative jump at `at` leads.
const uint8_t* JumpTarget(const uint8_t* at) {
  EXPECT_EQ(*at, 0xe9);
  int32_t distance;
  memcpy(&distance, at + 1, sizeof distance);
  return at + kJumpSize + distance;
}

TEST(CallStubsTest, FitWhateverIsDisplaced) {
  for (const int16_t number : kNumbers) {
    Libc libc(kMaxDisplaced);
    libc.site.number = number;
    constexpr uint8_t kUntouched = 0xa5;
    std::vector<uint8_t> stub(2 * kStubSize, kUntouched);
    WriteStub(libc.site, libc.base(), stub.data());
    const uint8_t* return_address;
    memcpy(&return_address, &stub[kStubSize - sizeof return_address], sizeof return_address);
    EXPECT_EQ(return_address, libc.base() + libc.site.address + kSyscallSize);
    EXPECT_EQ(stub[kStubSize - sizeof return_address - 1], kUntouched) << number;
    EXPECT_EQ(stub[kStubSize], kUntouched) << number;
  }
}

TEST(CallStubsTest, BeginWithWhatIsDisplaced) {
  Libc libc(9);
  for (int i = 0; i < 9; ++i) libc.code[static_cast<size_t>(i)] = static_cast<uint8_t>(i);
  std::vector<uint8_t> stub(kStubSize);
  WriteStub(libc.site, libc.base(), stub.data());
  EXPECT_EQ(memcmp(stub.data(), libc.base(), 9), 0);
}

TEST(CallStubsTest, JumpsLeaveTheCallAsItIs) {
  Libc libc(6);
  const std::vector<uint8_t> before = libc.code;
  const uint8_t* const stub = libc.base() + 1000;
  WriteJumps(libc.site, libc.base(), stub);
  EXPECT_EQ(JumpTarget(libc.base()), stub);
  EXPECT_EQ(memcmp(&libc.code[kJumpSize], &before[kJumpSize], before.size() - kJumpSize), 0);
}

TEST(CallStubsTest, JumpsByWayOfACave) {
  Libc libc(2);
  libc.site.cave = 8;
  const std::vector<uint8_t> before = libc.code;
  const uint8_t* const stub = libc.base() + 1000;
  WriteJumps(libc.site, libc.base(), stub);
  EXPECT_EQ(libc.code[0], 0xeb);
  EXPECT_EQ(kShortJumpSize + libc.code[1], 8);
  EXPECT_EQ(memcmp(&libc.code[2], &before[2], 6), 0);
  EXPECT_EQ(JumpTarget(libc.base() + 8), stub);
}

}  // namespace
}  // namespace rump::hijack
