// Groups of IPv4 that UDP sockets hear and speak to.
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <algorithm>

#include "lwip/netif.h"
#include "sp_server/net/udp_socket.h"

namespace rump {
namespace {

// Groups of one socket: Linux's net.ipv4.igmp_max_memberships.
constexpr size_t kMaxMemberships = 20;

// What the options are given: at least a struct ip_mreq to join and leave, else at least an
// in_addr.
struct GroupRequest {
  ip_addr_t group = {};
  ip_addr_t address = {};  // of the interface
  int interface = 0;       // its index, if that is how it is named
};

bool ParseRequest(std::span<const std::byte> value, bool address_only, GroupRequest* out) {
  ip_mreqn request = {};
  if (value.size() >= sizeof(ip_mreq)) {
    memcpy(&request, value.data(), std::min(value.size(), sizeof request));
  } else if (address_only && value.size() >= sizeof(in_addr)) {
    memcpy(&request.imr_address, value.data(), sizeof(in_addr));
  } else {
    return false;
  }
  ip_addr_set_ip4_u32_val(out->group, request.imr_multiaddr.s_addr);
  ip_addr_set_ip4_u32_val(out->address, request.imr_address.s_addr);
  out->interface = request.imr_ifindex;
  return true;
}

// The index of the interface that is meant, 0 if there is none. Without a name the first that leads
// anywhere.
int FindInterface(const GroupRequest& request) {
  const netif* netif;
  NETIF_FOREACH(netif) {
    const int index = netif_get_index(netif);
    if (request.interface != 0) {
      if (index == request.interface) return index;
    } else if (ip_addr_isany_val(request.address)) {
      if (!ip4_addr_isloopback(netif_ip4_addr(netif))) return index;
    } else if (ip4_addr_cmp(netif_ip4_addr(netif), ip_2_ip4(&request.address))) {
      return index;
    }
  }
  return 0;
}

}  // namespace

bool UdpSocket::IsMulticastOption(int level, int name) {
  return level == IPPROTO_IP &&
         (name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP || name == IP_MULTICAST_IF);
}

Errno UdpSocket::SetMulticast(int name, std::span<const std::byte> value) {
  GroupRequest request;
  if (!ParseRequest(value, name == IP_MULTICAST_IF, &request)) return Errno(EINVAL);
  const int interface = FindInterface(request);
  if (name == IP_MULTICAST_IF) {
    const bool none = request.interface == 0 && ip_addr_isany_val(request.address);
    if (!none && interface == 0) return Errno(EADDRNOTAVAIL);
    multicast_interface_ = none ? 0 : interface;
    return kOk;
  }
  if (!ip_addr_ismulticast(&request.group)) {
    return Errno(name == IP_ADD_MEMBERSHIP ? EINVAL : EADDRNOTAVAIL);
  }
  if (interface == 0) return Errno(ENODEV);
  const Membership membership = {request.group, interface};
  const auto it = std::ranges::find(memberships_, membership);
  if (name == IP_DROP_MEMBERSHIP) {
    if (it == memberships_.end()) return Errno(EADDRNOTAVAIL);
    CountOut(membership);
    memberships_.erase(it);
    return kOk;
  }
  if (it != memberships_.end()) return Errno(EADDRINUSE);
  if (memberships_.size() == kMaxMemberships) return Errno(ENOBUFS);
  memberships_.push_back(membership);
  ++stack_->udp_groups()[ip4_addr_get_u32(ip_2_ip4(&request.group))];
  return kOk;
}

void UdpSocket::CountOut(const Membership& membership) {
  NetStack::GroupCounts& groups = stack_->udp_groups();
  const auto it = groups.find(ip4_addr_get_u32(ip_2_ip4(&membership.group)));
  if (--it->second == 0) groups.erase(it);
}

void UdpSocket::LeaveGroups() {
  for (const Membership& membership : memberships_) CountOut(membership);
  memberships_.clear();
}

bool UdpSocket::IsMember(const ip_addr_t& group) const {
  return std::ranges::any_of(memberships_,
                             [&](const Membership& m) { return ip_addr_cmp(&m.group, &group); });
}

bool UdpSocket::Hears(const ip_addr_t& dest) const {
  if (IP_IS_V6_VAL(dest) || !ip_addr_ismulticast(&dest) || IsMember(dest)) return true;
  if (!options_.Flag(IPPROTO_IP, IP_MULTICAST_ALL)) return false;
  // Linux: what comes for any member is for all whose port it is, but for those who object.
  return stack_->udp_groups().contains(ip4_addr_get_u32(ip_2_ip4(&dest)));
}

}  // namespace rump
