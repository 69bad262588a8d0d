// Control data of datagrams: what recvmsg(2) tells beside the bytes, and what sendmsg(2) is told.
#ifndef SP_SERVER_NET_DATAGRAM_CONTROL_H_
#define SP_SERVER_NET_DATAGRAM_CONTROL_H_

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <optional>
#include <span>
#include <vector>

#include "lwip/ip_addr.h"
#include "protocol/errno.h"
#include "sp_server/net/inet_address.h"
#include "sp_server/net/inet_options.h"

namespace rump {

// How a datagram came.
struct Arrival {
  InetAddress to;      // whose it was
  int interface = 0;   // index
  uint8_t ttl = 0;     // or hop limit
  uint8_t tos = 0;     // or traffic class
  timespec time = {};  // zero: not noted when it came
};

// The arrival of the packet that lwIP is delivering to a socket with `options`, at `port`.
Arrival NoteArrival(const InetOptions& options, uint16_t port);

// What the options of a socket of `domain` ask for of `arrival`, as control messages.
std::vector<std::byte> DescribeArrival(const InetOptions& options, int domain,
                                       const Arrival& arrival);

// An error that came for a datagram which had been sent: IP_RECVERR.
struct DatagramError {
  int error = 0;
  uint8_t type = 0;  // of the ICMP message
  uint8_t code = 0;
  InetAddress to;           // where the datagram went
  ip_addr_t offender = {};  // who answered
};
std::vector<std::byte> DescribeError(int domain, const DatagramError& error);

// What sendmsg(2) says of one datagram.
struct SendControl {
  std::optional<ip_addr_t> source;
  std::optional<int> ttl;
  std::optional<int> tos;
};

// Reads the control messages given to a socket of `domain`. EINVAL: malformed, or of a kind that
// cannot be sent.
Result<SendControl> ParseSendControl(int domain, std::span<const std::byte> control);

}  // namespace rump

#endif  // SP_SERVER_NET_DATAGRAM_CONTROL_H_
