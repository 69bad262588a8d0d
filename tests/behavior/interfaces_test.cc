// Network interfaces as programs see them: netdevice(7), rtnetlink(7), getifaddrs(3),
// if_nameindex(3). The loopback interface is the only one natively, so that it alone is compared.
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>

#include <array>
#include <string>
#include <vector>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

ifreq Named(const char* name) {
  ifreq request{};
  strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  return request;
}

uint32_t Ipv4(const sockaddr& address) {
  sockaddr_in in;
  memcpy(&in, &address, sizeof in);
  EXPECT_EQ(in.sin_family, AF_INET);
  return ntohl(in.sin_addr.s_addr);
}

// Of every kind of socket that may be asked.
class Interfaces : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Domains, Interfaces, testing::Values(AF_INET, AF_INET6, AF_UNIX));

TEST_P(Interfaces, LinkRequests) {
  const Fd fd(socket(GetParam(), SOCK_DGRAM, 0));
  ifreq request = Named("lo");
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFINDEX, &request), Succeeds());
  EXPECT_EQ(request.ifr_ifindex, 1);
  request = {};
  request.ifr_ifindex = 1;
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFNAME, &request), Succeeds());
  EXPECT_STREQ(request.ifr_name, "lo");
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFFLAGS, &request), Succeeds());
  EXPECT_EQ(request.ifr_flags, IFF_UP | IFF_LOOPBACK | IFF_RUNNING);
  request = Named("lo");
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFMTU, &request), Succeeds());
  EXPECT_GE(request.ifr_mtu, 65535);
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFHWADDR, &request), Succeeds());
  EXPECT_EQ(request.ifr_hwaddr.sa_family, ARPHRD_LOOPBACK);
}

TEST_P(Interfaces, UnknownOnesAndRequests) {
  const Fd fd(socket(GetParam(), SOCK_DGRAM, 0));
  ifreq request = Named("nosuch0");
  EXPECT_THAT(ioctl(fd.get(), SIOCGIFINDEX, &request), FailsWith(ENODEV));
  EXPECT_THAT(ioctl(fd.get(), SIOCGIFMTU, &request), FailsWith(ENODEV));
  request.ifr_ifindex = 99;
  EXPECT_THAT(ioctl(fd.get(), SIOCGIFNAME, &request), FailsWith(ENODEV));
}

TEST_P(Interfaces, List) {
  const Fd fd(socket(GetParam(), SOCK_DGRAM, 0));
  std::array<ifreq, 4> entries{};
  ifconf list{};
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFCONF, &list), Succeeds());
  EXPECT_EQ(list.ifc_len, sizeof(ifreq));
  list.ifc_len = sizeof entries;
  list.ifc_req = entries.data();
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFCONF, &list), Succeeds());
  ASSERT_EQ(list.ifc_len, sizeof(ifreq));
  EXPECT_STREQ(entries[0].ifr_name, "lo");
  EXPECT_EQ(Ipv4(entries[0].ifr_addr), INADDR_LOOPBACK);
  list.ifc_len = sizeof(ifreq) - 1;
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFCONF, &list), Succeeds());
  EXPECT_EQ(list.ifc_len, 0);
}

TEST(Interface, AddressesOfIpv4) {
  const Fd fd(socket(AF_INET, SOCK_STREAM, 0));
  ifreq request = Named("lo");
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFADDR, &request), Succeeds());
  EXPECT_EQ(Ipv4(request.ifr_addr), INADDR_LOOPBACK);
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFNETMASK, &request), Succeeds());
  EXPECT_EQ(Ipv4(request.ifr_netmask), 0xff000000);
  ASSERT_THAT(ioctl(fd.get(), SIOCGIFBRDADDR, &request), Succeeds());
  EXPECT_EQ(Ipv4(request.ifr_broadaddr), 0U);
}

TEST(Interface, OtherSocketsKnowNoAddressesOfIpv4) {
  for (const int domain : {AF_INET6, AF_UNIX}) {
    const Fd fd(socket(domain, SOCK_STREAM, 0));
    ifreq request = Named("lo");
    EXPECT_THAT(ioctl(fd.get(), SIOCGIFADDR, &request), FailsWith(ENOTTY)) << domain;
  }
}

