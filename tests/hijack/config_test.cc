#include "hijack/config.h"

#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <random>
#include <string>

#include "gtest/gtest.h"

namespace rump {
namespace {

// The configuration of a text that must be right; its views point into the literal.
HijackConfig Parse(std::string_view text) {
  HijackConfig config;
  char error[300] = "";
  EXPECT_TRUE(ParseHijackConfig(text, &config, error, sizeof(error))) << error;
  return config;
}

// The message about a text that must be wrong.
std::string ErrorOf(std::string_view text) {
  HijackConfig config;
  char error[300] = "";
  EXPECT_FALSE(ParseHijackConfig(text, &config, error, sizeof(error))) << text;
  return error;
}

// The hijacked domains as a text such as "inet,unix".
std::string DomainsOf(std::string_view text) {
  const HijackConfig config = Parse(text);
  std::string domains;
  if (HijacksDomain(config, AF_INET)) domains += "inet ";
  if (HijacksDomain(config, AF_INET6)) domains += "inet6 ";
  if (HijacksDomain(config, AF_UNIX)) domains += "unix ";
  return domains;
}

TEST(HijackConfigTest, DefaultIsNetworkSocketsAndThePathRump) {
  const HijackConfig config = Parse("");
  EXPECT_EQ(DomainsOf(""), "inet inet6 ");
  EXPECT_EQ(config.path, "/rump");
  EXPECT_EQ(config.blanket, "");
  EXPECT_EQ(config.vfs, 0u);
  EXPECT_FALSE(config.sysctl);
  EXPECT_EQ(config.fdoff, 0u);
}

TEST(HijackConfigTest, FamiliesApplyFromLeftToRight) {
  EXPECT_EQ(DomainsOf("socket=all"), "inet inet6 unix ");
  EXPECT_EQ(DomainsOf("socket=all:nolocal"), "inet inet6 ");
  EXPECT_EQ(DomainsOf("socket=nolocal:all"), "inet inet6 unix ");
  EXPECT_EQ(DomainsOf("socket=inet:noinet6"), "inet ");
  EXPECT_EQ(DomainsOf("socket=inet6"), "inet6 ");
  EXPECT_EQ(DomainsOf("socket=local"), "unix ");
  EXPECT_EQ(DomainsOf("socket=all:noall:inet6"), "inet6 ");
  EXPECT_EQ(DomainsOf("socket=noinet"), "");
}

TEST(HijackConfigTest, OtherDomainsAreNeverHijacked) {
  const HijackConfig config = Parse("socket=all");
  for (const int domain : {AF_UNSPEC, AF_NETLINK, AF_PACKET, -1, 1 << 20}) {
    EXPECT_FALSE(HijacksDomain(config, domain)) << domain;
  }
}

TEST(HijackConfigTest, RoutesAreTheInternets) {
  for (const std::string_view text : {"", "socket=inet", "socket=inet6"}) {
    EXPECT_TRUE(HijacksSocket(Parse(text), AF_NETLINK, NETLINK_ROUTE)) << text;
  }
  EXPECT_FALSE(HijacksSocket(Parse("socket=local"), AF_NETLINK, NETLINK_ROUTE));
  EXPECT_FALSE(HijacksSocket(Parse(""), AF_NETLINK, NETLINK_KOBJECT_UEVENT));
  EXPECT_TRUE(HijacksSocket(Parse("socket=inet"), AF_INET, IPPROTO_UDP));
  EXPECT_FALSE(HijacksSocket(Parse("socket=inet"), AF_INET6, NETLINK_ROUTE));
}

TEST(HijackConfigTest, PathDefaultsOnlyWhenNoSocketsAreNamed) {
  EXPECT_EQ(Parse("sysctl=yes").path, "/rump");
  EXPECT_EQ(Parse("socket=inet").path, "");
  EXPECT_EQ(Parse("socket=inet,path=/x").path, "/x");
  EXPECT_EQ(Parse("path=/x,socket=inet").path, "/x");
  EXPECT_EQ(Parse("path=/x").path, "/x");
  EXPECT_EQ(DomainsOf("path=/x"), "inet inet6 ");
}

TEST(HijackConfigTest, PathLosesTheSlashesAtItsEnd) {
  EXPECT_EQ(Parse("path=/a/b").path, "/a/b");
  EXPECT_EQ(Parse("path=/a/b//").path, "/a/b");
}

TEST(HijackConfigTest, EveryKey) {
  const HijackConfig config =
      Parse("path=/net,socket=all,blanket=/dev/a:/dev/b,vfs=all:nonfssvc,sysctl=yes,fdoff=65536");
  EXPECT_EQ(config.path, "/net");
  EXPECT_EQ(config.families, kAllFamilies);
  EXPECT_EQ(config.blanket, "/dev/a:/dev/b");
  EXPECT_EQ(config.vfs, kVfsGetvfsstat | kVfsFhcalls);
  EXPECT_TRUE(config.sysctl);
  EXPECT_EQ(config.fdoff, 65536u);
  EXPECT_FALSE(Parse("sysctl=no").sysctl);
  EXPECT_EQ(Parse("fdoff=1").fdoff, 1u);
  EXPECT_EQ(Parse("vfs=getvfsstat:fhcalls:nogetvfsstat").vfs, kVfsFhcalls);
}

TEST(HijackConfigTest, WhatIsNotHijackedIsNamed) {
  for (const std::string_view text : {"", "socket=all", "sysctl=no", "vfs=all:noall"}) {
    EXPECT_EQ(UnsupportedKey(Parse(text)), "") << text;
  }
  EXPECT_EQ(UnsupportedKey(Parse("socket=inet,path=/rump")), "path");
  EXPECT_EQ(UnsupportedKey(Parse("blanket=/a")), "blanket");
  EXPECT_EQ(UnsupportedKey(Parse("vfs=fhcalls")), "vfs");
  EXPECT_EQ(UnsupportedKey(Parse("sysctl=yes")), "sysctl");
  EXPECT_EQ(UnsupportedKey(Parse("fdoff=256")), "fdoff");
}

TEST(HijackConfigTest, TheLastOfAKeyCounts) {
  EXPECT_EQ(DomainsOf("socket=inet,socket=inet6"), "inet6 ");
  EXPECT_FALSE(Parse("sysctl=yes,sysctl=no").sysctl);
}

TEST(HijackConfigTest, ViewsPointIntoTheText) {
  const std::string text = "blanket=/b,path=/p";
  const HijackConfig config = Parse(text);
  EXPECT_EQ(config.blanket.data(), text.data() + 8);
  EXPECT_EQ(config.path.data(), text.data() + 16);
}

TEST(HijackConfigTest, UnknownKeysAreNamed) {
  EXPECT_EQ(ErrorOf("sokcet=inet"),
            "RUMPHIJACK: unknown key \"sokcet\" in \"sokcet=inet\" "
            "(known: socket; not supported yet: path, blanket, vfs, sysctl, fdoff)");
  EXPECT_NE(ErrorOf("socket=inet,").find("unknown key \"\" in \"\""), std::string::npos);
  EXPECT_NE(ErrorOf(",socket=inet").find("unknown key \"\" in \"\""), std::string::npos);
  EXPECT_NE(ErrorOf("Socket=inet").find("unknown key \"Socket\""), std::string::npos);
  EXPECT_NE(ErrorOf("=inet").find("unknown key \"\" in \"=inet\""), std::string::npos);
  EXPECT_NE(ErrorOf("path=/a, socket=inet").find("unknown key \" socket\""), std::string::npos);
}

TEST(HijackConfigTest, UnknownValuesAreNamed) {
  EXPECT_EQ(ErrorOf("path=/x,socket=all:nolcoal"),
            "RUMPHIJACK: unknown value \"nolcoal\" in \"socket=all:nolcoal\" "
            "(wanted: all, inet, inet6, local, each perhaps after \"no\")");
  EXPECT_EQ(ErrorOf("sysctl=maybe"),
            "RUMPHIJACK: unknown value \"maybe\" in \"sysctl=maybe\" (wanted: yes or no)");
}

TEST(HijackConfigTest, WrongValues) {
  for (const std::string_view text :
       {"socket",       "socket=",          "socket=:inet",
        "socket=inet:", "socket=no",        "socket=nonoinet",
        "socket=inet4", "socket=INET",      "path",
        "path=",        "path=/",           "path=//",
        "path=rump",    "blanket=",         "blanket=a",
        "blanket=/a:",  "blanket=/a:b",     "blanket=:/a",
        "vfs=",         "vfs=stat",         "sysctl",
        "sysctl=",      "sysctl=1",         "fdoff=",
        "fdoff=0",      "fdoff=65537",      "fdoff=-1",
        "fdoff=0x10",   "fdoff=4294967297", "fdoff=18446744073709551617"}) {
    const std::string error = ErrorOf(text);
    EXPECT_NE(error.find("unknown value"), std::string::npos) << text;
    EXPECT_NE(error.find("in \"" + std::string(text) + "\""), std::string::npos) << text;
  }
}

TEST(HijackConfigTest, MessageIsCutToItsRoom) {
  const std::string whole = ErrorOf("sokcet=inet");
  for (size_t size = 0; size <= whole.size() + 1; ++size) {
    std::string error(whole.size() + 2, '?');
    HijackConfig config;
    EXPECT_FALSE(ParseHijackConfig("sokcet=inet", &config, error.data(), size));
    if (size > 0) {
      EXPECT_EQ(std::string(error.c_str()), whole.substr(0, size - 1));
    }
    EXPECT_EQ(error.substr(size), std::string(error.size() - size, '?'));
  }
}

TEST(HijackConfigTest, RandomTextsGiveAConfigurationOrAMessage) {
  std::mt19937 random(1);
  constexpr std::string_view kPieces[] = {"socket", "path", "blanket", "vfs", "fdoff",
                                          "=",      "=",    ",",       ":",   "no",
                                          "all",    "inet", "/a",      "7",   "\xff"};
  int good = 0;
  for (int round = 0; round < 200000; ++round) {
    std::string text;
    for (size_t i = random() % 8; i > 0; --i) text += kPieces[random() % std::size(kPieces)];
    HijackConfig config;
    char error[64] = "";
    if (ParseHijackConfig(text, &config, error, sizeof(error))) {
      ++good;
      ASSERT_EQ(error[0], '\0') << text;
      ASSERT_TRUE(config.path.empty() || config.path[0] == '/') << text;
      ASSERT_LE(config.fdoff, 65536u);
    } else {
      ASSERT_EQ(strncmp(error, "RUMPHIJACK: unknown", 19), 0) << text;
    }
  }
  EXPECT_GT(good, 100);
}

}  // namespace
}  // namespace rump
