#include "sp_server/net/tcp_socket.h"

#include <gmock/gmock.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

#include <array>
#include <random>
#include <set>

#include "lwip/priv/tcp_priv.h"
#include "sp_server/kernel/wait_queue.h"
#include "tests/net/net_test_util.h"

namespace rump {
namespace {

constexpr uint32_t kIn = POLLIN | POLLRDNORM;
constexpr uint32_t kOut = POLLOUT | POLLWRNORM;

class TcpSocketTest : public NetTest {
 protected:
  // A pair whose ends asked for such buffers before there was a connection.
  Pair PairWithBuffers(int send, int receive) {
    const auto listener = Tcp();
    Pair pair{.client = Tcp(), .server = nullptr};
    EXPECT_EQ(listener->Bind(Ipv4("127.0.0.1", 0)).value(), 0);
    for (Socket* socket : {listener.get(), pair.client.get()}) {
      EXPECT_EQ(SetInt(*socket, SOL_SOCKET, SO_SNDBUF, send).value(), 0);
      EXPECT_EQ(SetInt(*socket, SOL_SOCKET, SO_RCVBUF, receive).value(), 0);
    }
    EXPECT_EQ(listener->Listen(1).value(), 0);
    EXPECT_EQ(pair.client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
    Settle();
    pair.server = *listener->Accept(nullptr);
    return pair;
  }
};

class CountingWaiter : public Waiter {
 public:
  void OnReady(uint32_t mask) override { seen |= mask; }
  uint32_t seen = 0;
};

TEST_F(TcpSocketTest, EchoesOverLoopback) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(*SendText(*pair.client, "hello"), 5u);
  EXPECT_EQ(ReceiveText(*pair.server), ErrorText(EAGAIN));
  Settle();
  EXPECT_EQ(ReceiveText(*pair.server, 3), "hel");
  EXPECT_EQ(ReceiveText(*pair.server, 3), "lo");
  EXPECT_EQ(ReceiveText(*pair.server), ErrorText(EAGAIN));
  EXPECT_EQ(*SendText(*pair.server, "world"), 5u);
  Settle();
  EXPECT_EQ(ReceiveText(*pair.client), "world");
}

TEST_F(TcpSocketTest, KnowsItsAddresses) {
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  const SocketAddress where = *listener->LocalAddress();
  EXPECT_GE(PortOf(where), kFirstEphemeralPort);
  EXPECT_LE(PortOf(where), kLastEphemeralPort);
  EXPECT_EQ(listener->PeerAddress().error().value(), ENOTCONN);
  auto client = Tcp();
  EXPECT_EQ(Show(*client->LocalAddress()), "0.0.0.0 0");
  EXPECT_EQ(client->Connect(where).value(), EINPROGRESS);
  EXPECT_EQ(client->PeerAddress().error().value(), ENOTCONN);
  Settle();
  SocketAddress peer;
  auto server = *listener->Accept(&peer);
  EXPECT_EQ(Show(peer), Show(*client->LocalAddress()));
  EXPECT_EQ(Show(*server->PeerAddress()), Show(peer));
  EXPECT_EQ(Show(*server->LocalAddress()), Show(where));
  EXPECT_EQ(Show(*client->PeerAddress()), Show(where));
}

TEST_F(TcpSocketTest, EveryLoopbackAddressIsLocal) {
  auto listener = Listener(Ipv4("127.1.2.3", 0));
  auto client = Tcp();
  EXPECT_EQ(client->Bind(Ipv4("127.9.9.9", 0)).value(), 0);
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  Settle();
  SocketAddress peer;
  ASSERT_TRUE(listener->Accept(&peer).ok());
  EXPECT_EQ(Show(peer), Show(*client->LocalAddress()));
  EXPECT_EQ(Show(peer).substr(0, 9), "127.9.9.9");
}

TEST_F(TcpSocketTest, TheWildcardAsDestinationIsThisHost) {
  auto listener = Listener(Ipv4("0.0.0.0", 0));
  auto client = Tcp();
  EXPECT_EQ(client->Connect(Ipv4("0.0.0.0", PortOf(*listener->LocalAddress()))).value(),
            EINPROGRESS);
  Settle();
  EXPECT_EQ(client->TakeError().value(), 0);
  EXPECT_EQ(Show(*client->PeerAddress()).substr(0, 9), "127.0.0.1");
}

TEST_F(TcpSocketTest, Ipv6) {
  auto listener = Listener(Ipv6("::1", 0));
  auto client = Tcp(AF_INET6);
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  Settle();
  SocketAddress peer;
  auto server = listener->Accept(&peer);
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(Show(peer).substr(0, 4), "::1 ");
  EXPECT_TRUE(SendText(*client, std::string(100000, 'x')).ok());
  Settle();
  EXPECT_EQ(ReceiveText(**server, 200000).size(), 100000u);
}

TEST_F(TcpSocketTest, DualStackListenerTakesIpv4) {
  auto listener = Listener(Ipv6("::", 0));
  const uint16_t port = PortOf(*listener->LocalAddress());
  auto client = Tcp();
  EXPECT_EQ(client->Connect(Ipv4("127.0.0.1", port)).value(), EINPROGRESS);
  Settle();
  SocketAddress peer;
  auto server = listener->Accept(&peer);
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(Show(peer).substr(0, 17), "::ffff:127.0.0.1 ");
  EXPECT_EQ(Show(*(*server)->LocalAddress()), "::ffff:127.0.0.1 " + std::to_string(port));
  auto taken = Tcp();
  EXPECT_EQ(taken->Bind(Ipv4("0.0.0.0", port)).value(), EADDRINUSE);
  auto mapped = Tcp(AF_INET6);
  EXPECT_EQ(mapped->Connect(Ipv6("::ffff:127.0.0.1", port)).value(), EINPROGRESS);
  Settle();
  EXPECT_EQ(mapped->TakeError().value(), 0);
}

TEST_F(TcpSocketTest, V6OnlyLeavesThePortToIpv4) {
  auto v6 = Tcp(AF_INET6);
  EXPECT_EQ(SetInt(*v6, IPPROTO_IPV6, IPV6_V6ONLY, 1).value(), 0);
  EXPECT_EQ(v6->Bind(Ipv6("::", 0)).value(), 0);
  EXPECT_EQ(v6->Listen(1).value(), 0);
  const uint16_t port = PortOf(*v6->LocalAddress());
  auto refused = Tcp();
  EXPECT_EQ(refused->Connect(Ipv4("127.0.0.1", port)).value(), EINPROGRESS);
  Settle();
  EXPECT_EQ(refused->TakeError().value(), ECONNREFUSED);
  auto v4 = Tcp();
  EXPECT_EQ(v4->Bind(Ipv4("0.0.0.0", port)).value(), 0);
  EXPECT_EQ(SetInt(*v6, IPPROTO_IPV6, IPV6_V6ONLY, 0).value(), EINVAL);
}

// --- bind ---

TEST_F(TcpSocketTest, BindChecksItsAddress) {
  auto socket = Tcp();
  EXPECT_EQ(socket->Bind(Ipv4("10.1.2.3", 80)).value(), EADDRNOTAVAIL);
  EXPECT_EQ(socket->Bind(Ipv6("::1", 80)).value(), EAFNOSUPPORT);
  SocketAddress cut = Ipv4("127.0.0.1", 80);
  cut.len = 8;
  EXPECT_EQ(socket->Bind(cut).value(), EINVAL);
  EXPECT_EQ(socket->Bind(Ipv4("127.0.0.1", 8080)).value(), 0);
  EXPECT_EQ(socket->Bind(Ipv4("127.0.0.1", 8081)).value(), EINVAL);
}

TEST_F(TcpSocketTest, BoundPortsConflict) {
  auto first = Tcp();
  ASSERT_EQ(first->Bind(Ipv4("127.0.0.1", 8100)).value(), 0);
  auto second = Tcp();
  EXPECT_EQ(second->Bind(Ipv4("127.0.0.1", 8100)).value(), EADDRINUSE);
  EXPECT_EQ(second->Bind(Ipv4("0.0.0.0", 8100)).value(), EADDRINUSE);
  EXPECT_EQ(second->Bind(Ipv4("127.0.0.2", 8100)).value(), 0);
  first.reset();
  auto third = Tcp();
  EXPECT_EQ(third->Bind(Ipv4("127.0.0.1", 8100)).value(), 0);
}

TEST_F(TcpSocketTest, ReuseAddressSharesAPortUntilOneListens) {
  auto first = Tcp(), second = Tcp(), third = Tcp();
  for (auto& socket : {first, second, third}) {
    EXPECT_EQ(SetInt(*socket, SOL_SOCKET, SO_REUSEADDR, 1).value(), 0);
  }
  EXPECT_EQ(first->Bind(Ipv4("127.0.0.1", 8101)).value(), 0);
  EXPECT_EQ(second->Bind(Ipv4("127.0.0.1", 8101)).value(), 0);
  EXPECT_EQ(first->Listen(1).value(), 0);
  EXPECT_EQ(second->Listen(1).value(), EADDRINUSE);
  EXPECT_EQ(third->Bind(Ipv4("127.0.0.1", 8101)).value(), EADDRINUSE);
}

TEST_F(TcpSocketTest, ReusePortSharesAPortIfAllHaveIt) {
  auto first = Tcp(), second = Tcp(), third = Tcp();
  EXPECT_EQ(SetInt(*first, SOL_SOCKET, SO_REUSEPORT, 1).value(), 0);
  EXPECT_EQ(SetInt(*second, SOL_SOCKET, SO_REUSEPORT, 1).value(), 0);
  EXPECT_EQ(first->Bind(Ipv4("127.0.0.1", 8102)).value(), 0);
  EXPECT_EQ(first->Listen(1).value(), 0);
  EXPECT_EQ(second->Bind(Ipv4("127.0.0.1", 8102)).value(), 0);
  EXPECT_EQ(second->Listen(1).value(), 0);
  EXPECT_EQ(third->Bind(Ipv4("127.0.0.1", 8102)).value(), EADDRINUSE);
}

TEST_F(TcpSocketTest, ListenersOfOnePortTakeTurns) {
  // Those of an address come before those of all, whenever they began.
  for (const char* ip : {"0.0.0.0", "127.0.0.1"}) {
    std::array<std::shared_ptr<Socket>, 3> listeners{Tcp(), Tcp(), Tcp()};
    const auto listen = [&](Socket& socket, const char* on) {
      EXPECT_EQ(SetInt(socket, SOL_SOCKET, SO_REUSEPORT, 1).value(), 0);
      EXPECT_EQ(socket.Bind(Ipv4(on, 8199)).value(), 0);
      EXPECT_EQ(socket.Listen(16).value(), 0);
    };
    for (const auto& listener : listeners) listen(*listener, ip);
    const auto other = Tcp();
    listen(*other, strcmp(ip, "0.0.0.0") == 0 ? "127.0.0.2" : "0.0.0.0");
    std::vector<std::shared_ptr<Socket>> ends;
    for (int i = 0; i < 9; ++i) {
      ends.push_back(Tcp());
      EXPECT_EQ(ends.back()->Connect(Ipv4("127.0.0.1", 8199)).value(), EINPROGRESS);
      Settle();
    }
    for (const auto& listener : listeners) {
      for (int i = 0; i < 3; ++i) {
        const auto accepted = listener->Accept(nullptr);
        ASSERT_TRUE(accepted.ok()) << ip;
        ends.push_back(*accepted);
      }
    }
    EXPECT_FALSE(other->Accept(nullptr).ok());
  }
}

TEST_F(TcpSocketTest, NobodyConnectsToHimself) {
  for (const char* ip : {"127.0.0.1", "0.0.0.0"}) {
    auto socket = Tcp();
    ASSERT_EQ(socket->Bind(Ipv4(ip, 0)).value(), 0);
    const SocketAddress self = *socket->LocalAddress();
    EXPECT_EQ(socket->Connect(self).value(), ECONNREFUSED);
    // It keeps its port and can still be used.
    EXPECT_EQ(Show(*socket->LocalAddress()), Show(self));
    EXPECT_EQ(socket->Connect(*Listener(Ipv4("127.0.0.1", 0))->LocalAddress()).value(),
              EINPROGRESS);
    Settle();
  }
}

TEST_F(TcpSocketTest, TimeWaitBlocksThePortUnlessReused) {
  const SocketAddress address = Ipv4("127.0.0.1", 8103);
  auto listener = Tcp();
  SetInt(*listener, SOL_SOCKET, SO_REUSEADDR, 1).value();
  ASSERT_EQ(listener->Bind(address).value(), 0);
  ASSERT_EQ(listener->Listen(1).value(), 0);
  auto client = Tcp();
  client->Connect(address).value();
  Settle();
  auto server = *listener->Accept(nullptr);
  server.reset();  // the server closes first: its end goes to TIME_WAIT
  Settle();
  client.reset();
  Settle();
  listener.reset();
  auto strict = Tcp();
  EXPECT_EQ(strict->Bind(address).value(), EADDRINUSE);
  EXPECT_EQ(SetInt(*strict, SOL_SOCKET, SO_REUSEADDR, 1).value(), 0);
  EXPECT_EQ(strict->Bind(address).value(), 0);
  EXPECT_EQ(strict->Listen(1).value(), 0);
}

TEST_F(TcpSocketTest, ANewConnectionReplacesOneInTimeWait) {
  const SocketAddress address = Ipv4("127.0.0.1", 8104);
  auto listener = Listener(address);
  for (int i = 0; i < 3; ++i) {
    auto client = Tcp();
    SetInt(*client, SOL_SOCKET, SO_REUSEADDR, 1).value();
    ASSERT_EQ(client->Bind(Ipv4("127.0.0.1", 8105)).value(), 0);
    ASSERT_EQ(client->Connect(address).value(), EINPROGRESS);
    Settle();
    ASSERT_EQ(client->TakeError().value(), 0);
    Result<std::shared_ptr<Socket>> server = listener->Accept(nullptr);
    ASSERT_TRUE(server.ok());
    // The server's end closes first and stays in TIME_WAIT with the same addresses.
    server->reset();
    Settle();
    client.reset();
    Settle();
  }
}

// --- connect ---

TEST_F(TcpSocketTest, RefusedConnect) {
  auto client = Tcp();
  EXPECT_EQ(client->Connect(Ipv4("127.0.0.1", 1)).value(), EINPROGRESS);
  EXPECT_EQ(client->Poll(), 0u);
  EXPECT_EQ(client->Connect(Ipv4("127.0.0.1", 1)).value(), EALREADY);
  Settle();
  EXPECT_EQ(client->Poll(), kIn | kOut | POLLERR | POLLHUP | POLLRDHUP);
  EXPECT_EQ(client->TakeError().value(), ECONNREFUSED);
  EXPECT_EQ(client->TakeError().value(), 0);
  // The socket is as good as new.
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  Settle();
  EXPECT_EQ(client->TakeError().value(), 0);
  EXPECT_EQ(client->Poll(), kOut);
}

TEST_F(TcpSocketTest, SecondConnectTellsTheOutcomeOnce) {
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  const SocketAddress where = *listener->LocalAddress();
  auto client = Tcp();
  EXPECT_EQ(client->Connect(where).value(), EINPROGRESS);
  Settle();
  EXPECT_EQ(client->Connect(where).value(), 0);
  EXPECT_EQ(client->Connect(where).value(), EISCONN);
  auto refused = Tcp();
  EXPECT_EQ(refused->Connect(Ipv4("127.0.0.1", 1)).value(), EINPROGRESS);
  Settle();
  EXPECT_EQ(refused->Connect(where).value(), ECONNREFUSED);
  EXPECT_EQ(refused->Connect(where).value(), EINPROGRESS);
}

TEST_F(TcpSocketTest, NoRoute) {
  auto client = Tcp();
  EXPECT_EQ(client->Connect(Ipv4("10.1.2.3", 80)).value(), ENETUNREACH);
  EXPECT_EQ(client->Connect(Ipv4("224.0.0.1", 80)).value(), ENETUNREACH);
  EXPECT_EQ(client->Connect(Ipv6("::1", 80)).value(), EAFNOSUPPORT);
}

TEST_F(TcpSocketTest, FullBacklogLeavesConnectsWaiting) {
  auto listener = Listener(Ipv4("127.0.0.1", 0), 1);
  std::vector<std::shared_ptr<Socket>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(Tcp());
    EXPECT_EQ(clients.back()->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
    Settle();
  }
  EXPECT_EQ(clients[0]->Poll(), kOut);
  EXPECT_EQ(clients[1]->Poll(), kOut);
  EXPECT_EQ(clients[2]->Poll(), 0u);
  // Room lets it in at once, without a tick of the clock.
  EXPECT_TRUE(listener->Accept(nullptr).ok());
  Settle();
  EXPECT_EQ(clients[2]->Poll(), kOut);
}

TEST_F(TcpSocketTest, CrowdGetsInAsFastAsItIsAccepted) {
  auto listener = Listener(Ipv4("127.0.0.1", 0), 1);
  std::vector<std::shared_ptr<Socket>> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(Tcp());
    EXPECT_EQ(clients.back()->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
    Settle();
  }
  std::vector<std::shared_ptr<Socket>> servers;
  for (size_t i = 0; i < clients.size(); ++i) {
    Result<std::shared_ptr<Socket>> accepted = listener->Accept(nullptr);
    ASSERT_TRUE(accepted.ok()) << i;
    servers.push_back(*accepted);
    Settle();
    EXPECT_EQ(clients[i]->Poll(), kOut) << "the one that came first gets in first";
  }
}

TEST_F(TcpSocketTest, AnUnansweredConnectTimesOut) {
  auto listener = Listener(Ipv4("127.0.0.1", 0), 0);
  auto first = Tcp(), second = Tcp();
  first->Connect(*listener->LocalAddress()).value();
  Settle();
  second->Connect(*listener->LocalAddress()).value();
  constexpr int kTwoMinutes = 240;
  for (int tick = 0; tick < kTwoMinutes; ++tick) {
    tcp_slowtmr();
    Settle();
  }
  EXPECT_EQ(second->Connect(*listener->LocalAddress()).value(), EALREADY);
  for (int tick = 0; tick < 30; ++tick) {
    tcp_slowtmr();
    Settle();
  }
  EXPECT_EQ(second->TakeError().value(), ETIMEDOUT);
}

TEST_F(TcpSocketTest, ConnectsShareEphemeralPortsOnlyIfTheyMust) {
  auto listener = Listener(Ipv4("127.0.0.1", 0), 100);
  std::vector<std::shared_ptr<Socket>> clients;
  std::set<uint16_t> ports;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(Tcp());
    clients.back()->Connect(*listener->LocalAddress()).value();
    ports.insert(PortOf(*clients.back()->LocalAddress()));
  }
  EXPECT_EQ(ports.size(), 50u);
}

// --- listen, accept ---

TEST_F(TcpSocketTest, ListenAndAcceptStates) {
  auto socket = Tcp();
  EXPECT_EQ(socket->Accept(nullptr).error().value(), EINVAL);
  EXPECT_EQ(socket->Listen(5).value(), 0);  // binds by itself
  EXPECT_GE(PortOf(*socket->LocalAddress()), kFirstEphemeralPort);
  EXPECT_EQ(socket->Listen(6).value(), 0);
  EXPECT_EQ(socket->Accept(nullptr).error().value(), EAGAIN);
  EXPECT_EQ(socket->Connect(Ipv4("127.0.0.1", 1)).value(), EISCONN);
  EXPECT_EQ(socket->Poll(), 0u);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_ACCEPTCONN), 1);
  EXPECT_EQ(ReceiveText(*socket), ErrorText(ENOTCONN));
  EXPECT_EQ(SendText(*socket, "x").error().value(), EPIPE);
  CountingWaiter waiter;
  socket->waiters().Add(&waiter);
  auto client = Tcp();
  client->Connect(*socket->LocalAddress()).value();
  Settle();
  EXPECT_EQ(socket->Poll(), kIn);
  EXPECT_NE(waiter.seen & POLLIN, 0u);
  Pair pair = ConnectedPair();
  EXPECT_EQ(pair.client->Listen(1).value(), EINVAL);
  EXPECT_EQ(pair.client->Accept(nullptr).error().value(), EINVAL);
}

