#include "tools/rump/program_inspection.h"

#include <elf.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rump {
namespace {

using ::testing::HasSubstr;

// The smallest ELF program that has the headers which matter.
struct Elf {
  Elf64_Ehdr header = {};
  Elf64_Phdr segment = {};
  char loader[64] = "/lib64/ld-linux-x86-64.so.2";

  Elf() {
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_DYN;
    header.e_machine = EM_X86_64;
    header.e_phoff = offsetof(Elf, segment);
    header.e_phentsize = sizeof(segment);
    header.e_phnum = 1;
    segment.p_type = PT_INTERP;
    segment.p_offset = offsetof(Elf, loader);
    segment.p_filesz = sizeof(loader);
  }
  std::string bytes() const { return {reinterpret_cast<const char*>(this), sizeof(*this)}; }
};

class ProgramInspectionTest : public ::testing::Test {
 protected:
  ProgramInspectionTest() {
    char name[] = "/tmp/rhXXXXXX";
    directory_ = mkdtemp(name);
  }
  ~ProgramInspectionTest() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& bytes, mode_t mode = 0755) {
    std::string path = directory_ + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }

  ProgramKind KindOf(const Elf& elf) {
    const auto file = ReadProgramFile(Write("elf", elf.bytes()));
    EXPECT_TRUE(file.ok()) << file.status();
    return file->kind;
  }

  std::string WhyNot(const std::string& path, Credentials credentials = {getuid(), getgid()}) {
    return std::string(CheckHijackable(path, credentials).status().message());
  }

  std::string directory_;
};

