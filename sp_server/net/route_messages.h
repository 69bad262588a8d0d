// What NETLINK_ROUTE says of the stack: rtnetlink(7), as much as interfaces, addresses and routes
// can be asked for. Nothing can be changed.
#ifndef SP_SERVER_NET_ROUTE_MESSAGES_H_
#define SP_SERVER_NET_ROUTE_MESSAGES_H_

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <span>
#include <vector>

namespace rump {

// Takes one datagram. False: there is no room for more.
using DatagramSink = std::function<bool(std::vector<std::byte> datagram)>;

// Answers the messages of `request`, any bytes, to the socket `port`. A datagram has at most 4096
// bytes, the least that programs have room for. False if `sink` has refused one; the rest of the
// answer is lost then.
bool AnswerRouteRequest(std::span<const std::byte> request, uint32_t port,
                        const DatagramSink& sink);

}  // namespace rump

#endif  // SP_SERVER_NET_ROUTE_MESSAGES_H_