TEST_F(TcpSocketTest, ClosingAListenerResetsItsQueue) {
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  auto client = Tcp();
  client->Connect(*listener->LocalAddress()).value();
  Settle();
  EXPECT_EQ(client->TakeError().value(), 0);
  listener.reset();
  Settle();
  EXPECT_EQ(ReceiveText(*client), ErrorText(ECONNRESET));
}

TEST_F(TcpSocketTest, AnswerToASynIsSentAgainWithoutItsListener) {
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  EXPECT_EQ(SetInt(*listener, IPPROTO_TCP, TCP_MAXSEG, 1000).value(), 0);
  auto client = Tcp();
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  NetStack::Get().Drain(1);
  listener.reset();
  ASSERT_EQ(NetStack::Get().queued_packets(), 1u);
  for (int tick = 0; tick < 100 && NetStack::Get().queued_packets() < 2; ++tick) tcp_tmr();
  EXPECT_GE(NetStack::Get().queued_packets(), 2u);
  Settle();
  EXPECT_EQ(client->TakeError().value(), ECONNRESET);
}

TEST_F(TcpSocketTest, ShutdownEndsListening) {
  auto listener = Listener(Ipv4("127.0.0.1", 8106));
  EXPECT_EQ(listener->Shutdown(SHUT_RDWR).value(), 0);
  EXPECT_EQ(listener->Accept(nullptr).error().value(), EINVAL);
  EXPECT_EQ(listener->Listen(1).value(), 0);
}

