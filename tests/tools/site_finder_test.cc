#include "tools/libc_sites/site_finder.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "hijack/site_scan.h"

namespace rump {
namespace {

using hijack::CallSite;

constexpr uint64_t kText = 0x1000;
constexpr uint64_t kData = 0x8000;

// A library of this code and these data.
class Library {
 public:
  Library& Code(const std::vector<uint8_t>& bytes) {
    elf_.file.append(bytes.begin(), bytes.end());
    return *this;
  }
  Library& Data(const std::vector<uint8_t>& bytes) {
    data_.append(bytes.begin(), bytes.end());
    return *this;
  }
  Library& Function(const char* name, uint64_t address) {
    elf_.functions.push_back({name, address, 64});
    return *this;
  }
  FoundSites Find() {
    elf_.sections = {{kText, elf_.file, true}, {kData, data_, false}};
    return FindCallSites(elf_);
  }

 private:
  ElfFile elf_;
  std::string data_;
};

const std::vector<uint8_t> kMovWrite = {0xb8, 1, 0, 0, 0};  // mov $SYS_write, %eax
const std::vector<uint8_t> kSyscall = {0x0f, 0x05};
const std::vector<uint8_t> kXorEax = {0x31, 0xc0};
const std::vector<uint8_t> kMovEdi = {0x8b, 0x7c, 0x24, 0x08};  // mov 8(%rsp), %edi
const std::vector<uint8_t> kRet = {0xc3};
const std::vector<uint8_t> kNop8 = {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};

TEST(SiteFinderTest, TheNumberIsDisplaced) {
  const FoundSites found = Library().Code(kMovWrite).Code(kSyscall).Code(kRet).Find();
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].address, kText + 5);
  EXPECT_EQ(found.sites[0].displaced, 5);
  EXPECT_EQ(found.sites[0].number, SYS_write);
  EXPECT_EQ(found.sites[0].cave, 0u);
}

TEST(SiteFinderTest, AsManyInstructionsAsAJumpNeeds) {
  const FoundSites found = Library().Code(kMovEdi).Code(kXorEax).Code(kSyscall).Code(kRet).Find();
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].displaced, 6);
  EXPECT_EQ(found.sites[0].number, SYS_read);
}

TEST(SiteFinderTest, OtherCallsAndUnknownNumbersAreNoSites) {
  const FoundSites found = Library()
                               .Code({0xb8, SYS_futex, 0, 0, 0})
                               .Code(kSyscall)
                               .Code({0x44, 0x89, 0xc8})  // mov %r9d, %eax
                               .Code(kSyscall)
                               .Code(kRet)
                               .Find();
  EXPECT_TRUE(found.sites.empty());
  EXPECT_TRUE(found.refused.empty());
}

TEST(SiteFinderTest, AShortWayGoesThroughPadding) {
  const FoundSites found = Library()
                               .Code(kRet)
                               .Code(kXorEax)
                               .Code(kSyscall)
                               .Code(kRet)
                               .Code(kNop8)
                               .Function("read", kText + 1)
                               .Find();
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].displaced, 2);
  EXPECT_EQ(found.sites[0].cave, kText + 6);
}

TEST(SiteFinderTest, PaddingThatMayRunIsNone) {
  // What is before the nop goes on behind it.
  EXPECT_EQ(Library()
                .Code(kRet)
                .Code(kXorEax)
                .Code(kSyscall)
                .Code(kNop8)
                .Function("read", kText + 1)
                .Find()
                .refused.size(),
            1u);
  // Something jumps to it: jmp -10 behind it.
  EXPECT_EQ(Library()
                .Code(kRet)
                .Code(kXorEax)
                .Code(kSyscall)
                .Code(kRet)
                .Code(kNop8)
                .Code({0xeb, 0xf6})
                .Function("read", kText + 1)
                .Find()
                .refused.size(),
            1u);
}

TEST(SiteFinderTest, NothingMayJumpBetweenWhatIsDisplacedAndTheCall) {
  // To the syscall instruction: jmp -4.
  EXPECT_EQ(Library().Code(kMovWrite).Code(kSyscall).Code({0xeb, 0xfc}).Find().refused.size(), 1u);
  // To the xor: jmp -6. There is no other room for a jump.
  EXPECT_EQ(
      Library().Code(kMovEdi).Code(kXorEax).Code(kSyscall).Code({0xeb, 0xfa}).Find().refused.size(),
      1u);
  // To the first of what is displaced: jmp -9.
  EXPECT_EQ(Library().Code(kMovWrite).Code(kSyscall).Code({0xeb, 0xf7}).Find().sites.size(), 1u);
}

