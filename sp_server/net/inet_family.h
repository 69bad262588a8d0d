// AF_INET and AF_INET6 for the kernel, and AF_NETLINK, which tells of their interfaces.
#ifndef SP_SERVER_NET_INET_FAMILY_H_
#define SP_SERVER_NET_INET_FAMILY_H_

#include "sp_server/kernel/socket.h"
#include "sp_server/net/net_stack.h"

namespace rump {

// Registers the families: TCP and UDP of both, and NETLINK_ROUTE. `stack` must outlive the sockets.
void RegisterInet(SocketFamilies* families, NetStack* stack);

}  // namespace rump

#endif  // SP_SERVER_NET_INET_FAMILY_H_