// --- data and ends ---

TEST_F(TcpSocketTest, FreshSocket) {
  auto socket = Tcp();
  EXPECT_EQ(socket->Poll(), kOut | POLLHUP);
  EXPECT_EQ(ReceiveText(*socket), ErrorText(ENOTCONN));
  EXPECT_EQ(SendText(*socket, "x").error().value(), EPIPE);
  EXPECT_EQ(socket->Shutdown(SHUT_RDWR).value(), ENOTCONN);
  EXPECT_EQ(socket->PeerAddress().error().value(), ENOTCONN);
}

TEST_F(TcpSocketTest, HalfClose) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(*SendText(*pair.client, "last words"), 10u);
  EXPECT_EQ(pair.client->Shutdown(SHUT_WR).value(), 0);
  EXPECT_EQ(SendText(*pair.client, "more").error().value(), EPIPE);
  Settle();
  EXPECT_EQ(pair.server->Poll(), kIn | POLLRDHUP | kOut);
  EXPECT_EQ(ReceiveText(*pair.server), "last words");
  EXPECT_EQ(ReceiveText(*pair.server), "");
  EXPECT_EQ(pair.server->Poll(), kIn | POLLRDHUP | kOut);
  EXPECT_EQ(*SendText(*pair.server, "reply"), 5u);
  EXPECT_EQ(pair.server->Shutdown(SHUT_WR).value(), 0);
  Settle();
  EXPECT_EQ(ReceiveText(*pair.client), "reply");
  EXPECT_EQ(ReceiveText(*pair.client), "");
  EXPECT_EQ(pair.client->Poll(), kIn | kOut | POLLRDHUP | POLLHUP);
  EXPECT_EQ(pair.server->Poll(), kIn | kOut | POLLRDHUP | POLLHUP);
  EXPECT_EQ(pair.server->TakeError().value(), 0);
}

