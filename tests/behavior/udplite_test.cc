// UDP-Lite as programs see it: udplite(7).
#include <netinet/in.h>

#include <string>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// Of linux/udp.h, which some systems' headers lack.
constexpr int kSendCoverage = 10;
constexpr int kReceiveCoverage = 11;

Fd Bound(int protocol) {
  Fd fd(socket(AF_INET, SOCK_DGRAM, protocol));
  EXPECT_THAT(fd.get(), Succeeds());
  const sockaddr_in address = Loopback(0);
  EXPECT_THAT(bind(fd.get(), Addr(address), sizeof address), Succeeds());
  return fd;
}

ssize_t SendTo(const Fd& fd, uint16_t port, const std::string& data) {
  const sockaddr_in to = Loopback(port);
  return sendto(fd.get(), data.data(), data.size(), 0, Addr(to), sizeof to);
}

TEST(UdpLite, DatagramsKeepTheirBounds) {
  const Fd a = Bound(IPPROTO_UDPLITE);
  const Fd b = Bound(IPPROTO_UDPLITE);
  EXPECT_EQ(SendTo(a, PortOf(b), "one"), 3);
  EXPECT_EQ(SendTo(a, PortOf(b), "second"), 6);
  char data[64];
  EXPECT_EQ(recv(b.get(), data, sizeof data, 0), 3);
  EXPECT_EQ(recv(b.get(), data, sizeof data, 0), 6);
}

TEST(UdpLite, SaysWhatItIs) {
  const Fd fd = Bound(IPPROTO_UDPLITE);
  int protocol = 0;
  socklen_t size = sizeof protocol;
  EXPECT_THAT(getsockopt(fd.get(), SOL_SOCKET, SO_PROTOCOL, &protocol, &size), Succeeds());
  EXPECT_EQ(protocol, IPPROTO_UDPLITE);
}

TEST(UdpLite, ChecksumsMayCoverAPart) {
  const Fd a = Bound(IPPROTO_UDPLITE);
  const Fd b = Bound(IPPROTO_UDPLITE);
  const int coverage = 20;
  for (const int option : {kSendCoverage, kReceiveCoverage}) {
    EXPECT_THAT(setsockopt(a.get(), IPPROTO_UDPLITE, option, &coverage, sizeof coverage),
                Succeeds());
    int value = 0;
    socklen_t size = sizeof value;
    EXPECT_THAT(getsockopt(a.get(), IPPROTO_UDPLITE, option, &value, &size), Succeeds());
    EXPECT_EQ(value, coverage);
  }
  const std::string sent(100, 'x');
  EXPECT_EQ(SendTo(a, PortOf(b), sent), 100);
  char data[128];
  ASSERT_EQ(recv(b.get(), data, sizeof data, 0), 100);
  EXPECT_EQ(std::string(data, 100), sent);
}

TEST(UdpLite, DatagramsOfUdpAreNotForIt) {
  const Fd lite = Bound(IPPROTO_UDPLITE);
  const Fd plain = Bound(IPPROTO_UDP);
  EXPECT_EQ(SendTo(plain, PortOf(lite), "plain"), 5);
  // In the order of sending, if both arrived.
  const Fd other = Bound(IPPROTO_UDPLITE);
  EXPECT_EQ(SendTo(other, PortOf(lite), "lite"), 4);
  char data[8];
  EXPECT_EQ(recv(lite.get(), data, sizeof data, 0), 4);
}

TEST(UdpLite, NobodyAtThePortIsRefused) {
  Fd nobody = Bound(IPPROTO_UDPLITE);
  const sockaddr_in to = Loopback(PortOf(nobody));
  nobody.Close();
  const Fd fd = Bound(IPPROTO_UDPLITE);
  ASSERT_THAT(connect(fd.get(), Addr(to), sizeof to), Succeeds());
  EXPECT_EQ(send(fd.get(), "x", 1, 0), 1);
  char data[8];
  EXPECT_THAT(recv(fd.get(), data, sizeof data, 0), FailsWith(ECONNREFUSED));
}

}  // namespace
}  // namespace rump
