#include "protocol/banner.h"

#include <random>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace rump {
namespace {

struct Parsed {
  BannerError error;
  Banner banner;
  size_t consumed = 0;
};

Parsed Parse(std::string_view bytes) {
  Parsed parsed;
  parsed.error = ParseBanner(bytes, &parsed.banner, &parsed.consumed);
  return parsed;
}

std::string Format(const Banner& banner, size_t room = kMaxBanner) {
  std::string out(room, '?');
  out.resize(FormatBanner(banner, out));
  return out;
}

TEST(BannerTest, ReadsTheBannerOfANetBsdServer) {
  constexpr std::string_view kLine = "RUMPSP-0.4-NetBSD-7.99.34/amd64\n";
  const std::string bytes = std::string(kLine) + "\x18 a frame";
  const Parsed parsed = Parse(bytes);
  ASSERT_EQ(parsed.error, BannerError::kNone);
  EXPECT_EQ(parsed.consumed, kLine.size());
  EXPECT_EQ(parsed.banner.major, 0);
  EXPECT_EQ(parsed.banner.minor, 4);
  EXPECT_EQ(parsed.banner.ostype, "NetBSD");
  EXPECT_EQ(parsed.banner.osrelease, "7.99.34");
  EXPECT_EQ(parsed.banner.machine, "amd64");
  EXPECT_EQ(parsed.banner.extensions, 0u);
}

TEST(BannerTest, ReleaseMayContainDashes) {
  const Parsed parsed = Parse("RUMPSP-0.4-Linux-6.1.0-9-amd64/x86_64\n");
  ASSERT_EQ(parsed.error, BannerError::kNone);
  EXPECT_EQ(parsed.banner.ostype, "Linux");
  EXPECT_EQ(parsed.banner.osrelease, "6.1.0-9-amd64");
  EXPECT_EQ(parsed.banner.machine, "x86_64");
}

TEST(BannerTest, AnyMinorVersionIsAccepted) {
  EXPECT_EQ(Parse("RUMPSP-0.3-a-b/c\n").banner.minor, 3);
  EXPECT_EQ(Parse("RUMPSP-0.12-a-b/c\n").banner.minor, 12);
}

TEST(BannerTest, ExtensionsThatWeDoNotKnowArePassedOver) {
  const Parsed parsed = Parse("RUMPSP-0.4-Linux-6.1/x86_64 +future+hostfd+shm2+cancel\n");
  ASSERT_EQ(parsed.error, BannerError::kNone);
  EXPECT_EQ(parsed.banner.extensions, kExtensionHostFd | kExtensionCancel);
  // A name that only starts like one of ours is another's.
  EXPECT_EQ(Parse("RUMPSP-0.4-a-b/c +hostfd2+host\n").banner.extensions, 0u);
}

TEST(BannerTest, FormatsWhatItReads) {
  Banner banner;
  banner.ostype = "Linux";
  banner.osrelease = "6.1.0-9";
  banner.machine = "x86_64";
  EXPECT_EQ(Format(banner), "RUMPSP-0.4-Linux-6.1.0-9/x86_64\n");
  banner.extensions = kExtensionHostFd;
  EXPECT_EQ(Format(banner), "RUMPSP-0.4-Linux-6.1.0-9/x86_64 +hostfd\n");
  banner.extensions = kAllExtensions;
  const std::string line = Format(banner);
  EXPECT_EQ(line, "RUMPSP-0.4-Linux-6.1.0-9/x86_64 +cancel+hostfd+control+inline\n");
  EXPECT_EQ(Parse(line).banner.extensions, banner.extensions);
}

TEST(BannerTest, FormatsIntoExactlyTheRoomThatItNeeds) {
  Banner banner;
  banner.ostype = "Linux";
  banner.osrelease = "6.1";
  banner.machine = "x86_64";
  banner.extensions = kExtensionControl;
  const std::string line = Format(banner);
  EXPECT_EQ(Format(banner, line.size()), line);
  for (size_t room = 0; room < line.size(); ++room) EXPECT_EQ(Format(banner, room), "") << room;
}

TEST(BannerTest, NeverFormatsMoreThanTheLongestBanner) {
  const std::string fixed = "RUMPSP-0.4-Linux-/x86_64\n";
  const std::string release(kMaxBanner - fixed.size() + 1, '6');
  Banner banner;
  banner.ostype = "Linux";
  banner.machine = "x86_64";
  banner.osrelease = std::string_view(release).substr(1);
  const std::string longest = Format(banner, 200);
  EXPECT_EQ(longest.size(), kMaxBanner);
  EXPECT_EQ(Parse(longest).error, BannerError::kNone);
  banner.osrelease = release;
  EXPECT_EQ(Format(banner, 200), "");
}

TEST(BannerTest, FormatRefusesFieldsThatCouldNotBeReadBack) {
  Banner good;
  good.ostype = "Linux";
  good.osrelease = "6.1";
  good.machine = "x86_64";
  for (const std::string_view bad : {"", "a b", "a\nb", "a\x7f"}) {
    Banner banner = good;
    banner.ostype = bad;
    EXPECT_EQ(Format(banner), "") << bad;
    banner = good;
    banner.osrelease = bad;
    EXPECT_EQ(Format(banner), "") << bad;
    banner = good;
    banner.machine = bad;
    EXPECT_EQ(Format(banner), "") << bad;
  }
  Banner banner = good;
  banner.ostype = "GNU-Linux";
  EXPECT_EQ(Format(banner), "");
  banner = good;
  banner.osrelease = "6/1";
  EXPECT_EQ(Format(banner), "");
}

TEST(BannerTest, IsIncompleteWhenCutAtAnyByte) {
  const std::string line = "RUMPSP-0.4-Linux-6.1/x86_64 +cancel+control\n";
  for (size_t size = 0; size < line.size(); ++size) {
    EXPECT_EQ(Parse(line.substr(0, size)).error, BannerError::kIncomplete) << size;
  }
  EXPECT_EQ(Parse({}).error, BannerError::kIncomplete);
}

TEST(BannerTest, EndsWithinItsLongestLengthOrIsTooLong) {
  const std::string line = "RUMPSP-0.4-Linux-6.1/" + std::string(kMaxBanner, 'x');
  EXPECT_EQ(Parse(line.substr(0, kMaxBanner - 1)).error, BannerError::kIncomplete);
  EXPECT_EQ(Parse(line.substr(0, kMaxBanner)).error, BannerError::kTooLong);
  EXPECT_EQ(Parse(line.substr(0, kMaxBanner) + "\n").error, BannerError::kTooLong);
  EXPECT_EQ(Parse(line.substr(0, kMaxBanner - 1) + "\n").error, BannerError::kNone);
}

TEST(BannerTest, OtherServersAreKnownByTheirFirstWrongByte) {
  for (const std::string_view bytes :
       {"H", "HTTP/1.1 400 Bad Request\r\n", "SSH-2.0-OpenSSH_9.2\n", "\n", "RUMPSP\n", "RUMPSP_",
        "rumpsp-0.4-a-b/c\n", " RUMPSP-0.4-a-b/c\n"}) {
    EXPECT_EQ(Parse(bytes).error, BannerError::kNotRumpsp) << bytes;
  }
  EXPECT_EQ(Parse(std::string_view("\0\0", 2)).error, BannerError::kNotRumpsp);
}

TEST(BannerTest, OtherMajorVersionsAreNamedWhateverFollows) {
  for (const std::string_view bytes : {"RUMPSP-1.0-a-b/c\n", "RUMPSP-1.x\n", "RUMPSP-1\n"}) {
    const Parsed parsed = Parse(bytes);
    EXPECT_EQ(parsed.error, BannerError::kOtherMajor) << bytes;
    EXPECT_EQ(parsed.banner.major, 1) << bytes;
  }
}

TEST(BannerTest, MalformedLines) {
  for (const std::string_view bytes : {"RUMPSP-\n",
                                       "RUMPSP-.4-a-b/c\n",
                                       "RUMPSP-x.4-a-b/c\n",
                                       "RUMPSP--1.4-a-b/c\n",
                                       "RUMPSP-65536.4-a-b/c\n",
                                       "RUMPSP-18446744073709551616.4-a-b/c\n",
                                       "RUMPSP-0\n",
                                       "RUMPSP-0.-a-b/c\n",
                                       "RUMPSP-0.x-a-b/c\n",
                                       "RUMPSP-0.4\n",
                                       "RUMPSP-0.4-\n",
                                       "RUMPSP-0.4-a\n",
                                       "RUMPSP-0.4--b/c\n",
                                       "RUMPSP-0.4-a-b\n",
                                       "RUMPSP-0.4-a-/c\n",
                                       "RUMPSP-0.4-a-b/\n",
                                       "RUMPSP-0.4-a-b/ +cancel\n",
                                       "RUMPSP-0.4-a-b/c\r\n",
                                       "RUMPSP-0.4-a-b/c \n",
                                       "RUMPSP-0.4-a-b/c cancel\n",
                                       "RUMPSP-0.4-a-b/c +\n",
                                       "RUMPSP-0.4-a-b/c ++cancel\n",
                                       "RUMPSP-0.4-a-b/c +cancel +hostfd\n",
                                       "RUMPSP-0.4-a b-c/d\n",
                                       "RUMPSP-0.4-a-b c/d\n",
                                       "RUMPSP-0.4-a-\x1b[2J/d\n"}) {
    EXPECT_EQ(Parse(bytes).error, BannerError::kMalformed) << bytes;
  }
}

TEST(BannerTest, RandomLinesAreRefusedOrRoundTrip) {
  std::mt19937 random(1);
  constexpr std::string_view kAlphabet = "0a-./+ \n\x01";
  int parsed_lines = 0;
  for (int round = 0; round < 200000; ++round) {
    std::string line = "RUMPSP-0.4-";
    for (size_t i = random() % 20; i > 0; --i) line += kAlphabet[random() % kAlphabet.size()];
    line += '\n';
    const Parsed parsed = Parse(line);
    if (parsed.error != BannerError::kNone) continue;
    ++parsed_lines;
    const std::string again = Format(parsed.banner);
    ASSERT_EQ(line.substr(0, again.size() - 1) + "\n", again) << line;
  }
  EXPECT_GT(parsed_lines, 100);
}

TEST(BannerErrorTest, EveryErrorHasAnOwnName) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(BannerError::kOtherMajor); ++i) {
    names.insert(BannerErrorName(static_cast<BannerError>(i)));
  }
  EXPECT_EQ(names.size(), 6u);
  EXPECT_FALSE(names.contains(BannerErrorName(static_cast<BannerError>(99))));
}

}  // namespace
}  // namespace rump
