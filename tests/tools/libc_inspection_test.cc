#include "tools/rump/libc_inspection.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rump {
namespace {

using ::testing::HasSubstr;

TEST(LibcInspection, FindsTheInstalledOne) {
  const auto libc = FindLibc("/lib64/ld-linux-x86-64.so.2", "/bin/sh");
  ASSERT_TRUE(libc.ok()) << libc.status();
  EXPECT_THAT(libc->path, HasSubstr("/libc.so.6"));
  EXPECT_EQ(libc->build_id.size(), 40u);
  EXPECT_TRUE(libc->has_table);
}

TEST(LibcInspection, ReadsTheLoadersList) {
  const auto path = ParseLibraryList("prog",
                                     "\tlinux-vdso.so.1 (0x00007fff)\n"
                                     "\tlibc.so.6 => /opt/a (b)/libc.so.6 (0x00007f00)\n");
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, "/opt/a (b)/libc.so.6");
}

TEST(LibcInspection, SaysWhatIsMissing) {
  const auto why = [](const std::string& list) {
    const auto path = ParseLibraryList("prog", list);
    EXPECT_TRUE(absl::IsFailedPrecondition(path.status()));
    return std::string(path.status().message());
  };
  EXPECT_THAT(why("\tlibfoo.so.1 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n"),
              HasSubstr("libfoo.so.1 => not found"));
  EXPECT_THAT(why(""), HasSubstr("prog does not use"));
}

TEST(LibcInspection, SaysWhatTheLoaderCannotDo) {
  EXPECT_FALSE(FindLibc("/nonexistent/loader", "/bin/sh").ok());
  EXPECT_FALSE(FindLibc("/lib64/ld-linux-x86-64.so.2", "/nonexistent/program").ok());
}

}  // namespace
}  // namespace rump
