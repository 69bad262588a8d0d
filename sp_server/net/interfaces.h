// The network interfaces of the stack, as netdevice(7) and rtnetlink(7) describe interfaces.
#ifndef SP_SERVER_NET_INTERFACES_H_
#define SP_SERVER_NET_INTERFACES_H_

#include <stddef.h>
#include <stdint.h>

#include <array>
#include <span>
#include <string>
#include <vector>

#include "lwip/ip_addr.h"
#include "protocol/errno.h"

namespace rump {

struct InterfaceAddress {
  ip_addr_t ip;
  int prefix = 0;  // bits of the network
};

struct Interface {
  int index = 0;  // from 1 on
  std::string name;
  unsigned flags = 0;  // IFF_* of <net/if.h>
  unsigned mtu = 0;
  uint16_t hardware_type = 0;  // ARPHRD_* of <net/if_arp.h>
  std::array<uint8_t, 6> hardware_address = {};
  std::vector<InterfaceAddress> addresses;
  ip_addr_t gateway;  // the wildcard if there is none

  bool loopback() const;
  bool broadcast() const;
};

// All of lwIP's, by index.
std::vector<Interface> ListInterfaces();

// IPv4 network masks and broadcast addresses, in network byte order.
uint32_t NetworkMask(int prefix);
// 0 where there is no broadcast.
uint32_t BroadcastAddress(const Interface& interface, const InterfaceAddress& address);

// The SIOCGIF* requests of ioctl(2) on a socket of `domain`. For SIOCGIFCONF what ifc_req points to
// lies behind the struct ifconf in `arg`. ENODEV: no such interface; EPERM: nobody changes one;
// ENOTTY: no request about interfaces, or not one for this domain.
Errno InterfaceIoctl(int domain, uint64_t request, std::span<std::byte> arg);

}  // namespace rump

#endif  // SP_SERVER_NET_INTERFACES_H_
