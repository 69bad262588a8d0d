// Control messages of sendmsg(2), of IPv4 or IPv6 by the first byte: what is taken is in range.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <optional>
#include <span>

#include "sp_server/net/datagram_control.h"

namespace {

void CheckByte(const std::optional<int>& value, int least) {
  if (value && (*value < least || *value > 255)) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto control = std::as_bytes(std::span(data, size)).subspan(1);
  const auto told = rump::ParseSendControl(data[0] % 2 == 0 ? AF_INET : AF_INET6, control);
  if (!told.ok()) return 0;
  CheckByte(told->ttl, 0);
  CheckByte(told->tos, 0);
  return 0;
}
