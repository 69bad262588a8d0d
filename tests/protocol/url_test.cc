#include "protocol/url.h"

#include <arpa/inet.h>

#include <random>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace rump {
namespace {

UrlError Parse(std::string_view url, std::string_view cwd = "/home/me") {
  Endpoint endpoint;
  return ParseUrl(url, cwd, &endpoint);
}

// The URL once parsed and formatted again, or the error's name.
std::string Again(std::string_view url, std::string_view cwd = "/home/me") {
  Endpoint endpoint;
  const UrlError error = ParseUrl(url, cwd, &endpoint);
  if (error != UrlError::kNone) return std::string(UrlErrorName(error));
  char out[200];
  const size_t length = FormatUrl(endpoint, out, sizeof(out));
  EXPECT_EQ(strlen(out), length);
  return {out, length};
}

TEST(UrlTest, AbsoluteUnixPath) {
  Endpoint endpoint;
  ASSERT_EQ(ParseUrl("unix:///run/rump.sock", "/home/me", &endpoint), UrlError::kNone);
  EXPECT_TRUE(endpoint.is_unix());
  EXPECT_STREQ(endpoint.un.sun_path, "/run/rump.sock");
  EXPECT_EQ(endpoint.len, offsetof(sockaddr_un, sun_path) + sizeof("/run/rump.sock"));
}

TEST(UrlTest, RelativeUnixPathIsPutBehindTheWorkingDirectory) {
  EXPECT_EQ(Again("unix://sock", "/home/me"), "unix:///home/me/sock");
  EXPECT_EQ(Again("unix://../sock", "/home/me"), "unix:///home/me/../sock");
  EXPECT_EQ(Again("unix://sock", "/"), "unix:///sock");
  EXPECT_EQ(Again("unix://sock", ""), "unix://sock");
}

TEST(UrlTest, UnixPathsMayHoldWhatUrlsCannot) {
  EXPECT_EQ(Again("unix:///a b/:c#?%20[]://"), "unix:///a b/:c#?%20[]://");
}

TEST(UrlTest, UnixPathFitsSunPathWithItsNul) {
  const std::string longest = "/" + std::string(106, 'p');
  EXPECT_EQ(Again("unix://" + longest), "unix://" + longest);
  EXPECT_EQ(Parse("unix://" + longest + "p"), UrlError::kPathTooLong);
  EXPECT_EQ(Parse("unix://" + std::string(98, 'p'), "/home/me"), UrlError::kNone);
  EXPECT_EQ(Parse("unix://" + std::string(99, 'p'), "/home/me"), UrlError::kPathTooLong);
  EXPECT_EQ(Parse("unix://p", "/" + std::string(200, 'd')), UrlError::kPathTooLong);
}

TEST(UrlTest, TcpAddressAndPortAreInNetworkByteOrder) {
  Endpoint endpoint;
  ASSERT_EQ(ParseUrl("tcp://10.0.2.15:8080/", "", &endpoint), UrlError::kNone);
  EXPECT_FALSE(endpoint.is_unix());
  EXPECT_EQ(endpoint.in.sin_family, AF_INET);
  EXPECT_EQ(endpoint.in.sin_addr.s_addr, inet_addr("10.0.2.15"));
  EXPECT_EQ(endpoint.in.sin_port, htons(8080));
  EXPECT_EQ(endpoint.len, sizeof(sockaddr_in));

  ASSERT_EQ(ParseUrl("tcp://[2001:db8::7]:1", "", &endpoint), UrlError::kNone);
  EXPECT_EQ(endpoint.in6.sin6_family, AF_INET6);
  in6_addr wanted;
  ASSERT_EQ(inet_pton(AF_INET6, "2001:db8::7", &wanted), 1);
  EXPECT_EQ(memcmp(&endpoint.in6.sin6_addr, &wanted, sizeof(wanted)), 0);
  EXPECT_EQ(endpoint.in6.sin6_port, htons(1));
  EXPECT_EQ(endpoint.len, sizeof(sockaddr_in6));
}

TEST(UrlTest, TcpFinalSlashIsOptional) {
  EXPECT_EQ(Again("tcp://1.2.3.4:65535"), "tcp://1.2.3.4:65535/");
  EXPECT_EQ(Again("tcp://1.2.3.4:65535/"), "tcp://1.2.3.4:65535/");
  EXPECT_EQ(Again("tcp://[::1]:80"), "tcp://[::1]:80/");
}

TEST(UrlTest, Schemes) {
  for (const std::string_view url :
       {"", "unix", "unix:", "unix:/run/sock", "/run/sock", "tcp:/1"}) {
    EXPECT_EQ(Parse(url), UrlError::kNoScheme) << url;
  }
  for (const std::string_view url : {"://", "http://1.2.3.4:80/", "UNIX:///s", " unix:///s"}) {
    EXPECT_EQ(Parse(url), UrlError::kUnknownScheme) << url;
  }
}

TEST(UrlTest, UnixPathErrors) {
  EXPECT_EQ(Parse("unix://"), UrlError::kEmptyPath);
  EXPECT_EQ(Parse(std::string_view("unix://\0name", 12)), UrlError::kBadAddress);
  EXPECT_EQ(Parse(std::string_view("unix:///a\0b", 11)), UrlError::kBadAddress);
}

TEST(UrlTest, BadAddresses) {
  for (const std::string_view host : {"",          "localhost", "1.2.3",
                                      "1.2.3.4.5", "1.2.3.",    ".1.2.3",
                                      "1..2.3",    "256.1.1.1", "1.2.3.999999999999999999999",
                                      "01.2.3.4",  "1.2.3.4 ",  "-1.2.3.4",
                                      "0x1.2.3.4", "1.2.3.4.",  "::1",
                                      "[",         "[]",        "[::1",
                                      "[1.2.3.4]", "[::1%lo]"}) {
    EXPECT_EQ(Parse("tcp://" + std::string(host) + ":80/"), UrlError::kBadAddress) << host;
  }
  EXPECT_EQ(Parse("tcp://"), UrlError::kBadAddress);
}

TEST(UrlTest, BadPorts) {
  for (const std::string_view rest :
       {"", ":", "/", ":/", ":0", ":65536", ":80x", ":-1", ": 80", ":18446744073709551617", "80"}) {
    EXPECT_EQ(Parse("tcp://[::1]" + std::string(rest)), UrlError::kBadPort) << rest;
  }
  EXPECT_EQ(Parse("tcp://1.2.3.4"), UrlError::kBadPort);
  EXPECT_EQ(Parse("tcp://1.2.3.4/"), UrlError::kBadPort);
}

TEST(UrlTest, TrailingBytes) {
  EXPECT_EQ(Parse("tcp://1.2.3.4:80//"), UrlError::kTrailingBytes);
  EXPECT_EQ(Parse("tcp://1.2.3.4:80/index.html"), UrlError::kTrailingBytes);
}

TEST(UrlTest, EveryPrefixOfAUrlIsRefusedOrAUrl) {
  const std::string url = "tcp://[fe80::1:2:3.4.5.6]:8080/";
  const size_t first_port_digit = url.find("]:") + 2;
  for (size_t size = 0; size < url.size(); ++size) {
    EXPECT_EQ(Parse(url.substr(0, size)) == UrlError::kNone, size > first_port_digit) << size;
  }
}

// Random addresses of the characters that addresses are made of: our reader and inet_pton(3) must
// agree on every one.
TEST(UrlTest, AddressesAreThoseOfInetPton) {
  std::mt19937 random(1);
  const auto check = [](const std::string& text) {
    Endpoint endpoint;
    in6_addr v6;
    const bool is_v6 = inet_pton(AF_INET6, text.c_str(), &v6) == 1;
    const UrlError error6 = ParseUrl("tcp://[" + text + "]:80/", "", &endpoint);
    ASSERT_EQ(error6 == UrlError::kNone, is_v6) << text;
    if (is_v6) {
      ASSERT_EQ(memcmp(&endpoint.in6.sin6_addr, &v6, sizeof(v6)), 0) << text;
    }

    in_addr v4;
    const bool is_v4 = inet_pton(AF_INET, text.c_str(), &v4) == 1;
    const UrlError error4 = ParseUrl("tcp://" + text + ":80/", "", &endpoint);
    ASSERT_EQ(error4 == UrlError::kNone, is_v4) << text;
    if (is_v4) {
      ASSERT_EQ(endpoint.in.sin_addr.s_addr, v4.s_addr) << text;
    }
  };
  for (const char* text : {"::",
                           "::1",
                           "1::",
                           "1:2:3:4:5:6:7:8",
                           "::2:3:4:5:6:7:8",
                           "1:2:3:4:5:6:7::",
                           "1::3:4:5:6:7:8",
                           "1:2:3:4:5:6:7:8::",
                           "::1:2:3:4:5:6:7:8",
                           "1::2::3",
                           ":::",
                           ":",
                           "1:",
                           ":1",
                           "12345::",
                           "::ffff:1.2.3.4",
                           "::1.2.3.4",
                           "1:2:3:4:5:6:1.2.3.4",
                           "1:2:3:4:5:6:7:1.2.3.4",
                           "::1.2.3.4:5",
                           "::1.2.3",
                           "ABCD:ef01::",
                           "0.0.0.0",
                           "255.255.255.255",
                           "1.2.3.04"}) {
    check(text);
  }
  constexpr std::string_view kPieces[] = {":", "::", ".", "0", "1", "12", "255", "ab", "F00d", "g"};
  for (int round = 0; round < 300000; ++round) {
    std::string text;
    for (size_t i = 1 + random() % 15; i > 0; --i) text += kPieces[random() % std::size(kPieces)];
    check(text);
    if (HasFatalFailure()) return;
  }
  // Most of those are bad; these are mostly good.
  for (int round = 0; round < 100000; ++round) {
    std::string text;
    const size_t groups = 6 + random() % 3;
    for (size_t i = 0; i < groups; ++i) {
      if (i > 0) text += random() % 8 == 0 ? "::" : ":";
      text += kPieces[3 + random() % 6];
    }
    if (random() % 4 == 0) text += ":1.2.3.4";
    check(text);
    if (HasFatalFailure()) return;
  }
}

TEST(UrlTest, FormatsIpv6LikeInetNtop) {
  std::mt19937 random(1);
  for (int round = 0; round < 10000; ++round) {
    Endpoint endpoint;
    endpoint.in6 = {};
    endpoint.in6.sin6_family = AF_INET6;
    endpoint.in6.sin6_port = htons(80);
    endpoint.len = sizeof(sockaddr_in6);
    // A first group other than 0 keeps inet_ntop from its notation with a dotted IPv4 address.
    endpoint.in6.sin6_addr.s6_addr[0] = static_cast<uint8_t>(1 + random() % 255);
    for (int i = 2; i < 16; i += 2) {
      if (random() % 2 == 0) continue;
      endpoint.in6.sin6_addr.s6_addr[i] = static_cast<uint8_t>(random());
      endpoint.in6.sin6_addr.s6_addr[i + 1] = static_cast<uint8_t>(random());
    }
    char address[INET6_ADDRSTRLEN];
    ASSERT_NE(inet_ntop(AF_INET6, &endpoint.in6.sin6_addr, address, sizeof(address)), nullptr);
    char url[100];
    const size_t length = FormatUrl(endpoint, url, sizeof(url));
    ASSERT_EQ(std::string_view(url, length), "tcp://[" + std::string(address) + "]:80/");
  }
  EXPECT_EQ(Again("tcp://[::]:1"), "tcp://[::]:1/");
  EXPECT_EQ(Again("tcp://[0:0:1::]:1"), "tcp://[0:0:1::]:1/");
  EXPECT_EQ(Again("tcp://[::ffff:1.2.3.4]:1"), "tcp://[::ffff:102:304]:1/");
}

TEST(UrlTest, FormatNeedsRoomForTheNul) {
  for (const std::string url :
       {"unix:///run/rump.sock", "tcp://10.0.2.15:8080/", "tcp://[2001:db8::7]:1/"}) {
    Endpoint endpoint;
    ASSERT_EQ(ParseUrl(url, "", &endpoint), UrlError::kNone);
    for (size_t size = 0; size <= url.size(); ++size) {
      std::string out(size, '?');
      EXPECT_EQ(FormatUrl(endpoint, out.data(), size), 0u) << size;
    }
    std::string out(url.size() + 1, '?');
    EXPECT_EQ(FormatUrl(endpoint, out.data(), out.size()), url.size());
    EXPECT_EQ(out, url + '\0');
  }
}

TEST(UrlTest, FormatRefusesOtherFamilies) {
  Endpoint endpoint;
  char out[100];
  EXPECT_EQ(FormatUrl(endpoint, out, sizeof(out)), 0u);
}

TEST(UrlTest, RandomBytesBehindASchemeAreRefusedOrRoundTrip) {
  std::mt19937 random(1);
  for (int round = 0; round < 100000; ++round) {
    std::string url = random() % 2 == 0 ? "unix://" : "tcp://";
    for (size_t i = random() % 130; i > 0; --i) url += static_cast<char>(random());
    Endpoint endpoint;
    if (ParseUrl(url, "", &endpoint) != UrlError::kNone) continue;
    char out[200];
    const size_t length = FormatUrl(endpoint, out, sizeof(out));
    ASSERT_EQ(std::string_view(out, length), url);
  }
}

TEST(UrlErrorTest, EveryErrorHasAnOwnName) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(UrlError::kTrailingBytes); ++i) {
    names.insert(UrlErrorName(static_cast<UrlError>(i)));
  }
  EXPECT_EQ(names.size(), 8u);
  EXPECT_FALSE(names.contains(UrlErrorName(static_cast<UrlError>(99))));
}

}  // namespace
}  // namespace rump
