// UDP as programs see it: udp(7), sendto(2), recvfrom(2).
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <string>
#include <thread>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// A UDP socket bound to a free loopback port.
Fd Bound(int flags = 0) {
  Fd fd(socket(AF_INET, SOCK_DGRAM | flags, 0));
  EXPECT_THAT(fd.get(), Succeeds());
  const sockaddr_in address = Loopback(0);
  EXPECT_THAT(bind(fd.get(), Addr(address), sizeof address), Succeeds());
  return fd;
}

ssize_t SendTo(const Fd& fd, uint16_t port, const std::string& data) {
  const sockaddr_in to = Loopback(port);
  return sendto(fd.get(), data.data(), data.size(), 0, Addr(to), sizeof to);
}

TEST(Udp, DatagramsKeepTheirBoundsAndSender) {
  const Fd a = Bound();
  const Fd b = Bound();
  EXPECT_EQ(SendTo(a, PortOf(b), "one"), 3);
  EXPECT_EQ(SendTo(a, PortOf(b), "second"), 6);
  char data[64];
  sockaddr_in from{};
  socklen_t size = sizeof from;
  ASSERT_EQ(recvfrom(b.get(), data, sizeof data, 0, Addr(from), &size), 3);
  EXPECT_EQ(size, sizeof from);
  EXPECT_EQ(ntohs(from.sin_port), PortOf(a));
  EXPECT_EQ(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
  EXPECT_EQ(read(b.get(), data, sizeof data), 6);
}

TEST(Udp, EmptyDatagramIsOne) {
  const Fd a = Bound();
  const Fd b = Bound();
  EXPECT_EQ(SendTo(a, PortOf(b), ""), 0);
  EXPECT_EQ(PollFor(b.get(), POLLIN, kPatience), POLLIN);
  char data[8];
  EXPECT_EQ(recv(b.get(), data, sizeof data, 0), 0);
  EXPECT_THAT(recv(b.get(), data, sizeof data, MSG_DONTWAIT), FailsWith(EAGAIN));
}

TEST(Udp, ReadinessFollowsTheQueue) {
  const Fd a = Bound();
  const Fd b = Bound(SOCK_NONBLOCK);
  char data[8];
  EXPECT_EQ(PollFor(b.get(), POLLIN | POLLOUT, kBriefly), POLLOUT);
  EXPECT_THAT(recv(b.get(), data, sizeof data, 0), FailsWith(EAGAIN));
  for (int i = 0; i < 3; ++i) SendTo(a, PortOf(b), "x");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(PollFor(b.get(), POLLIN, kPatience), POLLIN) << i;
    EXPECT_EQ(recv(b.get(), data, sizeof data, MSG_PEEK), 1);
    EXPECT_EQ(recv(b.get(), data, sizeof data, 0), 1);
  }
  EXPECT_EQ(PollFor(b.get(), POLLIN, kBriefly), 0);
  EXPECT_THAT(recv(b.get(), data, sizeof data, 0), FailsWith(EAGAIN));
}

TEST(Udp, BlockingReceiveWaits) {
  const Fd a = Bound();
  const Fd b = Bound();
  std::thread sender([&] {
    PollFor(b.get(), POLLIN, kBriefly);
    SendTo(a, PortOf(b), "late");
  });
  char data[8];
  EXPECT_EQ(recv(b.get(), data, sizeof data, 0), 4);
  sender.join();
}

TEST(Udp, TruncationIsTold) {
  const Fd a = Bound();
  const Fd b = Bound();
  SendTo(a, PortOf(b), "abcdef");
  char data[3];
  iovec iov{data, sizeof data};
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  EXPECT_EQ(recvmsg(b.get(), &msg, MSG_PEEK), 3);
  EXPECT_NE(msg.msg_flags & MSG_TRUNC, 0);
  EXPECT_EQ(recv(b.get(), data, sizeof data, MSG_TRUNC), 6);
}

TEST(Udp, ConnectedSocketTalksToItsPeerOnly) {
  const Fd a = Bound();
  const Fd b = Bound();
  const Fd stranger = Bound();
  const sockaddr_in to_b = Loopback(PortOf(b));
  ASSERT_THAT(connect(a.get(), Addr(to_b), sizeof to_b), Succeeds());
  EXPECT_EQ(send(a.get(), "hi", 2, 0), 2);
  EXPECT_EQ(write(a.get(), "hey", 3), 3);
  char data[8];
  EXPECT_EQ(recv(b.get(), data, sizeof data, 0), 2);
  EXPECT_EQ(recv(b.get(), data, sizeof data, 0), 3);
  SendTo(stranger, PortOf(a), "no");
  SendTo(b, PortOf(a), "yes");
  EXPECT_EQ(recv(a.get(), data, sizeof data, 0), 3);
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  ASSERT_THAT(getpeername(a.get(), Addr(peer), &size), Succeeds());
  EXPECT_EQ(ntohs(peer.sin_port), PortOf(b));
}

