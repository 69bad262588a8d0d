#include "sp_server/net/udp_socket.h"

#include <sys/ioctl.h>

#include "tests/net/net_test_util.h"

namespace rump {
namespace {

constexpr uint32_t kIn = POLLIN | POLLRDNORM;
constexpr uint32_t kOut = POLLOUT | POLLWRNORM;

class UdpSocketTest : public NetTest {
 protected:
  std::shared_ptr<Socket> Bound(const SocketAddress& address) {
    auto socket = Udp(address.family());
    EXPECT_EQ(socket->Bind(address).value(), 0);
    return socket;
  }
  int SendTo(Socket& socket, const SocketAddress& to, std::string_view text) {
    return socket.Send(Bytes(text), &to, 0).error().value();
  }
};

TEST_F(UdpSocketTest, DatagramsKeepTheirBounds) {
  auto server = Bound(Ipv4("127.0.0.1", 0));
  auto client = Udp();
  const SocketAddress where = *server->LocalAddress();
  EXPECT_EQ(SendTo(*client, where, "one"), 0);
  EXPECT_EQ(SendTo(*client, where, ""), 0);
  EXPECT_EQ(SendTo(*client, where, "three"), 0);
  EXPECT_EQ(server->Poll(), kOut);
  Settle();
  EXPECT_EQ(server->Poll(), kIn | kOut);
  std::vector<std::byte> buffer(100);
  Result<Received> first = server->Receive(buffer, 0);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->length, 3u);
  EXPECT_EQ(first->flags, 0);
  EXPECT_EQ(Show(first->from), "127.0.0.1 " + std::to_string(PortOf(*client->LocalAddress())));
  EXPECT_EQ(server->Receive(buffer, 0)->length, 0u);
  EXPECT_EQ(ReceiveText(*server), "three");
  EXPECT_EQ(ReceiveText(*server), ErrorText(EAGAIN));
}

TEST_F(UdpSocketTest, PeekAndTruncate) {
  auto server = Bound(Ipv4("127.0.0.1", 0));
  auto client = Udp();
  EXPECT_EQ(SendTo(*client, *server->LocalAddress(), "abcdef"), 0);
  Settle();
  int next = 0;
  EXPECT_EQ(server->Ioctl(FIONREAD, std::as_writable_bytes(std::span(&next, 1))).value(), 0);
  EXPECT_EQ(next, 6);
  std::vector<std::byte> small(4);
  Result<Received> peeked = server->Receive(small, MSG_PEEK);
  EXPECT_EQ(peeked->copied, 4u);
  EXPECT_EQ(peeked->length, 6u);
  EXPECT_EQ(peeked->flags, MSG_TRUNC);
  Result<Received> taken = server->Receive(small, 0);
  EXPECT_EQ(taken->length, 6u);
  EXPECT_EQ(ReceiveText(*server), ErrorText(EAGAIN));
}

TEST_F(UdpSocketTest, SizeLimits) {
  auto server = Bound(Ipv4("127.0.0.1", 0));
  auto client = Udp();
  const SocketAddress where = *server->LocalAddress();
  EXPECT_EQ(SendTo(*client, where, std::string(65508, 'x')), EMSGSIZE);
  EXPECT_EQ(SendTo(*client, where, std::string(65507, 'x')), 0);
  Settle();
  EXPECT_EQ(ReceiveText(*server, 70000).size(), 65507u);
}

TEST_F(UdpSocketTest, DestinationIsNeeded) {
  auto socket = Udp();
  EXPECT_EQ(SendText(*socket, "x").error().value(), EDESTADDRREQ);
  EXPECT_EQ(socket->PeerAddress().error().value(), ENOTCONN);
  EXPECT_EQ(SendTo(*socket, Ipv4("127.0.0.1", 0), "x"), EINVAL);
  EXPECT_EQ(SendTo(*socket, Ipv4("10.1.2.3", 9), "x"), ENETUNREACH);
  EXPECT_EQ(socket->Listen(1).value(), EOPNOTSUPP);
  EXPECT_EQ(socket->Accept(nullptr).error().value(), EOPNOTSUPP);
  EXPECT_EQ(ReceiveText(*socket), ErrorText(EAGAIN));
}

TEST_F(UdpSocketTest, ConnectedSocketHearsOnlyItsPeer) {
  auto server = Bound(Ipv4("127.0.0.1", 0));
  auto peer = Bound(Ipv4("127.0.0.1", 0));
  auto stranger = Udp();
  EXPECT_EQ(server->Connect(*peer->LocalAddress()).value(), 0);
  EXPECT_EQ(Show(*server->PeerAddress()), Show(*peer->LocalAddress()));
  EXPECT_EQ(SendTo(*stranger, *server->LocalAddress(), "no"), 0);
  EXPECT_EQ(SendTo(*peer, *server->LocalAddress(), "yes"), 0);
  Settle();
  EXPECT_EQ(ReceiveText(*server), "yes");
  EXPECT_EQ(ReceiveText(*server), ErrorText(EAGAIN));
  EXPECT_EQ(*SendText(*server, "reply"), 5u);
  Settle();
  EXPECT_EQ(ReceiveText(*peer), "reply");
}

TEST_F(UdpSocketTest, DissolvingAConnection) {
  auto server = Bound(Ipv4("127.0.0.1", 0));
  auto client = Udp();
  EXPECT_EQ(client->Connect(*server->LocalAddress()).value(), 0);
  EXPECT_EQ(Show(*client->LocalAddress()).substr(0, 10), "127.0.0.1 ");
  SocketAddress unspecified;
  unspecified.len = sizeof(sockaddr_in);
  EXPECT_EQ(client->Connect(unspecified).value(), 0);
  EXPECT_EQ(client->PeerAddress().error().value(), ENOTCONN);
  EXPECT_EQ(Show(*client->LocalAddress()), "0.0.0.0 0");
  EXPECT_EQ(SendTo(*client, *server->LocalAddress(), "again"), 0);
  Settle();
  EXPECT_EQ(ReceiveText(*server), "again");
}

TEST_F(UdpSocketTest, ClosedPortRefuses) {
  auto client = Udp();
  EXPECT_EQ(client->Connect(Ipv4("127.0.0.1", 9)).value(), 0);
  EXPECT_EQ(*SendText(*client, "x"), 1u);
  Settle();
  EXPECT_EQ(client->Poll(), kOut | POLLERR);
  EXPECT_EQ(SendText(*client, "y").error().value(), ECONNREFUSED);
  EXPECT_EQ(*SendText(*client, "z"), 1u);
  Settle();
  EXPECT_EQ(ReceiveText(*client), ErrorText(ECONNREFUSED));
  EXPECT_EQ(client->TakeError().value(), 0);
  auto unconnected = Udp();
  EXPECT_EQ(SendTo(*unconnected, Ipv4("127.0.0.1", 9), "x"), 0);
  Settle();
  EXPECT_EQ(unconnected->TakeError().value(), 0);
}

TEST_F(UdpSocketTest, ClosedPortRefusesOverIpv6) {
  auto client = Udp(AF_INET6);
  EXPECT_EQ(client->Connect(Ipv6("::1", 9)).value(), 0);
  EXPECT_EQ(*SendText(*client, "x"), 1u);
  Settle();
  EXPECT_EQ(client->TakeError().value(), ECONNREFUSED);
}

TEST_F(UdpSocketTest, ReceiveBufferBounds) {
  auto server = Bound(Ipv4("127.0.0.1", 0));
  EXPECT_EQ(SetInt(*server, SOL_SOCKET, SO_RCVBUF, 5000).value(), 0);
  auto client = Udp();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(SendTo(*client, *server->LocalAddress(), std::string(1000, 'x')), 0);
  }
  Settle();
  int received = 0;
  while (ReceiveText(*server).size() == 1000) ++received;
  EXPECT_GE(received, 5);
  EXPECT_LE(received, 10);
}

