#include "sp_server/net/interfaces.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>

#include "lwip/netif.h"
#include "sp_server/net/net_stack.h"

namespace rump {
namespace {

constexpr int kIpv6HostPrefix = 128;
// lwIP takes every IPv6 network for one of this size.
constexpr int kIpv6NetworkPrefix = 64;
constexpr int kQueueLength = 1000;  // Linux's for both kinds of interface

unsigned FlagsOf(const netif& netif, bool loopback) {
  unsigned flags = loopback ? IFF_LOOPBACK : 0;
  if (netif_is_up(&netif)) flags |= IFF_UP;
  if (netif_is_up(&netif) && netif_is_link_up(&netif)) flags |= IFF_RUNNING;
  // lwIP's loopback has it for 127.255.255.255 only.
  if (!loopback && (netif.flags & NETIF_FLAG_BROADCAST) != 0) flags |= IFF_BROADCAST;
  if (!loopback && (netif.flags & (NETIF_FLAG_IGMP | NETIF_FLAG_ETHERNET)) != 0) {
    flags |= IFF_MULTICAST;
  }
  return flags;
}

std::vector<InterfaceAddress> AddressesOf(const netif& netif, bool loopback) {
  std::vector<InterfaceAddress> addresses;
  if (!ip4_addr_isany_val(*netif_ip4_addr(&netif))) {
    addresses.push_back(
        {*netif_ip_addr4(&netif), std::popcount(ip4_addr_get_u32(netif_ip4_netmask(&netif)))});
  }
  for (s8_t i = 0; i < LWIP_IPV6_NUM_ADDRESSES; ++i) {
    if (!ip6_addr_isvalid(netif_ip6_addr_state(&netif, i))) continue;
    addresses.push_back(
        {*netif_ip_addr6(&netif, i), loopback ? kIpv6HostPrefix : kIpv6NetworkPrefix});
  }
  return addresses;
}

Interface Describe(const netif& netif) {
  const bool loopback = &netif == NetStack::Get().loopback();
  Interface interface;
  interface.index = netif_get_index(&netif);
  interface.name.assign(netif.name, sizeof netif.name);
  if (!loopback) interface.name += std::to_string(netif.num);
  interface.flags = FlagsOf(netif, loopback);
  interface.mtu = netif.mtu;
  interface.hardware_type = loopback ? ARPHRD_LOOPBACK : ARPHRD_ETHER;
  memcpy(interface.hardware_address.data(), netif.hwaddr,
         std::min<size_t>(netif.hwaddr_len, interface.hardware_address.size()));
  interface.addresses = AddressesOf(netif, loopback);
  interface.gateway = *netif_ip_gw4(&netif);
  return interface;
}

void PutAddress(sockaddr* out, uint32_t ipv4) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ipv4;
  memcpy(out, &address, sizeof address);
}

void PutName(const Interface& interface, ifreq* request) {
  // Cut, and with its NUL.
  memset(request->ifr_name, 0, sizeof request->ifr_name);
  interface.name.copy(request->ifr_name, sizeof request->ifr_name - 1);
}

const InterfaceAddress* FirstIpv4(const Interface& interface) {
  const auto it =
      std::ranges::find_if(interface.addresses, [](const auto& a) { return IP_IS_V4_VAL(a.ip); });
  return it == interface.addresses.end() ? nullptr : &*it;
}

// What is asked of an IPv4 address.
Errno AnswerAddress(const Interface& interface, uint64_t request, ifreq* answer) {
  const InterfaceAddress* const address = FirstIpv4(interface);
  if (address == nullptr) return Errno(EADDRNOTAVAIL);
  const uint32_t own = ip4_addr_get_u32(ip_2_ip4(&address->ip));
  switch (request) {
    case SIOCGIFNETMASK:
      PutAddress(&answer->ifr_netmask, NetworkMask(address->prefix));
      return kOk;
    case SIOCGIFBRDADDR:
      PutAddress(&answer->ifr_broadaddr, BroadcastAddress(interface, *address));
      return kOk;
    default:  // SIOCGIFADDR, and SIOCGIFDSTADDR of what is no point-to-point link
      PutAddress(&answer->ifr_addr, own);
      return kOk;
  }
}

Errno AnswerLink(const Interface& interface, uint64_t request, ifreq* answer) {
  switch (request) {
    case SIOCGIFNAME:
      PutName(interface, answer);
      return kOk;
    case SIOCGIFINDEX:
      answer->ifr_ifindex = interface.index;
      return kOk;
    case SIOCGIFFLAGS:
      answer->ifr_flags = static_cast<short>(interface.flags);
      return kOk;
    case SIOCGIFMETRIC:
      answer->ifr_metric = 0;
      return kOk;
    case SIOCGIFMTU:
      answer->ifr_mtu = static_cast<int>(interface.mtu);
      return kOk;
    case SIOCGIFTXQLEN:
      answer->ifr_qlen = kQueueLength;
      return kOk;
    default:  // SIOCGIFHWADDR
      memset(&answer->ifr_hwaddr, 0, sizeof answer->ifr_hwaddr);
      answer->ifr_hwaddr.sa_family = interface.hardware_type;
      memcpy(answer->ifr_hwaddr.sa_data, interface.hardware_address.data(),
             interface.hardware_address.size());
      return kOk;
  }
}

// SIOCGIFCONF: one entry for each IPv4 address, as many as there is room for.
Errno ListAddresses(std::span<std::byte> arg) {
  ifconf header;
  if (arg.size() < sizeof header) return Errno(EINVAL);
  memcpy(&header, arg.data(), sizeof header);
  std::span<std::byte> room = arg.subspan(sizeof header);
  const bool count_only = header.ifc_buf == nullptr;
  size_t size = 0;
  for (const Interface& interface : ListInterfaces()) {
    const InterfaceAddress* const address = FirstIpv4(interface);
    if (address == nullptr) continue;
    if (!count_only) {
      if (room.size() < sizeof(ifreq)) break;
      ifreq entry = {};
      PutName(interface, &entry);
      PutAddress(&entry.ifr_addr, ip4_addr_get_u32(ip_2_ip4(&address->ip)));
      memcpy(room.data(), &entry, sizeof entry);
      room = room.subspan(sizeof entry);
    }
    size += sizeof(ifreq);
  }
  header.ifc_len = static_cast<int>(size);
  memcpy(arg.data(), &header, sizeof header);
  return kOk;
}

bool Names(const ifreq& request, bool by_index, const Interface& interface) {
  if (by_index) return request.ifr_ifindex == interface.index;
  return interface.name.compare(0, std::string::npos, request.ifr_name,
                                strnlen(request.ifr_name, sizeof request.ifr_name)) == 0;
}

}  // namespace