TEST_F(TcpSocketTest, SocketOutlivesItsTimeWait) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(pair.client->Shutdown(SHUT_WR).value(), 0);
  Settle();
  EXPECT_EQ(pair.server->Shutdown(SHUT_WR).value(), 0);
  Settle();
  constexpr int kTicksOfTimeWait = 2 * TCP_MSL / TCP_SLOW_INTERVAL + 2;
  for (int tick = 0; tick < kTicksOfTimeWait; ++tick) tcp_slowtmr();
  EXPECT_EQ(ReceiveText(*pair.client), "");
  EXPECT_EQ(SendText(*pair.client, "x").error().value(), EPIPE);
  EXPECT_EQ(pair.client->Poll(), kIn | kOut | POLLRDHUP | POLLHUP);
}

TEST_F(TcpSocketTest, ShutReadMeansEofButDataStillComes) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(pair.server->Shutdown(SHUT_RD).value(), 0);
  EXPECT_EQ(ReceiveText(*pair.server), "");
  EXPECT_EQ(*SendText(*pair.client, "x"), 1u);
  Settle();
  EXPECT_EQ(ReceiveText(*pair.server), "x");
  EXPECT_EQ(ReceiveText(*pair.server), "");
}

TEST_F(TcpSocketTest, CloseWithUnreadDataResets) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(*SendText(*pair.client, "unread"), 6u);
  Settle();
  pair.server.reset();
  Settle();
  EXPECT_EQ(pair.client->Poll(), kIn | kOut | POLLERR | POLLHUP | POLLRDHUP);
  EXPECT_EQ(ReceiveText(*pair.client), ErrorText(ECONNRESET));
  EXPECT_EQ(ReceiveText(*pair.client), "");
  EXPECT_EQ(SendText(*pair.client, "x").error().value(), EPIPE);
  EXPECT_EQ(pair.client->PeerAddress().error().value(), ENOTCONN);
}

