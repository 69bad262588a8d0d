#include "sp_server/net/route_messages.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "lwip/netif.h"
#include "sp_server/net/interfaces.h"
#include "sp_server/net/netlink_socket.h"
#include "tests/net/net_test_util.h"

namespace rump {
namespace {

// An Ethernet interface with an address, as long as the object lives.
class Wire {
 public:
  Wire() {
    ip4_addr_t address, mask, gateway;
    IP4_ADDR(&address, 10, 1, 2, 3);
    IP4_ADDR(&mask, 255, 255, 240, 0);
    IP4_ADDR(&gateway, 10, 1, 0, 1);
    netif_add(&netif_, &address, &mask, &gateway, nullptr, &Init, &ip_input);
    netif_set_link_up(&netif_);
    netif_set_up(&netif_);
  }
  ~Wire() { netif_remove(&netif_); }

 private:
  static err_t Init(netif* netif) {
    netif->name[0] = 'e';
    netif->name[1] = 'n';
    netif->mtu = 1500;
    netif->flags = NETIF_FLAG_BROADCAST;
    netif->hwaddr_len = 6;
    netif->hwaddr[5] = 9;
    netif->output = [](struct netif*, pbuf*, const ip4_addr_t*) -> err_t { return ERR_OK; };
    netif->output_ip6 = [](struct netif*, pbuf*, const ip6_addr_t*) -> err_t { return ERR_OK; };
    return ERR_OK;
  }
  netif netif_ = {};
};

struct Request {
  nlmsghdr header = {};
  rtmsg body = {};
  rtattr attribute = {};
  uint8_t value[4] = {};
};

Request Dump(uint16_t type) {
  Request request;
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(rtmsg));
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  return request;
}

// The messages that answer `request`.
std::vector<std::vector<std::byte>> Answers(const Request& request) {
  std::vector<std::vector<std::byte>> messages;
  EXPECT_TRUE(
      AnswerRouteRequest(std::as_bytes(std::span(&request, 1)).first(request.header.nlmsg_len), 5,
                         [&](const std::vector<std::byte>& datagram) {
                           std::span<const std::byte> rest = datagram;
                           while (!rest.empty()) {
                             nlmsghdr header;
                             memcpy(&header, rest.data(), sizeof header);
                             messages.emplace_back(rest.begin(), rest.begin() + header.nlmsg_len);
                             rest = rest.subspan(header.nlmsg_len);
                           }
                           return true;
                         }));
  return messages;
}

uint16_t TypeOf(const std::vector<std::byte>& message) {
  nlmsghdr header;
  memcpy(&header, message.data(), sizeof header);
  return header.nlmsg_type;
}

template <typename T>
T BodyOf(const std::vector<std::byte>& message) {
  T body;
  memcpy(&body, message.data() + NLMSG_HDRLEN, sizeof body);
  return body;
}

class RouteMessagesTest : public NetTest {};

TEST_F(RouteMessagesTest, EveryInterfaceHasItsLinkAddressesAndRoutes) {
  const Wire wire;
  const auto links = Answers(Dump(RTM_GETLINK));
  ASSERT_EQ(links.size(), 3u);
  EXPECT_EQ(BodyOf<ifinfomsg>(links[0]).ifi_index, 1);
  EXPECT_EQ(BodyOf<ifinfomsg>(links[1]).ifi_index, 2);
  EXPECT_EQ(TypeOf(links[2]), NLMSG_DONE);
  const auto addresses = Answers(Dump(RTM_GETADDR));
  ASSERT_EQ(addresses.size(), 4u);
  EXPECT_EQ(BodyOf<ifaddrmsg>(addresses[1]).ifa_index, 2u);
  EXPECT_EQ(BodyOf<ifaddrmsg>(addresses[1]).ifa_prefixlen, 20);
  EXPECT_EQ(BodyOf<ifaddrmsg>(addresses[1]).ifa_scope, RT_SCOPE_UNIVERSE);
  const auto routes = Answers(Dump(RTM_GETROUTE));
  bool has_default = false, has_network = false;
  for (const auto& message : routes) {
    if (TypeOf(message) != RTM_NEWROUTE) continue;
    const auto body = BodyOf<rtmsg>(message);
    has_default |= body.rtm_dst_len == 0 && body.rtm_table == RT_TABLE_MAIN;
    has_network |= body.rtm_dst_len == 20 && body.rtm_table == RT_TABLE_MAIN;
  }
  EXPECT_TRUE(has_default);
  EXPECT_TRUE(has_network);
}

TEST_F(RouteMessagesTest, OneRoute) {
  Request request = Dump(RTM_GETROUTE);
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.header.nlmsg_len = sizeof request;
  request.body.rtm_family = AF_INET;
  request.attribute = {.rta_len = RTA_LENGTH(4), .rta_type = RTA_DST};
  request.value[0] = 127;
  auto answer = Answers(request);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(BodyOf<rtmsg>(answer[0]).rtm_type, RTN_LOCAL);
  request.value[0] = 9;
  answer = Answers(request);
  ASSERT_EQ(answer.size(), 1u);
  ASSERT_EQ(TypeOf(answer[0]), NLMSG_ERROR);
  EXPECT_EQ(BodyOf<nlmsgerr>(answer[0]).error, -ENETUNREACH);
  // An attribute that claims more than there is.
  request.attribute.rta_len = 9;
  answer = Answers(request);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(BodyOf<nlmsgerr>(answer[0]).error, -EINVAL);
}

TEST_F(RouteMessagesTest, NothingCanBeChanged) {
  const auto answer = Answers([] {
    Request request = Dump(RTM_NEWADDR);
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    return request;
  }());
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(BodyOf<nlmsgerr>(answer[0]).error, -EPERM);
}

TEST_F(RouteMessagesTest, ALongRequestIsNotEchoed) {
  std::vector<std::byte> request(60'000);
  const nlmsghdr header = {.nlmsg_len = 60'000,
                           .nlmsg_type = RTM_MAX + 1,
                           .nlmsg_flags = NLM_F_REQUEST,
                           .nlmsg_seq = 0,
                           .nlmsg_pid = 0};
  memcpy(request.data(), &header, sizeof header);
  size_t size = 0;
  EXPECT_TRUE(AnswerRouteRequest(request, 1, [&](const std::vector<std::byte>& datagram) {
    size += datagram.size();
    return true;
  }));
  EXPECT_LT(size, 100u);
}

// Thousands of dumps in one datagram end where the receive buffer does.
TEST_F(RouteMessagesTest, AnswersAreBounded) {
  NetlinkSocket socket(std::make_shared<NetlinkPorts>(), SOCK_RAW, 0, nullptr);
  std::vector<std::byte> requests;
  const Request dump = Dump(RTM_GETLINK);
  const auto bytes = std::as_bytes(std::span(&dump, 1)).first(dump.header.nlmsg_len);
  for (int i = 0; i < 2000; ++i) requests.insert(requests.end(), bytes.begin(), bytes.end());
  EXPECT_TRUE(socket.Send(requests, nullptr, 0).ok());
  std::vector<std::byte> buffer(4096);
  EXPECT_EQ(socket.Receive(buffer, 0).error().value(), ENOBUFS);
  size_t received = 0;
  while (true) {
    const Result<Received> answer = socket.Receive(buffer, 0);
    if (!answer.ok()) break;
    received += answer->length;
  }
  EXPECT_GT(received, 10'000u);
  EXPECT_LT(received, 213'000u);
}

TEST_F(RouteMessagesTest, NamesOfAWire) {
  const Wire wire;
  const std::vector<Interface> all = ListInterfaces();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "lo");
  EXPECT_TRUE(all[1].name.starts_with("en"));
  EXPECT_EQ(all[1].hardware_address[5], 9);
  EXPECT_EQ(BroadcastAddress(all[1], all[1].addresses[0]), inet_addr("10.1.15.255"));
}

}  // namespace
}  // namespace rump
