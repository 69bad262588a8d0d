// Socket options whose values a socket stores and returns: the ones that Linux has for TCP and UDP.
#ifndef SP_SERVER_NET_INET_OPTIONS_H_
#define SP_SERVER_NET_INET_OPTIONS_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <map>
#include <optional>
#include <span>
#include <utility>

#include "protocol/errno.h"
#include "sp_server/net/port_table.h"

namespace rump {

// How many bytes of a datagram its checksum covers, 0 for all: socket options of udplite(7), level
// IPPROTO_UDPLITE, that no header of libc has.
inline constexpr int kUdpLiteSendCoverage = 10;
inline constexpr int kUdpLiteReceiveCoverage = 11;

class InetOptions {
 public:
  // `domain` and `protocol` (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE) decide which options exist.
  InetOptions(int domain, int protocol) : domain_(domain), protocol_(protocol) {}

  // `use`: of the socket's port, which learns what it is to share; nullptr if it has none.
  // ENOPROTOOPT: no such option, or it can only be read; EINVAL: value too short or out of range,
  // or too late.
  Errno Set(int level, int name, std::span<const std::byte> value, PortUse* use);
  // As getsockopt(2): at most value.size() bytes, how many is returned. Without SO_ERROR.
  Result<size_t> Get(int level, int name, std::span<std::byte> value) const;

  // The value of an integer option that exists.
  int Int(int level, int name) const;
  bool Flag(int level, int name) const { return Int(level, name) != 0; }
  // Whether the program has set the option.
  bool IsSet(int level, int name) const { return ints_.contains({level, name}); }
  linger Linger() const { return linger_; }

  // Writes `data`, cut to what `value` holds; returns how many bytes.
  static size_t Put(std::span<std::byte> value, const void* data, size_t size);

 private:
  // What stands for itself, not for a value that was set; nullopt for any other option.
  std::optional<int> Constant(int level, int name) const;
  Errno Store(int level, int name, std::span<const std::byte> value);

  int domain_;
  int protocol_;
  std::map<std::pair<int, int>, int> ints_;  // set values by level and name
  linger linger_ = {};
  timeval receive_timeout_ = {};
  timeval send_timeout_ = {};
};

}  // namespace rump

#endif  // SP_SERVER_NET_INET_OPTIONS_H_
