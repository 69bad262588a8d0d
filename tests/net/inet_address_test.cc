#include "sp_server/net/inet_address.h"

#include "tests/net/net_test_util.h"

namespace rump {
namespace {

TEST(InetAddressTest, RoundTrips) {
  for (const SocketAddress& address :
       {Ipv4("1.2.3.4", 80), Ipv4("0.0.0.0", 0), Ipv4("255.255.255.255", 65535)}) {
    Result<InetAddress> parsed = ParseInetAddress(AF_INET, address);
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(Show(ToSocketAddress(AF_INET, *parsed)), Show(address));
  }
  for (const SocketAddress& address :
       {Ipv6("::", 1), Ipv6("::1", 80), Ipv6("2001:db8::7", 443), Ipv6("::ffff:1.2.3.4", 8080)}) {
    Result<InetAddress> parsed = ParseInetAddress(AF_INET6, address);
    ASSERT_TRUE(parsed.ok());
    const SocketAddress back = ToSocketAddress(AF_INET6, *parsed);
    EXPECT_EQ(Show(back), Show(address));
    EXPECT_EQ(back.len, sizeof(sockaddr_in6));
  }
}

TEST(InetAddressTest, MappedAddressesAreIpv4) {
  Result<InetAddress> parsed = ParseInetAddress(AF_INET6, Ipv6("::ffff:1.2.3.4", 7));
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(IP_IS_V4_VAL(parsed->ip));
  EXPECT_EQ(Show(ToSocketAddress(AF_INET, *parsed)), "1.2.3.4 7");
}

TEST(InetAddressTest, ScopeSurvives) {
  SocketAddress address = Ipv6("fe80::1", 9);
  reinterpret_cast<sockaddr_in6&>(address.storage).sin6_scope_id = 3;
  Result<InetAddress> parsed = ParseInetAddress(AF_INET6, address);
  ASSERT_TRUE(parsed.ok());
  const SocketAddress back = ToSocketAddress(AF_INET6, *parsed);
  EXPECT_EQ(reinterpret_cast<const sockaddr_in6&>(back.storage).sin6_scope_id, 3u);
}

TEST(InetAddressTest, LengthsAndFamilies) {
  SocketAddress v4 = Ipv4("1.2.3.4", 80);
  EXPECT_EQ(ParseInetAddress(AF_INET6, v4).error().value(), EINVAL);  // shorter than sockaddr_in6
  v4.len = sizeof(sockaddr_in) - 1;
  EXPECT_EQ(ParseInetAddress(AF_INET, v4).error().value(), EINVAL);
  EXPECT_EQ(ParseInetAddress(AF_INET, SocketAddress{}).error().value(), EINVAL);
  SocketAddress v6 = Ipv6("::1", 80);
  EXPECT_EQ(ParseInetAddress(AF_INET, v6).error().value(), EAFNOSUPPORT);
  v6.len = 24;  // as of RFC 2133
  EXPECT_TRUE(ParseInetAddress(AF_INET6, v6).ok());
  v6.len = 23;
  EXPECT_EQ(ParseInetAddress(AF_INET6, v6).error().value(), EINVAL);
}

}  // namespace
}  // namespace rump
