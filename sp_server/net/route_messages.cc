#include "sp_server/net/route_messages.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "lwip/netif.h"
#include "sp_server/net/interfaces.h"
#include "sp_server/net/net_stack.h"

namespace rump {
namespace {

constexpr size_t kDatagramBytes = 4096;
// Longer requests are told their header only when they fail.
constexpr size_t kEchoedBytes = 2048;
// Of <linux/if.h>, which cannot be had next to <net/if.h>.
constexpr uint8_t kOperUnknown = 0, kOperUp = 6;
constexpr uint32_t kLowerUp = 1 << 16;
constexpr uint32_t kLocalTableMetric = 0, kConnectedIpv6Metric = 256;

std::span<const std::byte> AddressBytes(const ip_addr_t& ip) {
  if (IP_IS_V6_VAL(ip)) return std::as_bytes(std::span(ip_2_ip6(&ip)->addr));
  return std::as_bytes(std::span(&ip_2_ip4(&ip)->addr, 1));
}

uint8_t FamilyOf(const ip_addr_t& ip) { return IP_IS_V6_VAL(ip) ? AF_INET6 : AF_INET; }
uint8_t HostPrefix(const ip_addr_t& ip) { return IP_IS_V6_VAL(ip) ? 128 : 32; }

// One message, in the layout of the wire.
class Message {
 public:
  template <typename T>
  Message(const nlmsghdr& request, uint32_t port, uint16_t type, uint16_t flags, const T& body) {
    const nlmsghdr header = {.nlmsg_len = 0,
                             .nlmsg_type = type,
                             .nlmsg_flags = flags,
                             .nlmsg_seq = request.nlmsg_seq,
                             .nlmsg_pid = port};
    Append(std::as_bytes(std::span(&header, 1)));
    Append(std::as_bytes(std::span(&body, 1)));
  }