TEST_F(TcpSocketTest, DataBeforeAResetCanBeRead) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(*SendText(*pair.server, "data"), 4u);
  Settle();
  pair.server_stream()->Abort();
  Settle();
  EXPECT_EQ(ReceiveText(*pair.client), "data");
  EXPECT_EQ(ReceiveText(*pair.client), ErrorText(ECONNRESET));
}

TEST_F(TcpSocketTest, OnlyAfUnspecMakesAnOldSocketFresh) {
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  Pair pair = ConnectedPair();
  pair.server_stream()->Abort();
  Settle();
  EXPECT_EQ(pair.client->TakeError().value(), ECONNRESET);
  EXPECT_EQ(pair.client->Connect(*listener->LocalAddress()).value(), EISCONN);
  EXPECT_EQ(pair.client->Listen(1).value(), EINVAL);
  SocketAddress unspecified;
  unspecified.len = sizeof(sockaddr_in);
  EXPECT_EQ(pair.client->Connect(unspecified).value(), 0);
  EXPECT_EQ(pair.client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  Settle();
  EXPECT_EQ(pair.client->TakeError().value(), 0);
}

TEST_F(TcpSocketTest, ShutdownEndsConnecting) {
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  auto client = Tcp();
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  EXPECT_EQ(client->Shutdown(SHUT_RDWR).value(), 0);
  EXPECT_EQ(client->Poll(), kOut | POLLERR | POLLHUP);
  EXPECT_EQ(client->TakeError().value(), ECONNRESET);
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
}

TEST_F(TcpSocketTest, LingerZeroResets) {
  Pair pair = ConnectedPair();
  const linger zero = {1, 0};
  EXPECT_EQ(
      pair.server->SetOption(SOL_SOCKET, SO_LINGER, std::as_bytes(std::span(&zero, 1))).value(), 0);
  pair.server.reset();
  Settle();
  EXPECT_EQ(GetInt(*pair.client, SOL_SOCKET, SO_ERROR), ECONNRESET);
}

TEST_F(TcpSocketTest, WriteToAClosedPeerSucceedsOnce) {
  Pair pair = ConnectedPair();
  pair.server.reset();
  Settle();
  EXPECT_EQ(*SendText(*pair.client, "x"), 1u);
  Settle();
  EXPECT_EQ(SendText(*pair.client, "x").error().value(), EPIPE);
}

TEST_F(TcpSocketTest, ClosedSocketStillDelivers) {
  Pair pair = ConnectedPair();
  std::string data(5 << 20, 'd');
  size_t sent = 0;
  while (true) {
    Result<size_t> n = SendText(*pair.client, std::string_view(data).substr(sent));
    if (!n.ok()) break;
    sent += *n;
  }
  EXPECT_GE(sent, size_t{1} << 20);
  pair.client.reset();
  size_t received = 0;
  std::vector<std::byte> buffer(100000);
  while (true) {
    Settle();
    Result<Received> part = pair.server->Receive(buffer, 0);
    ASSERT_TRUE(part.ok()) << part.error().value() << " after " << received << " of " << sent;
    if (part->copied == 0) break;
    received += part->copied;
  }
  EXPECT_EQ(received, sent);
}

TEST_F(TcpSocketTest, PeekAndTruncate) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(*SendText(*pair.client, "abcdef"), 6u);
  Settle();
  EXPECT_EQ(ReceiveText(*pair.server, 3, MSG_PEEK), "abc");
  EXPECT_EQ(ReceiveText(*pair.server, 9, MSG_PEEK), "abcdef");
  int pending = 0;
  EXPECT_EQ(pair.server->Ioctl(FIONREAD, std::as_writable_bytes(std::span(&pending, 1))).value(),
            0);
  EXPECT_EQ(pending, 6);
  std::vector<std::byte> none(2);
  const Result<Received> thrown_away = pair.server->Receive(none, MSG_TRUNC);
  EXPECT_EQ(thrown_away->length, 2u);
  EXPECT_EQ(thrown_away->copied, 0u) << "nothing was written to the buffer";
  EXPECT_EQ(ReceiveText(*pair.server), "cdef");
}

TEST_F(TcpSocketTest, PumpInterface) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(*SendText(*pair.client, std::string(200000, 'p')), 200000u);
  Settle();
  iovec iov[64];
  StreamSocket* server = pair.server_stream();
  size_t seen = 0;
  while (size_t n = server->PeekReceived(iov)) {
    const size_t first = iov[0].iov_len;
    EXPECT_EQ(static_cast<char*>(iov[0].iov_base)[0], 'p');
    server->ConsumeReceived(first);
    seen += first;
    EXPECT_LE(n, std::size(iov));
    Settle();
  }
  EXPECT_EQ(seen, 200000u);
  EXPECT_FALSE(server->receive_eof());
  pair.client.reset();
  Settle();
  EXPECT_EQ(server->PeekReceived(iov), 0u);
  EXPECT_TRUE(server->receive_eof());
}

