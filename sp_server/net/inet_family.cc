#include "sp_server/net/inet_family.h"

#include <linux/netlink.h>

#include <memory>

#include "sp_server/net/netlink_socket.h"
#include "sp_server/net/tcp_socket.h"
#include "sp_server/net/udp_socket.h"

namespace rump {
namespace {

Result<std::shared_ptr<Socket>> CreateInetSocket(NetStack* stack,
                                                 const std::shared_ptr<Budget>& memory, int domain,
                                                 int type, int protocol, int flags) {
  if (protocol < 0 || protocol >= IPPROTO_MAX) return Errno(EINVAL);
  switch (type) {
    case SOCK_STREAM:
      if (protocol != 0 && protocol != IPPROTO_TCP) return Errno(EPROTONOSUPPORT);
      return std::shared_ptr<Socket>(std::make_shared<TcpSocket>(stack, domain, flags));
    case SOCK_DGRAM: {
      if (protocol == 0) protocol = IPPROTO_UDP;
      if (protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE) return Errno(EPROTONOSUPPORT);
      auto socket = std::make_shared<UdpSocket>(stack, domain, protocol, flags, memory);
      if (!socket->valid()) return Errno(ENOBUFS);
      return std::shared_ptr<Socket>(std::move(socket));
    }
    default:
      return Errno(ESOCKTNOSUPPORT);
  }
}

Result<std::shared_ptr<Socket>> CreateNetlinkSocket(const std::shared_ptr<NetlinkPorts>& ports,
                                                    const std::shared_ptr<Budget>& memory, int type,
                                                    int protocol, int flags) {
  if (type != SOCK_RAW && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  if (protocol != NETLINK_ROUTE) return Errno(EPROTONOSUPPORT);
  return std::shared_ptr<Socket>(std::make_shared<NetlinkSocket>(ports, type, flags, memory));
}

}  // namespace

void RegisterInet(SocketFamilies* families, NetStack* stack,
                  const std::shared_ptr<Budget>& datagram_memory) {
  for (int domain : {AF_INET, AF_INET6}) {
    families->Register(domain, [=](int domain, int type, int protocol, int flags) {
      return CreateInetSocket(stack, datagram_memory, domain, type, protocol, flags);
    });
  }
  const auto ports = std::make_shared<NetlinkPorts>();
  families->Register(AF_NETLINK, [=](int, int type, int protocol, int flags) {
    return CreateNetlinkSocket(ports, datagram_memory, type, protocol, flags);
  });
}

}  // namespace rump