TEST(Udp, ClosedPortIsToldToAConnectedSocket) {
  uint16_t port;
  {
    const Fd gone = Bound();
    port = PortOf(gone);
  }
  const Fd fd = Bound();
  const sockaddr_in to = Loopback(port);
  ASSERT_THAT(connect(fd.get(), Addr(to), sizeof to), Succeeds());
  EXPECT_EQ(send(fd.get(), "x", 1, 0), 1);
  EXPECT_NE(PollFor(fd.get(), POLLIN, kPatience), 0);
  char data[8];
  EXPECT_THAT(recv(fd.get(), data, sizeof data, 0), FailsWith(ECONNREFUSED));
}

TEST(Udp, ErrorsOfSending) {
  const Fd fd = Bound();
  EXPECT_THAT(send(fd.get(), "x", 1, 0), FailsWith(EDESTADDRREQ));
  const std::string too_long(65508, 'x');
  EXPECT_THAT(SendTo(fd, 9, too_long), FailsWith(EMSGSIZE));
}

TEST(Udp, LongestDatagramArrives) {
  const Fd a = Bound();
  const Fd b = Bound();
  std::string data(65507, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i % 251);
  ASSERT_EQ(SendTo(a, PortOf(b), data), 65507);
  std::string in(70000, '\0');
  const ssize_t n = recv(b.get(), in.data(), in.size(), 0);
  ASSERT_EQ(n, 65507);
  in.resize(65507);
  EXPECT_TRUE(in == data);
}

TEST(Udp, ScatteredMessages) {
  const Fd a = Bound();
  const Fd b = Bound();
  char one[] = "ab";
  char two[] = "cde";
  iovec out[2] = {{one, 2}, {two, 3}};
  sockaddr_in to = Loopback(PortOf(b));
  msghdr msg{};
  msg.msg_name = &to;
  msg.msg_namelen = sizeof to;
  msg.msg_iov = out;
  msg.msg_iovlen = 2;
  ASSERT_EQ(sendmsg(a.get(), &msg, 0), 5);
  char first[1];
  char rest[16];
  iovec in[2] = {{first, 1}, {rest, sizeof rest}};
  sockaddr_in from{};
  msghdr received{};
  received.msg_name = &from;
  received.msg_namelen = sizeof from;
  received.msg_iov = in;
  received.msg_iovlen = 2;
  ASSERT_EQ(recvmsg(b.get(), &received, 0), 5);
  EXPECT_EQ(received.msg_namelen, sizeof from);
  EXPECT_EQ(ntohs(from.sin_port), PortOf(a));
  EXPECT_EQ(std::string(first, 1) + std::string(rest, 4), "abcde");
  ASSERT_EQ(writev(a.get(), out, 0), 0);
}

TEST(Udp, ReceiveTimeout) {
  const Fd fd = Bound();
  const timeval brief{0, 50'000};
  ASSERT_THAT(setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief), Succeeds());
  char byte;
  EXPECT_THAT(recv(fd.get(), &byte, 1, 0), FailsWith(EAGAIN));
}