  void Append(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
    const auto length = static_cast<uint32_t>(bytes_.size());
    memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_len), &length, sizeof length);
  }
  void Attribute(uint16_t type, std::span<const std::byte> value) {
    const rtattr header = {.rta_len = static_cast<uint16_t>(RTA_LENGTH(value.size())),
                           .rta_type = type};
    std::vector<std::byte> attribute(RTA_LENGTH(value.size()));
    memcpy(attribute.data(), &header, sizeof header);
    if (!value.empty()) memcpy(attribute.data() + RTA_LENGTH(0), value.data(), value.size());
    Append(attribute);
  }
  template <typename T>
  void Number(uint16_t type, T value) {
    Attribute(type, std::as_bytes(std::span(&value, 1)));
  }
  void String(uint16_t type, const std::string& value) {
    Attribute(type, std::as_bytes(std::span(value.c_str(), value.size() + 1)));
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Gathers the messages of one answer into datagrams.
class Answer {
 public:
  Answer(const nlmsghdr& request, uint32_t port, const DatagramSink& sink)
      : request_(request), port_(port), sink_(sink) {}

  bool dump() const { return (request_.nlmsg_flags & NLM_F_DUMP) != 0; }
  template <typename T>
  Message New(uint16_t type, const T& body) const {
    const uint16_t flags = dump() ? NLM_F_MULTI : 0;
    return Message(request_, port_, type, flags, body);
  }

  void Add(const Message& message) {
    if (datagram_.size() + message.bytes().size() > kDatagramBytes) Flush();
    datagram_.insert(datagram_.end(), message.bytes().begin(), message.bytes().end());
  }
  void Flush() {
    if (!datagram_.empty()) ok_ = sink_(std::exchange(datagram_, {})) && ok_;
  }
  void Done() {
    Flush();
    Add(New(NLMSG_DONE, int{0}));
    Flush();
  }
  // `message`: the whole request.
  void Error(int error, std::span<const std::byte> message) {
    const bool capped = error == 0 || message.size() > kEchoedBytes;
    const auto flags = static_cast<uint16_t>(capped ? NLM_F_CAPPED : 0);
    const nlmsgerr body = {.error = -error, .msg = request_};
    Message answer(request_, port_, NLMSG_ERROR, flags, body);
    if (!capped) answer.Append(message.subspan(sizeof request_));
    Add(answer);
    Flush();
  }
  bool ok() const { return ok_; }

 private:
  const nlmsghdr request_;
  const uint32_t port_;
  const DatagramSink& sink_;
  std::vector<std::byte> datagram_;
  bool ok_ = true;
};

// --- Reading requests ---

// The fixed part of a request, zeros where it is shorter.
template <typename T>
T Body(std::span<const std::byte> message) {
  T body = {};
  const std::span<const std::byte> payload = message.subspan(NLMSG_HDRLEN);
  memcpy(&body, payload.data(), std::min(payload.size(), sizeof body));
  return body;
}

// The value of attribute `type` behind a fixed part of `body_size` bytes; empty if there is none.
std::span<const std::byte> FindAttribute(std::span<const std::byte> message, size_t body_size,
                                         uint16_t type) {
  const size_t start = NLMSG_HDRLEN + NLMSG_ALIGN(body_size);
  if (message.size() < start) return {};
  std::span<const std::byte> rest = message.subspan(start);
  rtattr header;
  while (rest.size() >= sizeof header) {
    memcpy(&header, rest.data(), sizeof header);
    if (header.rta_len < sizeof header || header.rta_len > rest.size()) return {};
    if ((header.rta_type & NLA_TYPE_MASK) == type) {
      return rest.first(header.rta_len).subspan(RTA_LENGTH(0));
    }
    rest = rest.subspan(std::min<size_t>(RTA_ALIGN(header.rta_len), rest.size()));
  }
  return {};
}

// --- Interfaces ---

void AddLink(const Interface& interface, Answer* answer) {
  const bool up = (interface.flags & IFF_UP) != 0;
  ifinfomsg body = {};
  body.ifi_family = AF_UNSPEC;
  body.ifi_type = interface.hardware_type;
  body.ifi_index = interface.index;
  body.ifi_flags = interface.flags | (up ? kLowerUp : 0);
  Message message = answer->New(RTM_NEWLINK, body);
  message.String(IFLA_IFNAME, interface.name);
  message.Number<uint32_t>(IFLA_TXQLEN, 1000);
  message.Number<uint8_t>(IFLA_OPERSTATE, interface.loopback() || !up ? kOperUnknown : kOperUp);
  message.Number<uint8_t>(IFLA_LINKMODE, 0);
  message.Number<uint32_t>(IFLA_MTU, interface.mtu);
  message.String(IFLA_QDISC, "noqueue");
  message.Number<uint8_t>(IFLA_CARRIER, up ? 1 : 0);
  const auto hardware = std::as_bytes(std::span(interface.hardware_address));
  message.Attribute(IFLA_ADDRESS, hardware);
  constexpr uint8_t kAllStations = 0xff;
  std::array<uint8_t, 6> broadcast = {};
  if (!interface.loopback()) broadcast.fill(kAllStations);
  message.Attribute(IFLA_BROADCAST, std::as_bytes(std::span(broadcast)));
  answer->Add(message);
}

int AnswerLinks(std::span<const std::byte> request, Answer* answer) {
  const auto body = Body<ifinfomsg>(request);
  std::span<const std::byte> name = FindAttribute(request, sizeof body, IFLA_IFNAME);
  if (name.empty()) name = FindAttribute(request, sizeof body, IFLA_ALT_IFNAME);
  std::string_view wanted(reinterpret_cast<const char*>(name.data()), name.size());
  wanted = wanted.substr(0, wanted.find('\0'));
  if (!answer->dump() && body.ifi_index == 0 && wanted.empty()) return EINVAL;
  for (const Interface& interface : ListInterfaces()) {
    // Nothing is a port of a bridge.
    if (answer->dump() && body.ifi_family == AF_BRIDGE) continue;
    if (!answer->dump()) {
      if (body.ifi_index != 0 ? interface.index != body.ifi_index : interface.name != wanted) {
        continue;
      }
      AddLink(interface, answer);
      return 0;
    }
    AddLink(interface, answer);
  }
  return answer->dump() ? 0 : ENODEV;
}

// --- Addresses ---

uint8_t ScopeOf(const Interface& interface, const ip_addr_t& ip) {
  if (interface.loopback()) return RT_SCOPE_HOST;
  const bool link = IP_IS_V6_VAL(ip) && ip6_addr_islinklocal(ip_2_ip6(&ip));
  return link ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

void AddAddress(const Interface& interface, const InterfaceAddress& address, Answer* answer) {
  ifaddrmsg body = {};
  body.ifa_family = FamilyOf(address.ip);
  body.ifa_prefixlen = static_cast<uint8_t>(address.prefix);
  body.ifa_flags = IFA_F_PERMANENT;
  body.ifa_scope = ScopeOf(interface, address.ip);
  body.ifa_index = static_cast<uint32_t>(interface.index);
  Message message = answer->New(RTM_NEWADDR, body);
  message.Attribute(IFA_ADDRESS, AddressBytes(address.ip));
  if (body.ifa_family == AF_INET) {
    message.Attribute(IFA_LOCAL, AddressBytes(address.ip));
    if (interface.broadcast()) {
      message.Number(IFA_BROADCAST, BroadcastAddress(interface, address));
    }
    message.String(IFA_LABEL, interface.name);
  }
  constexpr uint32_t kForEver = 0xffffffff;
  message.Number(
      IFA_CACHEINFO,
      ifa_cacheinfo{.ifa_prefered = kForEver, .ifa_valid = kForEver, .cstamp = 0, .tstamp = 0});
  message.Number<uint32_t>(IFA_FLAGS, IFA_F_PERMANENT);
  answer->Add(message);
}

int AnswerAddresses(std::span<const std::byte> request, Answer* answer) {
  if (!answer->dump()) return EOPNOTSUPP;
  const auto body = Body<ifaddrmsg>(request);
  // Linux: all of one family, then all of the next.
  for (const uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}}) {
    if (body.ifa_family != AF_UNSPEC && body.ifa_family != family) continue;
    for (const Interface& interface : ListInterfaces()) {
      for (const InterfaceAddress& address : interface.addresses) {
        if (FamilyOf(address.ip) == family) AddAddress(interface, address, answer);
      }
    }
  }
  return 0;
}

// --- Routes ---

struct Route {
  ip_addr_t dest;  // its bits behind the prefix are 0
  uint8_t prefix = 0;
  uint8_t table = RT_TABLE_MAIN;
  uint8_t type = RTN_UNICAST;
  uint8_t scope = RT_SCOPE_LINK;
  uint8_t protocol = RTPROT_KERNEL;
  const ip_addr_t* gateway = nullptr;
  const ip_addr_t* source = nullptr;  // preferred
  int interface = 0;
  uint32_t metric = 0;
};

void AddRoute(const Route& route, Answer* answer) {
  rtmsg body = {};
  body.rtm_family = FamilyOf(route.dest);
  body.rtm_dst_len = route.prefix;
  body.rtm_table = route.table;
  body.rtm_protocol = route.protocol;
  body.rtm_scope = IP_IS_V6_VAL(route.dest) ? uint8_t{RT_SCOPE_UNIVERSE} : route.scope;
  body.rtm_type = route.type;
  Message message = answer->New(RTM_NEWROUTE, body);
  message.Number<uint32_t>(RTA_TABLE, route.table);
  if (route.prefix > 0) message.Attribute(RTA_DST, AddressBytes(route.dest));
  if (route.gateway != nullptr) message.Attribute(RTA_GATEWAY, AddressBytes(*route.gateway));
  if (route.source != nullptr) message.Attribute(RTA_PREFSRC, AddressBytes(*route.source));
  message.Number<uint32_t>(RTA_OIF, static_cast<uint32_t>(route.interface));
  if (route.metric != 0) message.Number<uint32_t>(RTA_PRIORITY, route.metric);
  answer->Add(message);
}

ip_addr_t NetworkOf(const InterfaceAddress& address) {
  ip_addr_t network = address.ip;
  if (IP_IS_V4_VAL(network)) {
    ip_2_ip4(&network)->addr &= NetworkMask(address.prefix);
  } else if (address.prefix < HostPrefix(network)) {
    ip_2_ip6(&network)->addr[2] = ip_2_ip6(&network)->addr[3] = 0;
  }
  return network;
}

// The routes that an address brings with it.
void AddRoutesOf(const Interface& interface, const InterfaceAddress& address, Answer* answer) {
  const bool ipv4 = IP_IS_V4_VAL(address.ip);
  Route own = {.dest = address.ip,
               .prefix = HostPrefix(address.ip),
               .table = RT_TABLE_LOCAL,
               .type = RTN_LOCAL,
               .scope = RT_SCOPE_HOST,
               .source = ipv4 ? &address.ip : nullptr,
               .interface = interface.index,
               .metric = kLocalTableMetric};
  AddRoute(own, answer);
  own.dest = NetworkOf(address);
  own.prefix = static_cast<uint8_t>(address.prefix);
  if (interface.loopback()) {
    // All of 127.0.0.0/8 is this host.
    if (ipv4) AddRoute(own, answer);
    return;
  }
  own.table = RT_TABLE_MAIN;
  own.type = RTN_UNICAST;
  own.scope = RT_SCOPE_LINK;
  if (!ipv4) own.metric = kConnectedIpv6Metric;
  AddRoute(own, answer);
}

void AddDefaultRoute(const Interface& interface, Answer* answer) {
  if (interface.loopback() || ip_addr_isany_val(interface.gateway)) return;
  Route route;
  ip_addr_set_any(false, &route.dest);
  route.scope = RT_SCOPE_UNIVERSE;
  route.protocol = RTPROT_STATIC;
  route.gateway = &interface.gateway;
  route.interface = interface.index;
  AddRoute(route, answer);
}

// ip route get: the route to the address that the request has.
int AnswerOneRoute(std::span<const std::byte> request, const rtmsg& body, Answer* answer) {
  const std::span<const std::byte> value = FindAttribute(request, sizeof body, RTA_DST);
  ip_addr_t dest;
  memset(&dest, 0, sizeof dest);
  if (body.rtm_family == AF_INET && value.size() == sizeof(in_addr)) {
    IP_SET_TYPE_VAL(dest, IPADDR_TYPE_V4);
    memcpy(&ip_2_ip4(&dest)->addr, value.data(), value.size());
  } else if (body.rtm_family == AF_INET6 && value.size() == sizeof(in6_addr)) {
    IP_SET_TYPE_VAL(dest, IPADDR_TYPE_V6);
    memcpy(ip_2_ip6(&dest)->addr, value.data(), value.size());
  } else {
    return EINVAL;
  }
  const Result<ip_addr_t> source = NetStack::Get().SourceFor(dest);
  if (!source.ok()) return source.error().value();
  Route route = {.dest = dest, .prefix = HostPrefix(dest), .source = &*source};
  if (NetStack::Get().IsLocal(dest)) {
    route.table = RT_TABLE_LOCAL;
    route.type = RTN_LOCAL;
    route.interface = netif_get_index(NetStack::Get().loopback());
  } else {
    const netif* const via = ip_route(&*source, &dest);
    if (via == nullptr) return ENETUNREACH;
    route.interface = netif_get_index(via);
    const bool beyond = IP_IS_V4_VAL(dest) && !ip4_addr_netcmp(ip_2_ip4(&dest), netif_ip4_addr(via),
                                                               netif_ip4_netmask(via));
    if (beyond) route.gateway = netif_ip_gw4(via);
  }
  AddRoute(route, answer);
  return 0;
}

int AnswerRoutes(std::span<const std::byte> request, Answer* answer) {
  const auto body = Body<rtmsg>(request);
  if (!answer->dump()) return AnswerOneRoute(request, body, answer);
  for (const uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}}) {
    if (body.rtm_family != AF_UNSPEC && body.rtm_family != family) continue;
    for (const Interface& interface : ListInterfaces()) {
      if (family == AF_INET) AddDefaultRoute(interface, answer);
      for (const InterfaceAddress& address : interface.addresses) {
        if (FamilyOf(address.ip) == family) AddRoutesOf(interface, address, answer);
      }
    }
  }
  return 0;
}

