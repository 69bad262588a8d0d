// Between Linux's socket addresses and lwIP's.
#ifndef SP_SERVER_NET_INET_ADDRESS_H_
#define SP_SERVER_NET_INET_ADDRESS_H_

#include <stdint.h>

#include "lwip/ip_addr.h"
#include "protocol/errno.h"
#include "sp_server/kernel/socket.h"

namespace rump {

struct InetAddress {
  ip_addr_t ip;
  uint16_t port = 0;  // host order
};

// Reads an address given to a socket of `domain` (AF_INET or AF_INET6). IPv4-mapped IPv6 addresses
// become IPv4. EINVAL: too short; EAFNOSUPPORT: another family.
Result<InetAddress> ParseInetAddress(int domain, const SocketAddress& address);

// The address as a socket of `domain` shows it: IPv4 in an AF_INET6 socket is mapped.
SocketAddress ToSocketAddress(int domain, const InetAddress& address);

// Reads an address to bind a socket to: its wildcard is WildcardAddress's. EINVAL also for IPv4 on
// a socket that is `v6only`; else as ParseInetAddress.
Result<InetAddress> ParseBindAddress(int domain, bool v6only, const SocketAddress& address);

// 0.0.0.0 or :: as `domain` has it; for AF_INET6 without `v6only` the wildcard of both families.
ip_addr_t WildcardAddress(int domain, bool v6only);

}  // namespace rump

#endif  // SP_SERVER_NET_INET_ADDRESS_H_
