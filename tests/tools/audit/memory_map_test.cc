#include "tools/audit/memory_map.h"

#include <unistd.h>

#include "gtest/gtest.h"

namespace rump {
namespace {

constexpr char kMaps[] =
    "00400000-00401000 r--p 00000000 08:01 12         /usr/bin/with blank\n"
    "00401000-00402000 r-xp 00001000 08:01 12         /usr/bin/with blank\n"
    "7f0000002000-7f0000003000 r-xp 00002000 08:01 13 /lib/libc.so.6\n"
    "7f0000005000-7f0000006000 rw-p 00000000 00:00 0\n"
    "nonsense\n"
    "7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0  [vdso]\n";

TEST(MemoryMap, FindsWhatIsThere) {
  const MemoryMap map(kMaps);
  ASSERT_NE(map.Find(0x401fff), nullptr);
  EXPECT_EQ(map.Find(0x401fff)->path, "/usr/bin/with blank");
  EXPECT_TRUE(map.Find(0x401000)->executable);
  EXPECT_FALSE(map.Find(0x400fff)->executable);
  EXPECT_EQ(map.Find(0x3fffff), nullptr);
  EXPECT_EQ(map.Find(0x402000), nullptr);
  EXPECT_EQ(map.Find(0x7f0000005000)->path, "");
  EXPECT_EQ(map.Find(0x7ffc00000000)->path, "");
}

TEST(MemoryMap, KnowsWhereFilesAre) {
  const MemoryMap map(kMaps);
  EXPECT_EQ(map.BaseOf("/usr/bin/with blank"), 0x400000u);
  EXPECT_EQ(map.BaseOf("/lib/libc.so.6"), 0x7f0000000000u);
  EXPECT_EQ(map.BaseOf("/none"), 0u);
  EXPECT_EQ(map.FileNamed("libc.so.6"), "/lib/libc.so.6");
  EXPECT_EQ(map.FileNamed("c.so.6"), "");
}

TEST(MemoryMap, OfProcesses) {
  const MemoryMap map = MemoryMap::OfProcess(getpid());
  const Mapping* const here = map.Find(reinterpret_cast<uint64_t>(&kMaps));
  ASSERT_NE(here, nullptr);
  EXPECT_TRUE(here->path.ends_with("memory_map_test")) << here->path;
  EXPECT_EQ(MemoryMap::OfProcess(-1).Find(0), nullptr);
}

}  // namespace
}  // namespace rump