TEST(SiteFinderTest, AJumpTableIsAWayToo) {
  // lea of the table, as far as 0x8000 - 0x1007; its second entry leads to the xor at 0x100b.
  const std::vector<uint8_t> lea = {0x48, 0x8d, 0x05, 0xf9, 0x6f, 0, 0};
  Library library;
  library.Code(lea).Code(kMovEdi).Code(kXorEax).Code(kSyscall).Code(kRet);
  EXPECT_EQ(library.Find().sites.size(), 1u);
  library.Data({0, 0, 0, 0, 0x0b, 0x90, 0xff, 0xff});
  EXPECT_EQ(library.Find().refused.size(), 1u);
}

TEST(SiteFinderTest, WhatDependsOnItsPlaceStays) {
  // mov 0x10(%rip), %edi
  const FoundSites found =
      Library().Code({0x8b, 0x3d, 0x10, 0, 0, 0}).Code(kXorEax).Code(kSyscall).Code(kRet).Find();
  EXPECT_TRUE(found.sites.empty());
  EXPECT_EQ(found.refused.size(), 1u);
}

TEST(SiteFinderTest, SyscallMakesAnyCall) {
  const std::vector<uint8_t> mov_r9 = {0x4c, 0x8b, 0x4c, 0x24, 0x08};
  const FoundSites found = Library()
                               .Code({0x48, 0x89, 0xf8})
                               .Code(mov_r9)
                               .Code(kSyscall)
                               .Code(kRet)
                               .Function("syscall", kText)
                               .Find();
  ASSERT_EQ(found.sites.size(), 1u);
  EXPECT_EQ(found.sites[0].number, hijack::kAnyNumber);
}

TEST(ElfFileTest, NoLibrary) {
  EXPECT_FALSE(ParseElfFile("").has_value());
  EXPECT_FALSE(ParseElfFile("\x7f"
                            "ELF")
                   .has_value());
  EXPECT_FALSE(ParseElfFile(std::string(4096, '\x7f')).has_value());
}

class InstalledLibcTest : public ::testing::Test {
 protected:
  static const ElfFile& Libc() {
    static const auto libc = [] {
      std::ifstream in("/lib/x86_64-linux-gnu/libc.so.6", std::ios::binary);
      return ParseElfFile({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
    }();
    return *libc;
  }
};

TEST_F(InstalledLibcTest, EveryCallThatTheLibraryTakesIsFound) {
  const FoundSites found = FindCallSites(Libc());
  EXPECT_TRUE(found.refused.empty());
  std::map<int, int> sites_of;
  for (const CallSite& site : found.sites) ++sites_of[site.number];
  EXPECT_EQ(sites_of[hijack::kAnyNumber], 1);
  // libc has no functions for them: they come by syscall(3) alone.
  sites_of[SYS_io_uring_setup] = 1;
  sites_of[SYS_seccomp] = 1;
#define CALL(name, ...) EXPECT_GE(sites_of[SYS_##name], 1) << #name;
#include "hijack/dispatched_calls.inc"
#undef CALL
}

TEST_F(InstalledLibcTest, AScanFindsNothingElseAndMost) {
  const FoundSites found = FindCallSites(Libc());
  std::vector<CallSite> scanned;
  for (const Section& section : Libc().sections) {
    if (!section.executable) continue;
    std::vector<CallSite> sites(found.sites.size() + 1);
    const auto* bytes = reinterpret_cast<const uint8_t*>(section.bytes.data());
    sites.resize(hijack::ScanForSites({bytes, section.bytes.size()},
                                      static_cast<uint32_t>(section.address), sites.data(),
                                      sites.size()));
    scanned.insert(scanned.end(), sites.begin(), sites.end());
  }
  for (const CallSite& site : scanned) {
    EXPECT_TRUE(std::any_of(found.sites.begin(), found.sites.end(),
                            [&](const CallSite& known) {
                              return known.address == site.address && known.number == site.number &&
                                     known.displaced == site.displaced;
                            }))
        << std::hex << site.address;
  }
  EXPECT_GE(scanned.size() * 10, found.sites.size() * 8);
}

}  // namespace
}  // namespace rump
