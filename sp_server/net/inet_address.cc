#include "sp_server/net/inet_address.h"

#include <string.h>

#include "lwip/def.h"

namespace rump {
namespace {

// As of RFC 2133, without sin6_scope_id: Linux still takes it.
constexpr socklen_t kShortSockaddrIn6 = 24;

// The zone of `ip` is an interface index in both worlds.
ip_addr_t FromIn6(const sockaddr_in6& in6) {
  ip_addr_t ip;
  memset(&ip, 0, sizeof ip);
  IP_SET_TYPE_VAL(ip, IPADDR_TYPE_V6);
  memcpy(ip_2_ip6(&ip)->addr, &in6.sin6_addr, sizeof in6.sin6_addr);
  if (ip6_addr_isipv4mappedipv6(ip_2_ip6(&ip))) {
    const u32_t ipv4 = ip_2_ip6(&ip)->addr[3];
    ip_addr_set_ip4_u32_val(ip, ipv4);
  } else if (ip6_addr_has_scope(ip_2_ip6(&ip), IP6_UNKNOWN)) {
    ip6_addr_set_zone(ip_2_ip6(&ip), static_cast<u8_t>(in6.sin6_scope_id));
  }
  return ip;
}

}  // namespace

Result<InetAddress> ParseInetAddress(int domain, const SocketAddress& address) {
  if (address.len < sizeof(sa_family_t)) return Errno(EINVAL);
  InetAddress result;
  memset(&result.ip, 0, sizeof result.ip);
  if (domain == AF_INET) {
    if (address.len < sizeof(sockaddr_in)) return Errno(EINVAL);
    if (address.family() != AF_INET) return Errno(EAFNOSUPPORT);
    const auto& in = reinterpret_cast<const sockaddr_in&>(address.storage);
    ip_addr_set_ip4_u32_val(result.ip, in.sin_addr.s_addr);
    result.port = lwip_ntohs(in.sin_port);
    return result;
  }
  if (address.len < kShortSockaddrIn6) return Errno(EINVAL);
  if (address.family() != AF_INET6) return Errno(EAFNOSUPPORT);
  sockaddr_in6 in6 = {};
  memcpy(&in6, &address.storage, address.len < sizeof in6 ? kShortSockaddrIn6 : sizeof in6);
  result.ip = FromIn6(in6);
  result.port = lwip_ntohs(in6.sin6_port);
  return result;
}

SocketAddress ToSocketAddress(int domain, const InetAddress& address) {
  SocketAddress result;
  if (domain == AF_INET) {
    auto& in = reinterpret_cast<sockaddr_in&>(result.storage);
    in.sin_family = AF_INET;
    in.sin_port = lwip_htons(address.port);
    if (IP_IS_V4_VAL(address.ip)) in.sin_addr.s_addr = ip4_addr_get_u32(ip_2_ip4(&address.ip));
    result.len = sizeof in;
    return result;
  }
  auto& in6 = reinterpret_cast<sockaddr_in6&>(result.storage);
  in6.sin6_family = AF_INET6;
  in6.sin6_port = lwip_htons(address.port);
  if (IP_IS_V6_VAL(address.ip)) {
    memcpy(&in6.sin6_addr, ip_2_ip6(&address.ip)->addr, sizeof in6.sin6_addr);
    in6.sin6_scope_id = ip6_addr_zone(ip_2_ip6(&address.ip));
  } else if (IP_IS_V4_VAL(address.ip)) {
    in6.sin6_addr.s6_addr32[2] = lwip_htonl(0xffff);
    in6.sin6_addr.s6_addr32[3] = ip4_addr_get_u32(ip_2_ip4(&address.ip));
  }
  result.len = sizeof in6;
  return result;
}

Result<InetAddress> ParseBindAddress(int domain, bool v6only, const SocketAddress& address) {
  SocketAddress given = address;
  // Linux: AF_UNSPEC with INADDR_ANY passes for AF_INET.
  auto& in = reinterpret_cast<sockaddr_in&>(given.storage);
  if (domain == AF_INET && given.len >= sizeof in && in.sin_family == AF_UNSPEC &&
      in.sin_addr.s_addr == INADDR_ANY) {
    in.sin_family = AF_INET;
  }
  Result<InetAddress> parsed = ParseInetAddress(domain, given);
  if (!parsed.ok()) return parsed;
  ip_addr_t& ip = parsed->ip;
  if (ip_addr_isany_val(ip) && IP_IS_V6_VAL(ip)) ip = WildcardAddress(domain, v6only);
  if (domain == AF_INET6 && v6only && IP_IS_V4_VAL(ip)) return Errno(EINVAL);
  return parsed;
}

ip_addr_t WildcardAddress(int domain, bool v6only) {
  if (domain == AF_INET) return *IP4_ADDR_ANY;
  return v6only ? *IP6_ADDR_ANY : *IP_ANY_TYPE;
}

}  // namespace rump