TEST(Interface, NamesAndIndices) {
  EXPECT_EQ(if_nametoindex("lo"), 1U);
  EXPECT_EQ(if_nametoindex("nosuch0"), 0U);
  char name[IF_NAMESIZE];
  ASSERT_NE(if_indextoname(1, name), nullptr);
  EXPECT_STREQ(name, "lo");
  EXPECT_EQ(if_indextoname(99, name), nullptr);
  EXPECT_EQ(errno, ENXIO);
}

// --- What libc asks by netlink ---

TEST(Interface, NameIndex) {
  struct if_nameindex* const all = if_nameindex();
  ASSERT_NE(all, nullptr);
  EXPECT_EQ(all[0].if_index, 1U);
  EXPECT_STREQ(all[0].if_name, "lo");
  EXPECT_EQ(all[1].if_index, 0U);
  if_freenameindex(all);
}

TEST(Interface, Getifaddrs) {
  ifaddrs* all = nullptr;
  ASSERT_THAT(getifaddrs(&all), Succeeds());
  std::vector<int> families;
  for (const ifaddrs* a = all; a != nullptr; a = a->ifa_next) {
    EXPECT_STREQ(a->ifa_name, "lo");
    EXPECT_EQ(a->ifa_flags & (IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_BROADCAST | IFF_MULTICAST),
              static_cast<unsigned>(IFF_UP | IFF_LOOPBACK | IFF_RUNNING));
    ASSERT_NE(a->ifa_addr, nullptr);
    families.push_back(a->ifa_addr->sa_family);
    if (families.back() == AF_INET) {
      EXPECT_EQ(Ipv4(*a->ifa_addr), INADDR_LOOPBACK);
      EXPECT_EQ(Ipv4(*a->ifa_netmask), 0xff000000);
    } else if (families.back() == AF_INET6) {
      const auto& in6 = *reinterpret_cast<const sockaddr_in6*>(a->ifa_addr);
      EXPECT_TRUE(IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr));
    }
  }
  freeifaddrs(all);
  EXPECT_THAT(families, testing::ElementsAre(AF_PACKET, AF_INET, AF_INET6));
}

// --- Netlink itself ---

struct Request {
  nlmsghdr header;
  rtgenmsg body;
};

Request Dump(uint16_t type, unsigned char family = AF_UNSPEC) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = 7;
  request.body.rtgen_family = family;
  return request;
}

Fd RouteSocket(int type = SOCK_RAW) {
  Fd fd(socket(AF_NETLINK, type | SOCK_CLOEXEC, NETLINK_ROUTE));
  EXPECT_THAT(fd.get(), Succeeds());
  return fd;
}

// The types of the messages that answer `request`, errors as negative numbers.
std::vector<int> Answers(const Fd& fd, const Request& request) {
  EXPECT_EQ(send(fd.get(), &request, request.header.nlmsg_len, 0), request.header.nlmsg_len);
  std::vector<int> types;
  for (;;) {
    alignas(nlmsghdr) char data[8192];
    ssize_t left = recv(fd.get(), data, sizeof data, 0);
    if (left <= 0) return types;
    for (auto* h = reinterpret_cast<nlmsghdr*>(data); NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
      EXPECT_EQ(h->nlmsg_seq, request.header.nlmsg_seq);
      if (h->nlmsg_type == NLMSG_ERROR) {
        types.push_back(static_cast<nlmsgerr*>(NLMSG_DATA(h))->error);
      } else {
        types.push_back(h->nlmsg_type);
      }
      if ((h->nlmsg_flags & NLM_F_MULTI) == 0 || h->nlmsg_type == NLMSG_DONE) return types;
    }
  }
}

TEST(Netlink, DumpsEndWithDone) {
  for (const int type : {SOCK_RAW, SOCK_DGRAM}) {
    const Fd fd = RouteSocket(type);
    EXPECT_THAT(Answers(fd, Dump(RTM_GETLINK)), testing::ElementsAre(RTM_NEWLINK, NLMSG_DONE));
    EXPECT_THAT(Answers(fd, Dump(RTM_GETADDR)),
                testing::ElementsAre(RTM_NEWADDR, RTM_NEWADDR, NLMSG_DONE));
    EXPECT_THAT(Answers(fd, Dump(RTM_GETADDR, AF_INET6)),
                testing::ElementsAre(RTM_NEWADDR, NLMSG_DONE));
    EXPECT_THAT(Answers(fd, Dump(RTM_GETROUTE)), testing::Contains(RTM_NEWROUTE));
  }
}