// Without a timer: whoever has taken what there was lets the next bytes come.
TEST_F(TcpSocketTest, SmallBuffersBoundWhatIsUnreadAndDelayNothing) {
  for (const int size : {2048, 8192, 50'000}) {
    const Pair pair = PairWithBuffers(size, size);
    const std::string data(1 << 20, 's');
    for (const auto& ends :
         {std::pair(pair.client, pair.server), std::pair(pair.server, pair.client)}) {
      Socket& from = *ends.first;
      Socket& to = *ends.second;
      size_t sent = 0, received = 0;
      const auto send = [&] {
        for (;;) {
          const auto n = SendText(from, std::string_view(data).substr(sent, 30'000));
          Settle();
          if (!n.ok() || *n == 0) return;
          sent += *n;
        }
      };
      send();
      EXPECT_LE(sent, static_cast<size_t>(std::max(2 * size, 4608) + 2 * size)) << size;
      while (received < data.size()) {
        const std::string text = ReceiveText(to);
        Settle();
        if (text.empty() || text.starts_with("error")) break;
        received += text.size();
        send();
      }
      EXPECT_EQ(received, data.size()) << size;
    }
  }
}

// The probe is behind the right edge of the window that was told of, and in front of the real one.
TEST_F(TcpSocketTest, WindowOpensAfterAProbe) {
  const Pair pair = PairWithBuffers(1 << 20, 8192);
  const std::string data(100'000, 's');
  ASSERT_EQ(*SendText(*pair.client, data), data.size());
  Settle();
  size_t received = ReceiveText(*pair.server, 4000).size();
  const auto unread = [&] { return ReceiveText(*pair.server, data.size(), MSG_PEEK).size(); };
  const size_t before = unread();
  constexpr int kSomeSeconds = 20;
  for (int tick = 0; tick < kSomeSeconds && unread() == before; ++tick) {
    tcp_slowtmr();
    Settle();
  }
  ASSERT_EQ(unread(), before + 1);
  while ((pair.server->Poll() & POLLIN) != 0) {
    received += ReceiveText(*pair.server).size();
    Settle();
  }
  EXPECT_EQ(received, data.size());
}

// The peer is told of windows in units of 64 bytes, and sends half of the largest in one segment.
TEST_F(TcpSocketTest, SegmentFitsIntoHalfAWindow) {
  constexpr int kAsked = 2355;
  for (int size = kAsked - 128; size <= kAsked; ++size) {
    const Pair pair = PairWithBuffers(1 << 20, kAsked);
    const std::string data(static_cast<size_t>(size), 's');
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(*SendText(*pair.client, data), data.size());
      Settle();
      EXPECT_EQ(ReceiveText(*pair.server).size(), data.size()) << size << ", " << i;
      Settle();
    }
  }
}

TEST_F(TcpSocketTest, ReceiveBufferThatBecomesSmallKeepsThePromisedWindow) {
  Pair pair = ConnectedPair();
  ASSERT_EQ(SetInt(*pair.server, SOL_SOCKET, SO_RCVBUF, 4096).value(), 0);
  const std::string data(8 << 20, 's');
  size_t sent = 0, received = 0;
  const auto send = [&] {
    for (;;) {
      const auto n = SendText(*pair.client, std::string_view(data).substr(sent, 65536));
      Settle();
      if (!n.ok() || *n == 0) return;
      sent += *n;
    }
  };
  while (received < data.size()) {
    send();
    const std::string text = ReceiveText(*pair.server, 1 << 20);
    Settle();
    if (text.empty() || text.starts_with("error")) break;
    received += text.size();
  }
  EXPECT_EQ(received, data.size());
  // By now the window is small.
  const size_t before = sent;
  for (;;) {
    const auto n = SendText(*pair.client, data);
    Settle();
    if (!n.ok()) break;
    sent += *n;
  }
  EXPECT_LE(sent - before, size_t{TCP_SND_BUF} + 2 * TCP_MSS);
}

// Bytes at `at` of a stream that never repeats for long.
std::string Pattern(size_t at, size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>((at + i) * 31 / 7 + (at + i) / 1021);
  return text;
}

void SendPattern(StreamSocket& stream, size_t at, size_t size, size_t unused) {
  iovec iov[8];
  const size_t count = stream.PrepareSend(size + unused, iov);
  ASSERT_GT(count, 0u);
  const std::string text = Pattern(at, size);
  size_t filled = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t n = std::min(iov[i].iov_len, size - filled);
    memcpy(iov[i].iov_base, text.data() + filled, n);
    filled += n;
  }
  ASSERT_EQ(filled, size);
  ASSERT_TRUE(stream.SendPrepared(size));
}

TEST_F(TcpSocketTest, PreparedBytesArrive) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(pair.client_stream()->PrepareSend(100, std::span<iovec>()), 0u) << "not worth it";
  size_t sent = 0;
  for (const size_t size : {5000, 61440, 200000, 4096, 100, 61441, 130000}) {
    SendPattern(*pair.client_stream(), sent, size, /*unused=*/size < 4096 ? 70000 : 100);
    sent += size;
    // Behind them, and before the next.
    EXPECT_EQ(*SendText(*pair.client, Pattern(sent, 10)), 10u);
    sent += 10;
  }
  // Again while the first ones are under way, or lie with the receiver.
  for (int i = 0; i < 3; ++i) {
    tcp_pcb* next;
    for (tcp_pcb* pcb = tcp_active_pcbs; pcb != nullptr; pcb = next) {
      next = pcb->next;
      if (pcb->unacked != nullptr) tcp_rexmit_rto(pcb);
    }
    NetStack::Get().Drain(i * 2);
  }
  Settle();
  // The receiver has them even when nothing else is left of the sender.
  pair.client.reset();
  std::string got;
  for (std::string part; !(part = ReceiveText(*pair.server)).empty(); got += part) {
    Settle();
    ASSERT_LE(got.size(), sent);
  }
  EXPECT_TRUE(got == Pattern(0, sent)) << got.size() << " of " << sent;
}

TEST_F(TcpSocketTest, PreparedRoomIsGivenBack) {
  Pair pair = ConnectedPair();
  iovec iov[8];
  EXPECT_EQ(pair.client_stream()->PrepareSend(100'000, iov), 2u);
  EXPECT_TRUE(pair.client_stream()->SendPrepared(0));
  SendPattern(*pair.client_stream(), 0, 10'000, 0);
  Settle();
  EXPECT_EQ(ReceiveText(*pair.server), Pattern(0, 10'000));
}

TEST_F(TcpSocketTest, SendsUntilFullAndTellsWhenThereIsRoom) {
  Pair pair = ConnectedPair();
  const std::string chunk(65536, 'f');
  size_t sent = 0;
  while (true) {
    Settle();
    Result<size_t> n = SendText(*pair.client, chunk);
    if (!n.ok()) {
      EXPECT_EQ(n.error().value(), EAGAIN);
      break;
    }
    sent += *n;
  }
  EXPECT_EQ(pair.client->Poll() & POLLOUT, 0u);
  EXPECT_EQ(pair.client_stream()->SendSpace(), 0u);
  EXPECT_LE(sent, size_t{8} << 20);
  CountingWaiter waiter;
  pair.client->waiters().Add(&waiter);
  size_t received = 0;
  while (received < sent) {
    const size_t n = ReceiveText(*pair.server).size();
    ASSERT_GT(n, 0u);
    received += n;
    Settle();
  }
  EXPECT_EQ(received, sent);
  EXPECT_NE(waiter.seen & POLLOUT, 0u);
  EXPECT_GT(pair.client_stream()->SendSpace(), size_t{1} << 20);
}

TEST_F(TcpSocketTest, SmallSendBufferBounds) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(SetInt(*pair.client, SOL_SOCKET, SO_SNDBUF, 10000).value(), 0);
  EXPECT_EQ(*SendText(*pair.client, std::string(100000, 'x')), 20000u);
  EXPECT_EQ(SendText(*pair.client, "x").error().value(), EAGAIN);
  int queued = 0;
  EXPECT_EQ(pair.client->Ioctl(SIOCOUTQ, std::as_writable_bytes(std::span(&queued, 1))).value(), 0);
  EXPECT_EQ(queued, 20000);
}

TEST_F(TcpSocketTest, AMillionSingleBytes) {
  Pair pair = ConnectedPair();
  SetInt(*pair.client, IPPROTO_TCP, TCP_NODELAY, 1).value();
  size_t sent = 0;
  for (; sent < 1'000'000; ++sent) {
    const char byte = static_cast<char>(sent % 251);
    if (!SendText(*pair.client, std::string_view(&byte, 1)).ok()) break;
    if (sent % 64 == 0) NetStack::Get().Drain(256);
  }
  Settle();
  EXPECT_EQ(sent, 1'000'000u);
  size_t received = 0;
  std::vector<std::byte> buffer(65536);
  while (received < sent) {
    Result<Received> part = pair.server->Receive(buffer, 0);
    ASSERT_TRUE(part.ok());
    for (size_t i = 0; i < part->copied; ++i) {
      ASSERT_EQ(std::to_integer<int>(buffer[i]), static_cast<int>((received + i) % 251));
    }
    received += part->copied;
    Settle();
  }
}

// --- options ---

TEST_F(TcpSocketTest, Options) {
  auto socket = Tcp();
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_DOMAIN), AF_INET);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_ACCEPTCONN), 0);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_REUSEADDR), 0);
  EXPECT_EQ(SetInt(*socket, SOL_SOCKET, SO_REUSEADDR, 17).value(), 0);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_REUSEADDR), 1);
  EXPECT_EQ(SetInt(*socket, SOL_SOCKET, SO_RCVBUF, 5000).value(), 0);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_RCVBUF), 10000);
  EXPECT_EQ(SetInt(*socket, SOL_SOCKET, SO_SNDBUF, 1).value(), 0);
  EXPECT_EQ(GetInt(*socket, SOL_SOCKET, SO_SNDBUF), 4608);
  EXPECT_EQ(SetInt(*socket, IPPROTO_TCP, TCP_KEEPIDLE, 0).value(), EINVAL);
  EXPECT_EQ(SetInt(*socket, IPPROTO_TCP, TCP_KEEPIDLE, 30).value(), 0);
  EXPECT_EQ(GetInt(*socket, IPPROTO_TCP, TCP_KEEPIDLE), 30);
  EXPECT_EQ(SetInt(*socket, IPPROTO_IP, IP_TOS, 0x10).value(), 0);
  EXPECT_EQ(GetInt(*socket, IPPROTO_IP, IP_TOS), 0x10);
  EXPECT_EQ(SetInt(*socket, IPPROTO_IP, IP_TTL, 256).value(), EINVAL);
  EXPECT_EQ(SetInt(*socket, SOL_SOCKET, 9999, 1).value(), ENOPROTOOPT);
  EXPECT_EQ(SetInt(*socket, IPPROTO_IPV6, IPV6_V6ONLY, 1).value(), ENOPROTOOPT);
  std::byte small[2] = {};
  EXPECT_EQ(socket->SetOption(SOL_SOCKET, SO_REUSEADDR, small).value(), EINVAL);
}

