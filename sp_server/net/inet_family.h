// AF_INET and AF_INET6 for the kernel, and AF_NETLINK, which tells of their interfaces.
#ifndef SP_SERVER_NET_INET_FAMILY_H_
#define SP_SERVER_NET_INET_FAMILY_H_

#include <memory>

#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/socket.h"
#include "sp_server/net/net_stack.h"

namespace rump {

// Registers the families: TCP and UDP of both, and NETLINK_ROUTE. `stack` must outlive the sockets.
// `datagram_memory`: what the datagrams that nobody has received yet count towards; nullptr for no
// limit.
void RegisterInet(SocketFamilies* families, NetStack* stack,
                  const std::shared_ptr<Budget>& datagram_memory);

}  // namespace rump

#endif  // SP_SERVER_NET_INET_FAMILY_H_