TEST_F(UdpSocketTest, AllReceiveQueuesAreBoundedTogether) {
  const auto memory = std::make_shared<Budget>(size_t{20'000});
  std::vector<std::shared_ptr<Socket>> sockets;
  for (int i = 0; i < 3; ++i) {
    sockets.push_back(
        std::make_shared<UdpSocket>(&NetStack::Get(), AF_INET, IPPROTO_UDP, 0, memory));
    ASSERT_EQ(sockets.back()->Bind(Ipv4("127.0.0.1", 0)).value(), 0);
  }
  const auto client = Udp();
  const auto send = [&](size_t to, size_t size) {
    EXPECT_EQ(SendTo(*client, *sockets[to]->LocalAddress(), std::string(size, 'x')), 0);
    Settle();
  };
  const auto drain = [&](size_t from) {
    int received = 0;
    while (ReceiveText(*sockets[from]).size() == 1000) ++received;
    return received;
  };
  // The first takes all that there is.
  for (int i = 0; i < 50; ++i) send(0, 1000);
  EXPECT_GT(memory->used(), 18'000U);
  EXPECT_LE(memory->used(), 20'000U);
  // The others get one datagram each, and no long one.
  send(1, 3000);
  for (int i = 0; i < 3; ++i) send(1, 1000);
  send(2, 1000);
  EXPECT_EQ(drain(1), 1);
  EXPECT_EQ(drain(2), 1);
  EXPECT_EQ(drain(0), 13);
  EXPECT_EQ(memory->used(), 0U);
  // Now there is room again.
  for (int i = 0; i < 3; ++i) send(1, 1000);
  EXPECT_GT(memory->used(), 4'000U);
  EXPECT_EQ(drain(1), 3);
  send(2, 1000);
  EXPECT_GT(memory->used(), 1'000U);
  sockets.clear();
  EXPECT_EQ(memory->used(), 0U);
}

TEST_F(UdpSocketTest, Ipv6AndMappedAddresses) {
  auto server = Bound(Ipv6("::", 0));
  const uint16_t port = PortOf(*server->LocalAddress());
  auto v4 = Udp();
  EXPECT_EQ(SendTo(*v4, Ipv4("127.0.0.1", port), "four"), 0);
  auto v6 = Udp(AF_INET6);
  EXPECT_EQ(SendTo(*v6, Ipv6("::1", port), "six"), 0);
  EXPECT_EQ(SendTo(*v6, Ipv6("::ffff:127.0.0.1", port), "mapped"), 0);
  Settle();
  std::vector<std::byte> buffer(100);
  EXPECT_EQ(Show(server->Receive(buffer, 0)->from).substr(0, 17), "::ffff:127.0.0.1 ");
  EXPECT_EQ(Show(server->Receive(buffer, 0)->from).substr(0, 4), "::1 ");
  EXPECT_EQ(ReceiveText(*server), "mapped");
  auto only = Udp(AF_INET6);
  EXPECT_EQ(SetInt(*only, IPPROTO_IPV6, IPV6_V6ONLY, 1).value(), 0);
  EXPECT_EQ(SendTo(*only, Ipv6("::ffff:127.0.0.1", port), "x"), ENETUNREACH);
}

TEST_F(UdpSocketTest, EveryLoopbackAddressIsLocal) {
  auto server = Bound(Ipv4("127.4.5.6", 0));
  auto client = Bound(Ipv4("127.7.8.9", 0));
  EXPECT_EQ(SendTo(*client, *server->LocalAddress(), "x"), 0);
  Settle();
  std::vector<std::byte> buffer(10);
  Result<Received> received = server->Receive(buffer, 0);
  ASSERT_TRUE(received.ok());
  EXPECT_EQ(Show(received->from), Show(*client->LocalAddress()));
}

TEST_F(UdpSocketTest, BindChecks) {
  auto first = Bound(Ipv4("127.0.0.1", 8200));
  auto second = Udp();
  EXPECT_EQ(second->Bind(Ipv4("127.0.0.1", 8200)).value(), EADDRINUSE);
  EXPECT_EQ(second->Bind(Ipv4("0.0.0.0", 8200)).value(), EADDRINUSE);
  EXPECT_EQ(second->Bind(Ipv4("10.0.0.1", 8200)).value(), EADDRNOTAVAIL);
  EXPECT_EQ(second->Bind(Ipv4("127.0.0.2", 8200)).value(), 0);
  EXPECT_EQ(second->Bind(Ipv4("127.0.0.2", 8201)).value(), EINVAL);
  first.reset();
  Bound(Ipv4("127.0.0.1", 8200));
  auto a = Udp(), b = Udp();
  EXPECT_EQ(SetInt(*a, SOL_SOCKET, SO_REUSEPORT, 1).value(), 0);
  EXPECT_EQ(SetInt(*b, SOL_SOCKET, SO_REUSEPORT, 1).value(), 0);
  EXPECT_EQ(a->Bind(Ipv4("0.0.0.0", 8202)).value(), 0);
  EXPECT_EQ(b->Bind(Ipv4("0.0.0.0", 8202)).value(), 0);
}

TEST_F(UdpSocketTest, BroadcastNeedsPermission) {
  auto socket = Udp();
  EXPECT_EQ(SendTo(*socket, Ipv4("127.255.255.255", 9), "x"), EACCES);
  EXPECT_EQ(SetInt(*socket, SOL_SOCKET, SO_BROADCAST, 1).value(), 0);
  EXPECT_EQ(SendTo(*socket, Ipv4("127.255.255.255", 9), "x"), 0);
}

TEST_F(UdpSocketTest, Shutdown) {
  auto socket = Udp();
  EXPECT_EQ(socket->Shutdown(SHUT_WR).value(), ENOTCONN);
  auto connected = Udp();
  EXPECT_EQ(connected->Connect(Ipv4("127.0.0.1", 9)).value(), 0);
  EXPECT_EQ(connected->Shutdown(SHUT_RDWR).value(), 0);
  EXPECT_EQ(connected->Poll(), kIn | kOut | POLLRDHUP | POLLHUP);
  EXPECT_EQ(ReceiveText(*connected), "");
  EXPECT_EQ(SendText(*connected, "x").error().value(), EPIPE);
}

TEST_F(UdpSocketTest, Options) {
  auto socket = Udp();
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_RCVBUF), 212992);
  EXPECT_EQ(SetInt(*socket, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT).value(), 0);
  EXPECT_EQ(GetInt(*socket, IPPROTO_IP, IP_MTU_DISCOVER), IP_PMTUDISC_DONT);
  EXPECT_EQ(SetInt(*socket, IPPROTO_TCP, 1, 1).value(), ENOPROTOOPT);
  std::byte byte{0x10};
  EXPECT_EQ(socket->SetOption(IPPROTO_IP, IP_TOS, std::span(&byte, 1)).value(), 0);
  EXPECT_EQ(GetInt(*socket, IPPROTO_IP, IP_TOS), 0x10);
}

}  // namespace
}  // namespace rump