TEST_F(ProgramInspectionTest, KnowsADynamicProgramAndItsLoader) {
  const auto file = ReadProgramFile(Write("elf", Elf().bytes()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->kind, ProgramKind::kDynamic);
  EXPECT_EQ(file->loader, "/lib64/ld-linux-x86-64.so.2");
}

TEST_F(ProgramInspectionTest, KnowsRealPrograms) {
  EXPECT_EQ(ReadProgramFile("/proc/self/exe")->kind, ProgramKind::kDynamic);
  EXPECT_EQ(WhyNot("/bin/sh"), "");
}

TEST_F(ProgramInspectionTest, TellsKindsOfElfApart) {
  Elf fixed = {};
  fixed.segment.p_type = PT_LOAD;
  EXPECT_EQ(KindOf(fixed), ProgramKind::kStatic);
  Elf musl = {};
  strcpy(musl.loader, "/lib/ld-musl-x86_64.so.1");
  EXPECT_EQ(KindOf(musl), ProgramKind::kOtherLoader);
  Elf small = {};
  small.header.e_ident[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(KindOf(small), ProgramKind::k32Bit);
  Elf arm = {};
  arm.header.e_machine = EM_AARCH64;
  EXPECT_EQ(KindOf(arm), ProgramKind::kOtherMachine);
  Elf big_endian = {};
  big_endian.header.e_ident[EI_DATA] = ELFDATA2MSB;
  EXPECT_EQ(KindOf(big_endian), ProgramKind::kOtherMachine);
}

TEST_F(ProgramInspectionTest, SurvivesDamagedHeaders) {
  Elf elf = {};
  elf.header.e_phoff = ~uint64_t{0};
  EXPECT_EQ(KindOf(elf), ProgramKind::kDamaged);
  elf.header.e_phoff = 1 << 20;
  EXPECT_EQ(KindOf(elf), ProgramKind::kDamaged);
  elf = Elf();
  elf.header.e_phnum = 0xffff;
  EXPECT_EQ(KindOf(elf), ProgramKind::kDamaged);
  elf = Elf();
  elf.header.e_phentsize = 1;
  EXPECT_EQ(KindOf(elf), ProgramKind::kDamaged);
  elf = Elf();
  elf.segment.p_filesz = ~uint64_t{0};
  elf.segment.p_offset = ~uint64_t{0} >> 1;
  EXPECT_EQ(KindOf(elf), ProgramKind::kDamaged);
  elf = Elf();
  elf.segment.p_filesz = 3;
  EXPECT_EQ(KindOf(elf), ProgramKind::kDamaged);
  elf = Elf();
  elf.header.e_type = ET_CORE;
  EXPECT_EQ(KindOf(elf), ProgramKind::kDamaged);
  const std::string whole = Elf().bytes();
  for (size_t size = SELFMAG; size < offsetof(Elf, loader); ++size) {
    EXPECT_EQ(ReadProgramFile(Write("cut", whole.substr(0, size)))->kind, ProgramKind::kDamaged)
        << size;
  }
}

TEST_F(ProgramInspectionTest, ReadsTheInterpreterOfAScript) {
  const struct {
    std::string text, interpreter;
  } kCases[] = {{"#!/bin/sh\necho", "/bin/sh"},
                {"#! \t/bin/sh -e\n", "/bin/sh"},
                {"#!/bin/sh", "/bin/sh"},
                {"#!\n", ""},
                {"#!", ""},
                {"#!   ", ""}};
  for (const auto& [text, interpreter] : kCases) {
    const auto file = ReadProgramFile(Write("script", text));
    EXPECT_EQ(file->kind, ProgramKind::kScript) << text;
    EXPECT_EQ(file->interpreter, interpreter) << text;
  }
  EXPECT_EQ(ReadProgramFile(Write("text", "echo hello\n"))->kind, ProgramKind::kOther);
  EXPECT_EQ(ReadProgramFile(Write("empty", ""))->kind, ProgramKind::kOther);
}

TEST_F(ProgramInspectionTest, FollowsScriptsToTheirInterpreter) {
  Elf fixed = {};
  fixed.segment.p_type = PT_LOAD;
  const std::string shell = Write("static-shell", fixed.bytes());
  const std::string inner = Write("inner", "#!" + shell + "\n");
  const std::string outer = Write("outer", "#!" + inner + " -x\n");
  EXPECT_THAT(WhyNot(outer), HasSubstr(shell + " is statically linked"));
  EXPECT_THAT(WhyNot(outer), HasSubstr("interpreter of " + outer));
  EXPECT_EQ(WhyNot(Write("good", "#!/bin/sh\n")), "");
  EXPECT_THAT(WhyNot(Write("lost", "#!/nonexistent/shell\n")), HasSubstr("/nonexistent/shell"));
  EXPECT_THAT(WhyNot(Write("mute", "#!\n")), HasSubstr("names no interpreter"));
  const std::string self = Write("self", "#!" + directory_ + "/self\n");
  EXPECT_THAT(WhyNot(self), HasSubstr("too many times"));
}

TEST_F(ProgramInspectionTest, RefusesSetIdProgramsThatChangePrivileges) {
  const Credentials owner = {getuid(), getgid()};
  const Credentials other = {getuid() + 1, getgid() + 1};
  const std::string setuid = Write("setuid", Elf().bytes(), 04755);
  EXPECT_EQ(WhyNot(setuid, owner), "");
  EXPECT_THAT(WhyNot(setuid, other), HasSubstr("is setuid to user"));
  const std::string setgid = Write("setgid", Elf().bytes(), 02755);
  EXPECT_EQ(WhyNot(setgid, owner), "");
  EXPECT_THAT(WhyNot(setgid, other), HasSubstr("is setgid to group"));
  EXPECT_EQ(WhyNot(Write("locking", Elf().bytes(), 02745), other), "");
  // The kernel ignores the bits on a script.
  EXPECT_EQ(WhyNot(Write("script", "#!/bin/sh\n", 06755), other), "");
}

TEST_F(ProgramInspectionTest, SearchesThePath) {
  std::filesystem::create_directories(directory_ + "/first/tool");
  std::filesystem::create_directory(directory_ + "/second");
  const std::string dull = Write("second/tool", "#!/bin/sh\n", 0644);
  const std::string list = directory_ + "/first:" + directory_ + "/second:/nonexistent";
  auto found = FindProgram("tool", list);
  EXPECT_TRUE(absl::IsPermissionDenied(found.status())) << found.status();
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("/first/tool is a directory"));
  ASSERT_EQ(chmod(dull.c_str(), 0755), 0);
  EXPECT_EQ(*FindProgram("tool", list), dull);
  EXPECT_EQ(*FindProgram(dull, ""), dull);

  found = FindProgram("no-such-tool", list);
  EXPECT_TRUE(absl::IsNotFound(found.status()));
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("'no-such-tool'"));
  EXPECT_TRUE(absl::IsNotFound(FindProgram("", list).status()));
  EXPECT_TRUE(absl::IsNotFound(FindProgram(directory_ + "/none", list).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(FindProgram(directory_, list).status()));
}

TEST_F(ProgramInspectionTest, AnEmptyPathEntryIsTheCurrentDirectory) {
  Write("tool", "#!/bin/sh\n");
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory_);
  EXPECT_EQ(*FindProgram("tool", "/nonexistent:"), "./tool");
  std::filesystem::current_path(before);
}

}  // namespace
}  // namespace rump
