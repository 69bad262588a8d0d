#include "sp_server/command_line.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rump {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<CommandLine> Parse(const std::vector<const char*>& words) {
  return ParseCommandLine(words);
}

std::string Complaint(const std::vector<const char*>& words) {
  return std::string(Parse(words).status().message());
}

TEST(CommandLine, DefaultsAreTheServers) {
  const auto line = Parse({"unix://a", "tcp://127.0.0.1:1/"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_THAT(line->urls, ElementsAre("unix://a", "tcp://127.0.0.1:1/"));
  EXPECT_FALSE(line->foreground);
  EXPECT_EQ(line->server.extensions, kAllExtensions);
  EXPECT_EQ(line->server.max_clients, ServerOptions().max_clients);
  EXPECT_EQ(line->server.prefork_lifetime, ServerOptions().prefork_lifetime);
}

TEST(CommandLine, NameserversAreAddresses) {
  const auto line = Parse({"--nameserver=10.0.2.3", "unix://a", "--nameserver", "fd00::1"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_THAT(line->nameservers, ElementsAre("10.0.2.3", "fd00::1"));
  for (const char* bad : {"--nameserver=", "--nameserver=ns.example", "--nameserver=1.2.3.4\nx"}) {
    EXPECT_THAT(Complaint({bad, "unix://a"}), HasSubstr("an address of IPv4 or IPv6")) << bad;
  }
}

TEST(CommandLine, EveryLimitHasAnOption) {
  const auto line = Parse({"-s",
                           "--allow-remote",
                           "--trace",
                           "/t",
                           "--max-clients=1",
                           "--max-calls",
                           "2",
                           "--max-output",
                           "3",
                           "--max-fds",
                           "4",
                           "--max-objects",
                           "5",
                           "--max-preforks",
                           "6",
                           "--prefork-lifetime",
                           "7",
                           "--max-process-objects",
                           "8",
                           "--max-files",
                           "9",
                           "--max-process-files",
                           "10",
                           "--max-memory",
                           "11",
                           "--max-processes",
                           "12",
                           "unix://a"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_TRUE(line->foreground);
  EXPECT_TRUE(line->server.allow_remote);
  EXPECT_EQ(line->trace, "/t");
  EXPECT_EQ(line->server.max_clients, 1U);
  EXPECT_EQ(line->server.limits.calls_in_flight, 2U);
  EXPECT_EQ(line->server.limits.output_bytes, 3U);
  EXPECT_EQ(line->server.limits.received_fds, 4U);
  EXPECT_EQ(line->kernel.objects, 5U);
  EXPECT_EQ(line->kernel.process_objects, 8U);
  EXPECT_EQ(line->kernel.files, 9U);
  EXPECT_EQ(line->kernel.process_files, 10U);
  EXPECT_EQ(line->kernel.memory_bytes, 11U);
  EXPECT_EQ(line->kernel.processes, 12U);
  EXPECT_EQ(line->server.max_preforks, 6U);
  EXPECT_EQ(line->server.prefork_lifetime, std::chrono::seconds(7));
  EXPECT_THAT(line->urls, ElementsAre("unix://a"));
}

TEST(CommandLine, ExtensionsCanBeOff) {
  EXPECT_EQ(Parse({"--no-extensions", "unix://a"})->server.extensions, 0U);
  EXPECT_EQ(Parse({"--no-inline", "unix://a"})->server.extensions,
            kAllExtensions & ~uint32_t{kExtensionInline});
}

TEST(CommandLine, SaysWhatIsWrong) {
  EXPECT_THAT(Complaint({}), HasSubstr("no URL"));
  EXPECT_THAT(Complaint({"--nonsense", "unix://a"}), HasSubstr("unknown option --nonsense"));
  EXPECT_THAT(Complaint({"unix://a", "--max-calls"}), HasSubstr("--max-calls needs a value: N"));
  EXPECT_THAT(Complaint({"-s=1", "unix://a"}), HasSubstr("-s takes no value"));
  EXPECT_THAT(Complaint({"--trace=", "unix://a"}), HasSubstr("--trace is empty"));
  EXPECT_THAT(Complaint({"--trace", "-", "unix://a"}), HasSubstr("needs -s"));
  for (const char* number : {"0", "-1", "x", "1x", "", "99999999999999999999"}) {
    EXPECT_THAT(Complaint({"--max-calls", number, "unix://a"}), HasSubstr("takes a number"))
        << number;
  }
}

TEST(CommandLine, HelpNeedsNoUrl) {
  EXPECT_TRUE(Parse({"--help"})->help);
  EXPECT_TRUE(Parse({"--version"})->version);
}

TEST(CommandLine, HelpShowsDefaults) {
  EXPECT_THAT(CommandLineHelp(),
              HasSubstr("--prefork-lifetime SECONDS  how long they wait (60)\n"));
}

}  // namespace
}  // namespace rump
