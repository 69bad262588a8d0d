#include "hijack/exec_environment.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace rump::hijack {
namespace {

using Texts = std::vector<std::string>;

const Texts kLibrarysOwn = {"LD_PRELOAD=/lib/librumphijack.so", "RUMP_SERVER=unix:///dir/s",
                            "RUMPHIJACK=socket=inet", "RUMPHIJACK_FOLLOW=yes"};

class ExecEnvironmentTest : public testing::Test {
 protected:
  static std::vector<char*> Pointers(Texts& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
  }

  static void Configure(bool follow) {
    Texts texts = {"HOME=/", "RUMP_SERVER=unix://s", kLibrarysOwn[0], kLibrarysOwn[2],
                   kLibrarysOwn[3]};
    ASSERT_TRUE(ConfigureExec(Pointers(texts).data(), "unix:///dir/s", follow));
  }

  // What becomes of `texts`.
  Texts Next(Texts texts, char* entry = nullptr) {
    std::vector<char*> pointers = Pointers(texts);
    const ExecEnvironment::Size size = ExecEnvironment::Measure(pointers.data());
    EXPECT_GT(size.entries, texts.size());
    constexpr char kUntouched = '#';
    std::vector<char*> entries(size.entries);
    std::string preload(size.preload + 2, kUntouched);
    ExecEnvironment environment(pointers.data(), entries.data(), preload.data());
    keeps_ = environment.Keeps();
    Texts result;
    for (char* const* e = environment.Finish(entry); *e != nullptr; ++e) result.emplace_back(*e);
    EXPECT_LT(result.size(), size.entries);
    EXPECT_EQ(preload.back(), kUntouched);
    return result;
  }

  bool keeps_ = false;
};

TEST_F(ExecEnvironmentTest, StaysAsItIs) {
  Configure(/*follow=*/false);
  EXPECT_EQ(Next({"A=1", "B", ""}), (Texts{"A=1", "B", ""}));
  EXPECT_FALSE(keeps_);
  EXPECT_EQ(Next({"LD_PRELOAD=libother.so", "RUMPHIJACKED=no"}),
            (Texts{"LD_PRELOAD=libother.so", "RUMPHIJACKED=no"}));
  EXPECT_EQ(Next({}), Texts{});
}

TEST_F(ExecEnvironmentTest, KeepsTheProcessOnTheSameServer) {
  Configure(/*follow=*/false);
  char entry[] = "X=1";
  EXPECT_EQ(Next({kLibrarysOwn[0], kLibrarysOwn[1]}, entry),
            (Texts{kLibrarysOwn[0], kLibrarysOwn[1], "X=1"}));
  EXPECT_TRUE(keeps_);
  // Relative to a directory that may be another by then.
  EXPECT_EQ(Next({"RUMP_SERVER=unix://s", kLibrarysOwn[0]}),
            (Texts{kLibrarysOwn[1], kLibrarysOwn[0]}));
  EXPECT_TRUE(keeps_);
  Next({kLibrarysOwn[0], "RUMP_SERVER=unix:///dir/other"});
  EXPECT_FALSE(keeps_);
  Next({kLibrarysOwn[0]});
  EXPECT_FALSE(keeps_);
  Next({kLibrarysOwn[1]});
  EXPECT_FALSE(keeps_);
}

TEST_F(ExecEnvironmentTest, GetsBackWhatIsMissing) {
  Configure(/*follow=*/true);
  EXPECT_EQ(Next({}), kLibrarysOwn);
  EXPECT_TRUE(keeps_);
  EXPECT_EQ(Next({"LD_PRELOAD=libother.so:x"})[0],
            "LD_PRELOAD=/lib/librumphijack.so:libother.so:x");
  EXPECT_EQ(Next({"LD_PRELOAD="})[0], "LD_PRELOAD=/lib/librumphijack.so:");
  // Of two that a program gives the loader takes the last; there has to be room for the longer.
  EXPECT_EQ(Next({"LD_PRELOAD=" + std::string(500, 'x'), "LD_PRELOAD=y"})[1],
            "LD_PRELOAD=/lib/librumphijack.so:y");
  // What the program wants otherwise stays so.
  const Texts other = {"RUMPHIJACK=socket=inet6", "LD_PRELOAD=/x/librumphijack.so",
                       "RUMP_SERVER=unix:///dir/other", "RUMPHIJACK_FOLLOW=no"};
  EXPECT_EQ(Next(other), other);
  EXPECT_FALSE(keeps_);
}

TEST_F(ExecEnvironmentTest, WhatCannotBeCopiedStays) {
  Configure(/*follow=*/true);
  Texts many(1000, "A=1");
  EXPECT_GT(ExecEnvironment::Measure(Pointers(many).data()).entries, 1000u);
  many.emplace_back("A=1");
  EXPECT_EQ(ExecEnvironment::Measure(Pointers(many).data()).entries, 0u);
  Texts long_preload = {"LD_PRELOAD=" + std::string(4096, 'x')};
  EXPECT_EQ(ExecEnvironment::Measure(Pointers(long_preload).data()).entries, 0u);
  char* const unreadable[] = {reinterpret_cast<char*>(16), nullptr};
  EXPECT_EQ(ExecEnvironment::Measure(unreadable).entries, 0u);
  EXPECT_EQ(ExecEnvironment::Measure(reinterpret_cast<char* const*>(16)).entries, 0u);
  EXPECT_GT(ExecEnvironment::Measure(nullptr).entries, 0u);
  Configure(/*follow=*/false);
  EXPECT_EQ(ExecEnvironment::Measure(nullptr).entries, 0u);
}

TEST_F(ExecEnvironmentTest, VariablesThatAreTooLongAreRefused) {
  Texts texts = {"LD_PRELOAD=" + std::string(20000, 'x')};
  EXPECT_FALSE(ConfigureExec(Pointers(texts).data(), "", /*follow=*/true));
  EXPECT_TRUE(ConfigureExec(Pointers(texts).data(), "", /*follow=*/false));
  // One that would not fit on a small stack next to that of a program.
  texts[0].resize(3000);
  EXPECT_FALSE(ConfigureExec(Pointers(texts).data(), "", /*follow=*/true));
}

}  // namespace
}  // namespace rump::hijack
