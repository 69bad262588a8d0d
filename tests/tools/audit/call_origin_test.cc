#include "tools/audit/call_origin.h"

#include <string.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace rump {
namespace {

constexpr uint64_t kProgram = 0x400000;
constexpr uint64_t kLibc = 0x10000000;
constexpr uint64_t kLibrary = 0x10100000;
constexpr uint64_t kOther = 0x10200000;
constexpr uint64_t kSize = 0x1000;

// A process whose memory is all zeros but for what a test writes.
class CallOriginTest : public ::testing::Test {
 protected:
  CallOriginTest()
      : origins_(
            "/lib/librumphijack.so", [this] { return Map(); },
            [this](uint64_t address, std::span<uint8_t> to) { return Read(address, to); }) {}

  MemoryMap Map() {
    ++map_reads_;
    return MemoryMap(
        "00400000-00401000 r-xp 00000000 08:01 1 /bin/program\n"
        "10000000-10001000 r-xp 00000000 08:01 2 /lib/libc.so.6\n"
        "10100000-10101000 r-xp 00000000 08:01 3 /lib/librumphijack.so\n"
        "10200000-10201000 r-xp 00000000 08:01 4 /lib/libother.so\n");
  }

  bool Read(uint64_t address, std::span<uint8_t> to) {
    for (uint8_t& byte : to) byte = memory_[address++];
    return true;
  }

  void WriteJump(uint64_t at, uint64_t target) {
    const auto distance = static_cast<uint32_t>(target - (at + 5));
    memory_[at] = 0xe9;
    for (int i = 0; i < 4; ++i) memory_[at + 1 + i] = static_cast<uint8_t>(distance >> (8 * i));
  }

  // Of a call whose instruction lies at `syscall`.
  CallOrigin OfCall(uint64_t syscall) { return origins_.Find(syscall + 2); }

  std::map<uint64_t, uint8_t> memory_;
  int map_reads_ = 0;
  CallOrigins origins_;
};

TEST_F(CallOriginTest, IsTheFileOfTheInstruction) {
  EXPECT_EQ(OfCall(kLibrary + 16), CallOrigin::kLibrary);
  EXPECT_EQ(OfCall(kProgram + 16), CallOrigin::kElsewhere);
  EXPECT_EQ(OfCall(kOther + 16), CallOrigin::kElsewhere);
  EXPECT_EQ(OfCall(0x7000), CallOrigin::kElsewhere);
}

TEST_F(CallOriginTest, APlaceInLibcMayAskTheLibrary) {
  const uint64_t call = kLibc + 0x100;
  EXPECT_EQ(OfCall(call), CallOrigin::kUnknown);
  WriteJump(call - 5, kOther);
  EXPECT_EQ(OfCall(call), CallOrigin::kUnknown);
  WriteJump(call - 9, kLibrary + 0x80);
  EXPECT_EQ(OfCall(call), CallOrigin::kGate);
  // What was displaced is longer than that nowhere.
  WriteJump(kLibc + 0x200 - 30, kLibrary);
  EXPECT_EQ(OfCall(kLibc + 0x200), CallOrigin::kUnknown);
}

TEST_F(CallOriginTest, AShortJumpMayLeadToALongOne) {
  const uint64_t call = kLibc + 0x100;
  memory_[call - 2] = 0xeb;
  memory_[call - 1] = static_cast<uint8_t>(-0x20);
  EXPECT_EQ(OfCall(call), CallOrigin::kUnknown);
  WriteJump(call - 0x20, kLibrary);
  EXPECT_EQ(OfCall(call), CallOrigin::kGate);
}

TEST_F(CallOriginTest, ReadsTheMapWhenItIsOutOfDate) {
  OfCall(kProgram);
  OfCall(kOther);
  EXPECT_EQ(map_reads_, 1);
  OfCall(kOther + kSize);
  EXPECT_EQ(map_reads_, 2);
}

TEST_F(CallOriginTest, DescribesAnAddress) {
  EXPECT_EQ(origins_.Describe(kOther + 0x123), "/lib/libother.so+0x123");
  EXPECT_EQ(origins_.Describe(0x7000), "0x7000");
  EXPECT_TRUE(origins_.IsCode(kOther));
  EXPECT_FALSE(origins_.IsCode(0x7000));
}

}  // namespace
}  // namespace rump
