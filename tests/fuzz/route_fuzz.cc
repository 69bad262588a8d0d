// Requests of NETLINK_ROUTE: every answer is a row of whole messages in datagrams that programs
// have room for.
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <span>
#include <vector>

#include "sp_server/net/net_stack.h"
#include "sp_server/net/route_messages.h"

namespace {

void CheckDatagram(std::span<const std::byte> datagram) {
  if (datagram.empty() || datagram.size() > 4096) abort();
  while (!datagram.empty()) {
    nlmsghdr header;
    if (datagram.size() < sizeof header) abort();
    memcpy(&header, datagram.data(), sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > datagram.size()) abort();
    if (header.nlmsg_len % NLMSG_ALIGNTO != 0 || header.nlmsg_pid != 1) abort();
    datagram = datagram.subspan(header.nlmsg_len);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  rump::NetStack::Get();
  int left = 1000;
  (void)rump::AnswerRouteRequest(std::as_bytes(std::span(data, size)), 1,
                                 [&left](const std::vector<std::byte>& datagram) {
                                   CheckDatagram(datagram);
                                   return --left > 0;
                                 });
  return 0;
}