TEST_F(TcpSocketTest, OptionLengths) {
  auto socket = Tcp();
  std::byte buffer[512];
  EXPECT_EQ(*socket->GetOption(SOL_SOCKET, SO_TYPE, std::span(buffer, 2)), 2u);
  EXPECT_EQ(*socket->GetOption(SOL_SOCKET, SO_TYPE, buffer), 4u);
  EXPECT_EQ(*socket->GetOption(SOL_SOCKET, SO_LINGER, buffer), sizeof(linger));
  EXPECT_EQ(*socket->GetOption(SOL_SOCKET, SO_RCVTIMEO, buffer), sizeof(timeval));
  EXPECT_EQ(*socket->GetOption(IPPROTO_IP, IP_OPTIONS, buffer), 0u);
  EXPECT_EQ(*socket->GetOption(SOL_SOCKET, SO_BINDTODEVICE, buffer), 0u);
  EXPECT_EQ(*socket->GetOption(IPPROTO_IP, IP_TOS, std::span(buffer, 1)), 1u);
  EXPECT_EQ(*socket->GetOption(IPPROTO_TCP, TCP_CONGESTION, buffer), 16u);
  EXPECT_STREQ(reinterpret_cast<char*>(buffer), "reno");
  EXPECT_EQ(*socket->GetOption(IPPROTO_TCP, TCP_INFO, buffer), sizeof(tcp_info));
  EXPECT_EQ(*socket->GetOption(IPPROTO_TCP, TCP_INFO, std::span(buffer, 1)), 1u);
  EXPECT_EQ(std::to_integer<int>(buffer[0]), 7);  // TCP_CLOSE
}