TEST(Netlink, OneLinkByItsIndex) {
  struct {
    nlmsghdr header;
    ifinfomsg body;
  } request{};
  request.header = Dump(RTM_GETLINK).header;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.ifi_index = 1;
  const Fd fd = RouteSocket();
  alignas(nlmsghdr) char data[8192];
  ASSERT_EQ(send(fd.get(), &request, sizeof request, 0), sizeof request);
  ASSERT_GT(recv(fd.get(), data, sizeof data, 0), 0);
  EXPECT_EQ(reinterpret_cast<nlmsghdr*>(data)->nlmsg_type, RTM_NEWLINK);
  request.body.ifi_index = 99;
  ASSERT_EQ(send(fd.get(), &request, sizeof request, 0), sizeof request);
  ASSERT_GT(recv(fd.get(), data, sizeof data, 0), 0);
  const auto* answer = reinterpret_cast<const nlmsghdr*>(data);
  ASSERT_EQ(answer->nlmsg_type, NLMSG_ERROR);
  EXPECT_EQ(reinterpret_cast<const nlmsgerr*>(answer + 1)->error, -ENODEV);
}

TEST(Netlink, UnknownRequestsAreTold) {
  const Fd fd = RouteSocket();
  Request request = Dump(RTM_MAX + 4);
  EXPECT_THAT(Answers(fd, request), testing::ElementsAre(-EOPNOTSUPP));
}

TEST(Netlink, AcknowledgesOnRequest) {
  const Fd fd = RouteSocket();
  Request request = Dump(NLMSG_NOOP);
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  EXPECT_THAT(Answers(fd, request), testing::ElementsAre(0));
}

TEST(Netlink, BadLengthsAreIgnored) {
  const Fd fd = RouteSocket();
  for (const uint32_t length : {0U, 15U, 1000U, ~0U}) {
    Request request = Dump(RTM_GETLINK);
    request.header.nlmsg_len = length;
    EXPECT_EQ(send(fd.get(), &request, sizeof request, 0), sizeof request);
    char byte;
    EXPECT_THAT(recv(fd.get(), &byte, 1, MSG_DONTWAIT), FailsWith(EAGAIN)) << length;
  }
}

TEST(Netlink, NamesAndTruncation) {
  const Fd fd = RouteSocket();
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  ASSERT_THAT(bind(fd.get(), name, sizeof address), Succeeds());
  socklen_t size = sizeof address;
  ASSERT_THAT(getsockname(fd.get(), name, &size), Succeeds());
  EXPECT_EQ(size, sizeof address);
  EXPECT_NE(address.nl_pid, 0U);
  const Fd other = RouteSocket();
  EXPECT_THAT(bind(other.get(), name, sizeof address), FailsWith(EADDRINUSE));
  const Request request = Dump(RTM_GETLINK);
  ASSERT_EQ(send(fd.get(), &request, sizeof request, 0), sizeof request);
  EXPECT_EQ(PollFor(fd.get(), POLLIN, kPatience), POLLIN);
  char data[16];
  iovec iov{data, sizeof data};
  msghdr msg{};
  msg.msg_name = &address;
  msg.msg_namelen = sizeof address;
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  EXPECT_GT(recvmsg(fd.get(), &msg, MSG_PEEK | MSG_TRUNC), 16);
  EXPECT_NE(msg.msg_flags & MSG_TRUNC, 0);
  EXPECT_EQ(msg.msg_namelen, sizeof address);
  EXPECT_EQ(address.nl_pid, 0U);
  EXPECT_EQ(recvmsg(fd.get(), &msg, 0), 16);
}

TEST(Netlink, SocketOptions) {
  const Fd fd = RouteSocket();
  const auto option = [&](int name) {
    int value = -1;
    socklen_t size = sizeof value;
    EXPECT_THAT(getsockopt(fd.get(), SOL_SOCKET, name, &value, &size), Succeeds());
    return value;
  };
  EXPECT_EQ(option(SO_DOMAIN), AF_NETLINK);
  EXPECT_EQ(option(SO_TYPE), SOCK_RAW);
  EXPECT_EQ(option(SO_PROTOCOL), NETLINK_ROUTE);
  EXPECT_THAT(listen(fd.get(), 1), FailsWith(EOPNOTSUPP));
  EXPECT_THAT(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE), FailsWith(ESOCKTNOSUPPORT));
}

}  // namespace
}  // namespace rump
