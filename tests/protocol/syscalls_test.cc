#include "protocol/syscalls.h"

#include <map>
#include <random>
#include <set>

#include "gtest/gtest.h"

namespace rump {
namespace {

// The kinds of argument that the `n` of an argument of kind `kind` may index; empty if its `n` is
// no index.
std::set<ArgKind> CountKindsOf(ArgKind kind) {
  switch (kind) {
    case ArgKind::kIn:
    case ArgKind::kOut:
      return {ArgKind::kSize};
    case ArgKind::kOutBySize:
      return {ArgKind::kOutSize};
    case ArgKind::kInIov:
    case ArgKind::kOutIov:
    case ArgKind::kInMsgs:
    case ArgKind::kOutMsgs:
    case ArgKind::kOutArray:
    case ArgKind::kInOutArray:
    case ArgKind::kFdSet:
    case ArgKind::kIoctl:
      return {ArgKind::kInt};
    default:
      return {};
  }
}

TEST(SyscallsTest, RowsAreSortedAndNamesUnique) {
  std::set<std::string_view> names;
  const SyscallSpec* last = nullptr;
  for (const SyscallSpec& row : AllSyscalls()) {
    if (last != nullptr) {
      EXPECT_LT(last->number, row.number);
    }
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_FALSE(row.name.empty());
    last = &row;
  }
  EXPECT_GT(names.size(), 30u);
}

TEST(SyscallsTest, FindsEveryRowAndNothingElse) {
  std::map<uint32_t, const SyscallSpec*> rows;
  for (const SyscallSpec& row : AllSyscalls()) rows[row.number] = &row;
  const auto expect = [&](uint32_t number) {
    const auto row = rows.find(number);
    EXPECT_EQ(FindSyscall(number), row == rows.end() ? nullptr : row->second) << number;
  };
  for (uint32_t number = 0; number < kPrivateCallBase + 0x10000; ++number) expect(number);
  for (uint32_t number = UINT32_MAX; number > UINT32_MAX - 0x10000; --number) expect(number);
  std::mt19937 random(1);
  for (int i = 0; i < 100000; ++i) expect(static_cast<uint32_t>(random()));
}

TEST(SyscallsTest, KnownRows) {
  ASSERT_NE(FindSyscall(SYS_recvfrom), nullptr);
  EXPECT_EQ(FindSyscall(SYS_recvfrom)->name, "recvfrom");
  EXPECT_EQ(FindSyscall(SYS_recvfrom)->nargs, 6);
  ASSERT_NE(FindSyscall(kSysHalt), nullptr);
  EXPECT_EQ(FindSyscall(kSysHalt)->name, "halt");
  EXPECT_EQ(FindSyscall(SYS_execve), nullptr);
}

TEST(SyscallsTest, SizesAreArgumentsOfTheRightKind) {
  for (const SyscallSpec& row : AllSyscalls()) {
    for (int i = 0; i < row.nargs; ++i) {
      const std::set<ArgKind> wanted = CountKindsOf(row.args[i].kind);
      if (wanted.empty()) continue;
      const uint8_t n = row.args[i].n;
      ASSERT_LT(n, row.nargs) << row.name << " argument " << i;
      EXPECT_NE(n, i) << row.name << " argument " << i;
      EXPECT_TRUE(wanted.contains(row.args[n].kind)) << row.name << " argument " << i;
    }
  }
}

TEST(SyscallsTest, EverySizeIsUsed) {
  for (const SyscallSpec& row : AllSyscalls()) {
    for (int size = 0; size < row.nargs; ++size) {
      const ArgKind kind = row.args[size].kind;
      if (kind != ArgKind::kSize && kind != ArgKind::kOutSize) continue;
      int users = 0;
      for (int i = 0; i < row.nargs; ++i) {
        users += !CountKindsOf(row.args[i].kind).empty() && row.args[i].n == size;
      }
      EXPECT_EQ(users, 1) << row.name << " argument " << size;
    }
  }
}

TEST(SyscallsTest, FixedSizesAreNotZero) {
  for (const SyscallSpec& row : AllSyscalls()) {
    for (const ArgSpec& arg : row.args) {
      if (arg.kind == ArgKind::kInFixed || arg.kind == ArgKind::kOutFixed ||
          arg.kind == ArgKind::kInOutFixed) {
        EXPECT_GT(arg.n, 0) << row.name;
      }
      const bool array = arg.kind == ArgKind::kOutArray || arg.kind == ArgKind::kInOutArray;
      EXPECT_EQ(arg.size > 0, array) << row.name;
    }
  }
}

TEST(SyscallsTest, FdSetsAreWholeWords) {
  EXPECT_EQ(FdSetSize(0), 0u);
  EXPECT_EQ(FdSetSize(1), 8u);
  EXPECT_EQ(FdSetSize(64), 8u);
  EXPECT_EQ(FdSetSize(65), 16u);
  EXPECT_EQ(FdSetSize(1024), 128u);
  EXPECT_EQ(FdSetSize(static_cast<uint64_t>(-1)), 0u);
  EXPECT_EQ(FdSetSize((uint64_t{1} << 32) + 1), 8u) << "the kernel takes an int";
}

TEST(SyscallsTest, ArgumentCountCoversEveryArgument) {
  for (const SyscallSpec& row : AllSyscalls()) {
    ASSERT_LE(row.nargs, std::size(row.args)) << row.name;
    for (size_t i = row.nargs; i < std::size(row.args); ++i) {
      EXPECT_EQ(row.args[i].kind, ArgKind::kInt) << row.name << " argument " << i;
      EXPECT_EQ(row.args[i].n, 0) << row.name << " argument " << i;
    }
  }
}

TEST(SyscallsTest, OnlyTheFirstArgumentIsADescriptor) {
  for (const SyscallSpec& row : AllSyscalls()) {
    for (size_t i = 1; i < std::size(row.args); ++i) {
      EXPECT_NE(row.args[i].kind, ArgKind::kFd) << row.name << " argument " << i;
    }
  }
}

}  // namespace
}  // namespace rump