bool Interface::loopback() const { return (flags & IFF_LOOPBACK) != 0; }
bool Interface::broadcast() const { return (flags & IFF_BROADCAST) != 0; }

std::vector<Interface> ListInterfaces() {
  std::vector<Interface> interfaces;
  const netif* netif;
  NETIF_FOREACH(netif) { interfaces.push_back(Describe(*netif)); }
  std::ranges::sort(interfaces, {}, &Interface::index);
  return interfaces;
}

uint32_t NetworkMask(int prefix) {
  constexpr int kBits = 32;
  return prefix == 0 ? 0 : htonl(~uint32_t{0} << (kBits - prefix));
}

uint32_t BroadcastAddress(const Interface& interface, const InterfaceAddress& address) {
  if (!interface.broadcast()) return 0;
  return ip4_addr_get_u32(ip_2_ip4(&address.ip)) | ~NetworkMask(address.prefix);
}

Errno InterfaceIoctl(int domain, uint64_t request, std::span<std::byte> arg) {
  bool of_address = false;
  switch (request) {
    case SIOCGIFCONF:
      return ListAddresses(arg);
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR:
    case SIOCGIFBRDADDR:
    case SIOCGIFNETMASK:
      // As natively, only sockets of IPv4 know its addresses.
      if (domain != AF_INET) return Errno(ENOTTY);
      of_address = true;
      break;
    case SIOCGIFNAME:
    case SIOCGIFINDEX:
    case SIOCGIFFLAGS:
    case SIOCGIFMETRIC:
    case SIOCGIFMTU:
    case SIOCGIFTXQLEN:
    case SIOCGIFHWADDR:
      break;
    case SIOCSIFNAME:
    case SIOCSIFFLAGS:
    case SIOCSIFMTU:
    case SIOCSIFHWADDR:
    case SIOCSIFTXQLEN:
    case SIOCSIFADDR:
    case SIOCSIFBRDADDR:
    case SIOCSIFNETMASK:
      return Errno(EPERM);
    default:
      return Errno(ENOTTY);
  }
  ifreq answer;
  if (arg.size() < sizeof answer) return Errno(EINVAL);
  memcpy(&answer, arg.data(), sizeof answer);
  for (const Interface& interface : ListInterfaces()) {
    if (!Names(answer, request == SIOCGIFNAME, interface)) continue;
    const Errno error = of_address ? AnswerAddress(interface, request, &answer)
                                   : AnswerLink(interface, request, &answer);
    if (error.ok()) memcpy(arg.data(), &answer, sizeof answer);
    return error;
  }
  return Errno(ENODEV);
}

}  // namespace rump