// 0, or the errno of an NLMSG_ERROR.
int AnswerMessage(const nlmsghdr& header, std::span<const std::byte> message, Answer* answer) {
  switch (header.nlmsg_type) {
    case RTM_GETLINK:
      return AnswerLinks(message, answer);
    case RTM_GETADDR:
      return AnswerAddresses(message, answer);
    case RTM_GETROUTE:
      return AnswerRoutes(message, answer);
    default:
      break;
  }
  if (header.nlmsg_type > RTM_MAX) return EOPNOTSUPP;
  // Of four types for each kind of thing the third asks; the others are changes.
  constexpr int kKinds = 4, kGet = 2;
  return (header.nlmsg_type - RTM_BASE) % kKinds == kGet ? EOPNOTSUPP : EPERM;
}

}  // namespace

bool AnswerRouteRequest(std::span<const std::byte> request, uint32_t port,
                        const DatagramSink& sink) {
  nlmsghdr header;
  bool ok = true;
  while (ok && request.size() >= sizeof header) {
    memcpy(&header, request.data(), sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > request.size()) break;
    const std::span<const std::byte> message = request.first(header.nlmsg_len);
    request = request.subspan(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), request.size()));
    Answer answer(header, port, sink);
    int error = 0;
    bool dumped = false;
    if ((header.nlmsg_flags & NLM_F_REQUEST) != 0 && header.nlmsg_type >= NLMSG_MIN_TYPE) {
      error = AnswerMessage(header, message, &answer);
      dumped = error == 0 && answer.dump();
    }
    if (dumped) {
      answer.Done();
    } else if (error != 0 || (header.nlmsg_flags & NLM_F_ACK) != 0) {
      answer.Flush();
      answer.Error(error, message);
    }
    answer.Flush();
    ok = answer.ok();
  }
  return ok;
}

}  // namespace rump
