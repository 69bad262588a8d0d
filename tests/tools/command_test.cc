#include "tools/rump/command.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rump {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Option kOptions[] = {{"--server", "URL", "the server"}, {"-v", "", "say more"}};

Command Sample() {
  return {.name = "run",
          .synopsis = "PROGRAM",
          .summary = "Runs.",
          .description = "At length.\n",
          .options = kOptions};
}

absl::StatusOr<Invocation> Parse(const std::vector<std::string>& words) {
  return ParseInvocation(Sample(), words);
}

TEST(ParseInvocation, TakesAValueAsTheNextWordOrBehindAnEqualsSign) {
  for (const auto& words : {std::vector<std::string>{"--server", "unix://a=b", "-v", "x"},
                            std::vector<std::string>{"--server=unix://a=b", "-v", "x"}}) {
    const auto invocation = Parse(words);
    ASSERT_TRUE(invocation.ok()) << invocation.status();
    EXPECT_EQ(invocation->options.at("--server"), "unix://a=b");
    EXPECT_TRUE(invocation->has("-v"));
    EXPECT_THAT(invocation->arguments, ElementsAre("x"));
  }
}

TEST(ParseInvocation, LeavesTheProgramsOptionsAlone) {
  EXPECT_THAT(Parse({"curl", "-v", "--"})->arguments, ElementsAre("curl", "-v", "--"));
  EXPECT_THAT(Parse({"-v", "--", "-x", "--"})->arguments, ElementsAre("-x", "--"));
  EXPECT_THAT(Parse({"-"})->arguments, ElementsAre("-"));
}

TEST(ParseInvocation, SaysWhatIsWrong) {
  EXPECT_THAT(std::string(Parse({"--sever=x"}).status().message()), HasSubstr("--sever"));
  EXPECT_THAT(std::string(Parse({"--server"}).status().message()), HasSubstr("needs a value: URL"));
  EXPECT_THAT(std::string(Parse({"-v=1"}).status().message()), HasSubstr("unknown option -v=1"));
}

TEST(ParseInvocation, PassesEverythingOnIfTheCommandSaysSo) {
  Command command = Sample();
  command.passes_options_on = true;
  const std::vector<std::string> words = {"--help", "--", "-v"};
  EXPECT_EQ(ParseInvocation(command, words)->arguments, words);
}

TEST(FormatHelp, IsMadeFromTheTable) {
  EXPECT_EQ(FormatHelp(Sample()),
            "Usage: rump run [--server URL] [-v] PROGRAM\n"
            "Runs.\n\n"
            "At length.\n\n"
            "Options:\n"
            "  --server URL   the server\n"
            "  -v             say more\n");
}

}  // namespace
}  // namespace rump