TEST(Udp, PortInUse) {
  const Fd a = Bound();
  const Fd b(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in taken = Loopback(PortOf(a));
  EXPECT_THAT(bind(b.get(), Addr(taken), sizeof taken), FailsWith(EADDRINUSE));
}

TEST(Udp, FionreadIsTheNextDatagram) {
  const Fd a = Bound();
  const Fd b = Bound();
  SendTo(a, PortOf(b), "four");
  SendTo(a, PortOf(b), "sixsix");
  ASSERT_EQ(PollFor(b.get(), POLLIN, kPatience), POLLIN);
  int size = 0;
  ASSERT_THAT(ioctl(b.get(), FIONREAD, &size), Succeeds());
  EXPECT_EQ(size, 4);
}

TEST(Udp, PortIsSharedByConsent) {
  for (const int option : {SO_REUSEADDR, SO_REUSEPORT}) {
    const int on = 1;
    const Fd a(socket(AF_INET, SOCK_DGRAM, 0));
    const Fd b(socket(AF_INET, SOCK_DGRAM, 0));
    sockaddr_in address = Loopback(0);
    ASSERT_THAT(setsockopt(a.get(), SOL_SOCKET, option, &on, sizeof on), Succeeds());
    ASSERT_THAT(bind(a.get(), Addr(address), sizeof address), Succeeds());
    address = Loopback(PortOf(a));
    EXPECT_THAT(bind(b.get(), Addr(address), sizeof address), FailsWith(EADDRINUSE));
    ASSERT_THAT(setsockopt(b.get(), SOL_SOCKET, option, &on, sizeof on), Succeeds());
    EXPECT_THAT(bind(b.get(), Addr(address), sizeof address), Succeeds());
    // One of them gets it.
    const Fd sender = Bound();
    EXPECT_EQ(SendTo(sender, PortOf(a), "x"), 1);
    pollfd both[] = {{a.get(), POLLIN, 0}, {b.get(), POLLIN, 0}};
    EXPECT_EQ(poll(both, 2, kPatience), 1);
  }
}

TEST(Udp, BroadcastNeedsPermission) {
  const Fd fd(socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in any = Loopback(0);
  any.sin_addr.s_addr = INADDR_ANY;
  ASSERT_THAT(bind(fd.get(), Addr(any), sizeof any), Succeeds());
  const Fd sender(socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in all = Loopback(PortOf(fd));
  all.sin_addr.s_addr = htonl(0x7fffffff);
  EXPECT_THAT(sendto(sender.get(), "x", 1, 0, Addr(all), sizeof all), FailsWith(EACCES));
  const int on = 1;
  ASSERT_THAT(setsockopt(sender.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on), Succeeds());
  EXPECT_EQ(sendto(sender.get(), "x", 1, 0, Addr(all), sizeof all), 1);
  char byte;
  EXPECT_EQ(recv(fd.get(), &byte, 1, 0), 1);
}

TEST(Udp, AfterTheFirstOfSeveralNothingIsWaitedFor) {
  const Fd a = Bound();
  const Fd b = Bound();
  SendTo(a, PortOf(b), "one");
  char data[2][8];
  iovec iov[] = {{data[0], 8}, {data[1], 8}};
  mmsghdr messages[2] = {};
  for (int i = 0; i < 2; ++i) {
    messages[i].msg_hdr.msg_iov = &iov[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(recvmmsg(b.get(), messages, 2, MSG_WAITFORONE, nullptr), 1);
  EXPECT_EQ(messages[0].msg_len, 3U);
  EXPECT_THAT(recvmmsg(b.get(), messages, 2, MSG_DONTWAIT, nullptr), FailsWith(EAGAIN));
}

TEST(Udp, APeerCanBeChangedAndLeft) {
  const Fd a = Bound();
  const Fd b = Bound();
  const Fd fd = Bound();
  for (const Fd* peer : {&a, &b}) {
    const sockaddr_in to = Loopback(PortOf(*peer));
    ASSERT_THAT(connect(fd.get(), Addr(to), sizeof to), Succeeds());
    EXPECT_EQ(send(fd.get(), "x", 1, 0), 1);
    char byte;
    EXPECT_EQ(recv(peer->get(), &byte, 1, 0), 1);
  }
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  ASSERT_THAT(connect(fd.get(), &nobody, sizeof nobody), Succeeds());
  EXPECT_THAT(send(fd.get(), "x", 1, 0), FailsWith(EDESTADDRREQ));
  sockaddr_in name{};
  socklen_t size = sizeof name;
  EXPECT_THAT(getpeername(fd.get(), Addr(name), &size), FailsWith(ENOTCONN));
}

TEST(Udp, ShutDownForReadingItEndsWaiting) {
  auto [fd, peer] = UdpPair();
  (void)peer;
  ASSERT_THAT(shutdown(fd.get(), SHUT_RD), Succeeds());
  char byte;
  EXPECT_EQ(recv(fd.get(), &byte, 1, 0), 0);
}

// --- Groups ---

constexpr uint32_t kGroup = 0xef010203;  // 239.1.2.3

int ChangeMembership(const Fd& fd, int option, uint32_t group, uint32_t interface) {
  ip_mreq request{};
  request.imr_multiaddr.s_addr = htonl(group);
  request.imr_interface.s_addr = htonl(interface);
  return setsockopt(fd.get(), IPPROTO_IP, option, &request, sizeof request);
}

TEST(Multicast, MembersHearTheirGroup) {
  const Fd fd(socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in any = Loopback(0);
  any.sin_addr.s_addr = INADDR_ANY;
  ASSERT_THAT(bind(fd.get(), Addr(any), sizeof any), Succeeds());
  ASSERT_THAT(ChangeMembership(fd, IP_ADD_MEMBERSHIP, kGroup, INADDR_LOOPBACK), Succeeds());
  const Fd sender(socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in to = Loopback(PortOf(fd));
  to.sin_addr.s_addr = htonl(kGroup);
  // There is no route to it.
  EXPECT_THAT(sendto(sender.get(), "x", 1, 0, Addr(to), sizeof to), FailsWith(ENETUNREACH));
  in_addr interface { htonl(INADDR_LOOPBACK) };
  ASSERT_THAT(setsockopt(sender.get(), IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface),
              Succeeds());
  EXPECT_EQ(sendto(sender.get(), "x", 1, 0, Addr(to), sizeof to), 1);
  char byte;
  sockaddr_in from{};
  socklen_t size = sizeof from;
  EXPECT_EQ(recvfrom(fd.get(), &byte, 1, 0, Addr(from), &size), 1);
  EXPECT_EQ(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);

  ASSERT_THAT(ChangeMembership(fd, IP_DROP_MEMBERSHIP, kGroup, INADDR_LOOPBACK), Succeeds());
  EXPECT_EQ(sendto(sender.get(), "x", 1, 0, Addr(to), sizeof to), 1);
  EXPECT_EQ(PollFor(fd.get(), POLLIN, kBriefly), 0);
}

// A socket at INADDR_ANY and `port` that shares it.
Fd Sharing(in_port_t port) {
  Fd fd(socket(AF_INET, SOCK_DGRAM, 0));
  const int on = 1;
  EXPECT_THAT(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), Succeeds());
  sockaddr_in any = Loopback(port);
  any.sin_addr.s_addr = INADDR_ANY;
  EXPECT_THAT(bind(fd.get(), Addr(any), sizeof any), Succeeds());
  return fd;
}

// Others at the port hear what a member hears, as long as there is one.
TEST(Multicast, OthersHearWithMembers) {
  Fd member = Sharing(0);
  const Fd other = Sharing(PortOf(member));
  ASSERT_THAT(ChangeMembership(member, IP_ADD_MEMBERSHIP, kGroup, INADDR_LOOPBACK), Succeeds());
  const Fd sender(socket(AF_INET, SOCK_DGRAM, 0));
  in_addr interface { htonl(INADDR_LOOPBACK) };
  ASSERT_THAT(setsockopt(sender.get(), IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface),
              Succeeds());
  sockaddr_in to = Loopback(PortOf(member));
  to.sin_addr.s_addr = htonl(kGroup);
  char byte;
  for (const int all : {1, 0}) {
    ASSERT_THAT(setsockopt(other.get(), IPPROTO_IP, IP_MULTICAST_ALL, &all, sizeof all),
                Succeeds());
    EXPECT_EQ(sendto(sender.get(), "x", 1, 0, Addr(to), sizeof to), 1);
    EXPECT_EQ(recv(member.get(), &byte, 1, 0), 1);
    if (all == 1) {
      EXPECT_EQ(recv(other.get(), &byte, 1, 0), 1);
    }
  }
  const int on = 1;
  ASSERT_THAT(setsockopt(other.get(), IPPROTO_IP, IP_MULTICAST_ALL, &on, sizeof on), Succeeds());
  member = Fd();
  EXPECT_EQ(sendto(sender.get(), "x", 1, 0, Addr(to), sizeof to), 1);
  EXPECT_EQ(PollFor(other.get(), POLLIN, kBriefly), 0);
}

TEST(Multicast, MistakesAreTold) {
  const Fd fd = Bound();
  EXPECT_THAT(ChangeMembership(fd, IP_ADD_MEMBERSHIP, INADDR_LOOPBACK, INADDR_LOOPBACK),
              FailsWith(EINVAL));
  EXPECT_THAT(ChangeMembership(fd, IP_ADD_MEMBERSHIP, kGroup, 0x08080808), FailsWith(ENODEV));
  EXPECT_THAT(ChangeMembership(fd, IP_ADD_MEMBERSHIP, kGroup, INADDR_ANY), FailsWith(ENODEV));
  EXPECT_THAT(ChangeMembership(fd, IP_DROP_MEMBERSHIP, kGroup, INADDR_LOOPBACK),
              FailsWith(EADDRNOTAVAIL));
  ASSERT_THAT(ChangeMembership(fd, IP_ADD_MEMBERSHIP, kGroup, INADDR_LOOPBACK), Succeeds());
  EXPECT_THAT(ChangeMembership(fd, IP_ADD_MEMBERSHIP, kGroup, INADDR_LOOPBACK),
              FailsWith(EADDRINUSE));
  char byte = 0;
  EXPECT_THAT(setsockopt(fd.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &byte, 1), FailsWith(EINVAL));
}

}  // namespace
}  // namespace rump