TEST_F(TcpSocketTest, TcpInfoShowsTheState) {
  Pair pair = ConnectedPair();
  const auto state = [](Socket& socket) {
    tcp_info info;
    EXPECT_TRUE(
        socket.GetOption(IPPROTO_TCP, TCP_INFO, std::as_writable_bytes(std::span(&info, 1))).ok());
    return info.tcpi_state;
  };
  EXPECT_EQ(state(*pair.client), 1);
  EXPECT_EQ(pair.client->Shutdown(SHUT_WR).value(), 0);
  Settle();
  EXPECT_EQ(state(*pair.client), 5);  // FIN_WAIT2
  EXPECT_EQ(state(*pair.server), 8);  // CLOSE_WAIT
}

TEST_F(TcpSocketTest, TimeoutsAreStored) {
  auto socket = Tcp();
  const timeval timeout = {3, 500000};
  const timeval wrong = {3, 5000000};
  EXPECT_EQ(
      socket->SetOption(SOL_SOCKET, SO_RCVTIMEO, std::as_bytes(std::span(&timeout, 1))).value(), 0);
  EXPECT_EQ(socket->SetOption(SOL_SOCKET, SO_SNDTIMEO, std::as_bytes(std::span(&wrong, 1))).value(),
            EDOM);
  timeval stored;
  EXPECT_TRUE(
      socket->GetOption(SOL_SOCKET, SO_RCVTIMEO, std::as_writable_bytes(std::span(&stored, 1)))
          .ok());
  EXPECT_EQ(stored.tv_sec, 3);
  EXPECT_EQ(stored.tv_usec, 500000);
}

TEST_F(TcpSocketTest, CorkHoldsDataBack) {
  Pair pair = ConnectedPair();
  EXPECT_EQ(SetInt(*pair.client, IPPROTO_TCP, TCP_CORK, 1).value(), 0);
  EXPECT_EQ(*SendText(*pair.client, "head"), 4u);
  Settle();
  EXPECT_EQ(ReceiveText(*pair.server), ErrorText(EAGAIN));
  EXPECT_EQ(SetInt(*pair.client, IPPROTO_TCP, TCP_CORK, 0).value(), 0);
  Settle();
  EXPECT_EQ(ReceiveText(*pair.server), "head");
}

// --- everything at once ---

// Every connection of lwIP's once in its list, and none but them in the table.
void CheckLists() {
  const ConnectionTable& table = NetStack::Get().connections();
  size_t count = 0;
  std::set<const tcp_pcb*> seen;
  for (const tcp_pcb* list : {tcp_active_pcbs, tcp_tw_pcbs}) {
    for (const tcp_pcb* pcb = list; pcb != nullptr; pcb = pcb->next, ++count) {
      ASSERT_TRUE(seen.insert(pcb).second);
      ASSERT_EQ(pcb->state == TIME_WAIT, list == tcp_tw_pcbs);
      ASSERT_EQ(table.Find(pcb->local_ip, pcb->local_port, pcb->remote_ip, pcb->remote_port), pcb);
    }
  }
  ASSERT_EQ(table.size(), count);
}

// Random operations on many sockets; whatever the order, no connection may be left behind but those
// in TIME_WAIT.
TEST_F(TcpSocketTest, RandomLives) {
  std::mt19937 random(20240607);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  std::vector<std::shared_ptr<Socket>> listeners, sockets;
  std::vector<std::byte> buffer(50000);
  for (int step = 0; step < 60000; ++step) {
    const auto pick = [&]() -> Socket& { return *sockets[below(sockets.size())]; };
    switch (below(12)) {
      case 0:
        if (listeners.size() < 4) listeners.push_back(Listener(Ipv4("127.0.0.1", 0), 3));
        break;
      case 1:
        if (!listeners.empty() && below(8) == 0) listeners.erase(listeners.begin());
        break;
      case 2:
      case 3:
        if (listeners.empty() || sockets.size() >= 60) break;
        sockets.push_back(Tcp());
        EXPECT_EQ(
            sockets.back()->Connect(*listeners[below(listeners.size())]->LocalAddress()).value(),
            EINPROGRESS);
        break;
      case 4:
        if (listeners.empty()) break;
        if (auto socket = listeners[below(listeners.size())]->Accept(nullptr); socket.ok()) {
          sockets.push_back(*socket);
        }
        break;
      case 5:
      case 6:
        if (!sockets.empty())
          (void)pick().Send(std::span(buffer).first(below(50000)), nullptr, 0).ok();
        break;
      case 7:
        if (!sockets.empty()) (void)pick().Receive(std::span(buffer).first(below(50000)), 0).ok();
        break;
      case 8:
        if (!sockets.empty()) (void)pick().Shutdown(static_cast<int>(below(3))).ok();
        break;
      case 9:
        if (!sockets.empty() && below(4) == 0) static_cast<StreamSocket&>(pick()).Abort();
        break;
      case 10:
        if (!sockets.empty())
          sockets.erase(sockets.begin() + static_cast<long>(below(sockets.size())));
        break;
      case 11:
        NetStack::Get().Drain(static_cast<int>(below(20)));
        if (below(50) == 0) tcp_tmr();
        break;
    }
    if (step % 500 == 0) CheckLists();
    if (HasFatalFailure()) return;
  }
  sockets.clear();
  listeners.clear();
  // Connections that nobody owns any more end by themselves within lwIP's timeouts.
  for (int tick = 0; tick < 600; ++tick) {
    Settle();
    tcp_tmr();
  }
  EXPECT_EQ(tcp_active_pcbs, nullptr);
  EXPECT_EQ(tcp_bound_pcbs, nullptr);
  EXPECT_EQ(tcp_listen_pcbs.pcbs, nullptr);
}

}  // namespace
}  // namespace rump
