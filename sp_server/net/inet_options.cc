#include "sp_server/net/inet_options.h"

#include <limits.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <string.h>

#include <algorithm>
#include <array>

#include "protocol/syscalls.h"

namespace rump {
namespace {

enum class Kind : uint8_t {
  kInt,     // at least 4 bytes
  kFlag,    // the same, 0 or 1
  kByte,    // 1 byte or an int, within its range; read back as 1 byte if there is no room for 4
  kBuffer,  // kInt that is doubled, as Linux does with the sizes of socket buffers
  kRead,    // cannot be set
};

// To whom an option belongs: a protocol (kUdp: UDP-Lite, too), a family, or all.
enum class Scope : uint8_t { kAll, kTcp, kUdp, kUdpLite, kInet6 };

struct OptionSpec {
  int level;
  int name;
  Kind kind;
  Scope scope;
  int initial;
  int min;
  int max;
};

constexpr int kMaxBuffer = 4 << 20;
constexpr int kIntMax = INT_MAX;
// Of <linux/in6.h>, which cannot be had next to libc's headers.
constexpr int kPreferPublicSource = 2;

constexpr OptionSpec Flag(int level, int name, Scope scope, int initial = 0) {
  return {level, name, Kind::kFlag, scope, initial, INT_MIN, kIntMax};
}
constexpr OptionSpec Int(int level, int name, Scope scope, int initial, int min, int max) {
  return {level, name, Kind::kInt, scope, initial, min, max};
}

// Initial values, minima and maxima are Linux's.
constexpr auto kOptions = std::to_array<OptionSpec>({
    Flag(SOL_SOCKET, SO_DEBUG, Scope::kAll),
    Flag(SOL_SOCKET, SO_REUSEADDR, Scope::kAll),
    Flag(SOL_SOCKET, SO_REUSEPORT, Scope::kAll),
    Flag(SOL_SOCKET, SO_KEEPALIVE, Scope::kAll),
    Flag(SOL_SOCKET, SO_BROADCAST, Scope::kAll),
    Flag(SOL_SOCKET, SO_OOBINLINE, Scope::kAll),
    Flag(SOL_SOCKET, SO_DONTROUTE, Scope::kAll),
    Flag(SOL_SOCKET, SO_TIMESTAMP, Scope::kAll),
    Flag(SOL_SOCKET, SO_TIMESTAMPNS, Scope::kAll),
    Flag(SOL_SOCKET, SO_NO_CHECK, Scope::kAll),
    Int(SOL_SOCKET, SO_PRIORITY, Scope::kAll, 0, INT_MIN, kIntMax),
    Int(SOL_SOCKET, SO_MARK, Scope::kAll, 0, INT_MIN, kIntMax),
    Int(SOL_SOCKET, SO_RCVLOWAT, Scope::kAll, 1, INT_MIN, kIntMax),
    Int(SOL_SOCKET, SO_INCOMING_CPU, Scope::kAll, -1, INT_MIN, kIntMax),
    Int(SOL_SOCKET, SO_BUSY_POLL, Scope::kAll, 0, 0, kIntMax),
    {SOL_SOCKET, SO_SNDLOWAT, Kind::kRead, Scope::kAll, 1, 0, 0},
    {SOL_SOCKET, SO_SNDBUF, Kind::kBuffer, Scope::kTcp, 16384, 4608, kMaxBuffer},
    {SOL_SOCKET, SO_RCVBUF, Kind::kBuffer, Scope::kTcp, 131072, 2304, kMaxBuffer},
    {SOL_SOCKET, SO_SNDBUF, Kind::kBuffer, Scope::kUdp, 212992, 4608, kMaxBuffer},
    {SOL_SOCKET, SO_RCVBUF, Kind::kBuffer, Scope::kUdp, 212992, 2304, kMaxBuffer},

    Flag(IPPROTO_TCP, TCP_NODELAY, Scope::kTcp),
    Flag(IPPROTO_TCP, TCP_CORK, Scope::kTcp),
    Flag(IPPROTO_TCP, TCP_QUICKACK, Scope::kTcp, 1),
    Int(IPPROTO_TCP, TCP_KEEPIDLE, Scope::kTcp, 7200, 1, 32767),
    Int(IPPROTO_TCP, TCP_KEEPINTVL, Scope::kTcp, 75, 1, 32767),
    Int(IPPROTO_TCP, TCP_KEEPCNT, Scope::kTcp, 9, 1, 127),
    Int(IPPROTO_TCP, TCP_USER_TIMEOUT, Scope::kTcp, 0, 0, kIntMax),
    Int(IPPROTO_TCP, TCP_DEFER_ACCEPT, Scope::kTcp, 0, INT_MIN, kIntMax),
    Int(IPPROTO_TCP, TCP_FASTOPEN, Scope::kTcp, 0, 0, kIntMax),
    Int(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, Scope::kTcp, 0, 0, 1),
    Flag(IPPROTO_TCP, kTcpDirect, Scope::kTcp, 1),
    Int(IPPROTO_TCP, TCP_SYNCNT, Scope::kTcp, 6, 1, 127),
    Int(IPPROTO_TCP, TCP_LINGER2, Scope::kTcp, 60, INT_MIN, kIntMax),
    Int(IPPROTO_TCP, TCP_WINDOW_CLAMP, Scope::kTcp, 0, 0, kIntMax),
    Int(IPPROTO_TCP, TCP_NOTSENT_LOWAT, Scope::kTcp, -1, INT_MIN, kIntMax),
    Int(IPPROTO_UDP, UDP_CORK, Scope::kUdp, 0, INT_MIN, kIntMax),
    Int(IPPROTO_UDPLITE, kUdpLiteSendCoverage, Scope::kUdpLite, 0, 0, UINT16_MAX),
    Int(IPPROTO_UDPLITE, kUdpLiteReceiveCoverage, Scope::kUdpLite, 0, 0, UINT16_MAX),

    {IPPROTO_IP, IP_TOS, Kind::kByte, Scope::kAll, 0, 0, 255},
    {IPPROTO_IP, IP_TTL, Kind::kByte, Scope::kAll, 64, -1, 255},
    {IPPROTO_IP, IP_MULTICAST_TTL, Kind::kByte, Scope::kAll, 1, -1, 255},
    {IPPROTO_IP, IP_MULTICAST_LOOP, Kind::kByte, Scope::kAll, 1, 0, 255},
    Int(IPPROTO_IP, IP_MTU_DISCOVER, Scope::kAll, IP_PMTUDISC_WANT, 0, IP_PMTUDISC_OMIT),
    Flag(IPPROTO_IP, IP_RECVERR, Scope::kAll),
    Flag(IPPROTO_IP, IP_PKTINFO, Scope::kAll),
    Flag(IPPROTO_IP, IP_RECVTTL, Scope::kAll),
    Flag(IPPROTO_IP, IP_RECVTOS, Scope::kAll),
    Flag(IPPROTO_IP, IP_RECVOPTS, Scope::kAll),
    Flag(IPPROTO_IP, IP_RECVORIGDSTADDR, Scope::kAll),
    Flag(IPPROTO_IP, IP_FREEBIND, Scope::kAll),
    Flag(IPPROTO_IP, IP_TRANSPARENT, Scope::kAll),
    Flag(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, Scope::kAll),
    Flag(IPPROTO_IP, IP_MULTICAST_ALL, Scope::kAll, 1),

    Flag(IPPROTO_IPV6, IPV6_V6ONLY, Scope::kInet6),
    Int(IPPROTO_IPV6, IPV6_UNICAST_HOPS, Scope::kInet6, 64, -1, 255),
    Int(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, Scope::kInet6, 1, -1, 255),
    Flag(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, Scope::kInet6, 1),
    Int(IPPROTO_IPV6, IPV6_MTU_DISCOVER, Scope::kInet6, IPV6_PMTUDISC_WANT, 0, IPV6_PMTUDISC_OMIT),
    Int(IPPROTO_IPV6, IPV6_TCLASS, Scope::kInet6, 0, -1, 255),
    Int(IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, Scope::kInet6, kPreferPublicSource, 0, kIntMax),
    Flag(IPPROTO_IPV6, IPV6_RECVERR, Scope::kInet6),
    Flag(IPPROTO_IPV6, IPV6_RECVPKTINFO, Scope::kInet6),
    Flag(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, Scope::kInet6),
    Flag(IPPROTO_IPV6, IPV6_RECVTCLASS, Scope::kInet6),
    Flag(IPPROTO_IPV6, IPV6_DONTFRAG, Scope::kInet6),
    Flag(IPPROTO_IPV6, IPV6_FREEBIND, Scope::kInet6),
});

const OptionSpec* Find(int domain, int protocol, int level, int name) {
  for (const OptionSpec& spec : kOptions) {
    if (spec.level != level || spec.name != name) continue;
    switch (spec.scope) {
      case Scope::kAll:
        return &spec;
      case Scope::kTcp:
        if (protocol == IPPROTO_TCP) return &spec;
        break;
      case Scope::kUdp:
        if (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE) return &spec;
        break;
      case Scope::kUdpLite:
        if (protocol == IPPROTO_UDPLITE) return &spec;
        break;
      case Scope::kInet6:
        if (domain == AF_INET6) return &spec;
        break;
    }
  }
  return nullptr;
}

template <typename T>
bool Read(std::span<const std::byte> value, T* out) {
  if (value.size() < sizeof *out) return false;
  memcpy(out, value.data(), sizeof *out);
  return true;
}

bool ValidTimeout(const timeval& timeout) {
  return timeout.tv_usec >= 0 && timeout.tv_usec < 1'000'000;
}

}  // namespace

size_t InetOptions::Put(std::span<std::byte> value, const void* data, size_t size) {
  const size_t n = std::min(value.size(), size);
  if (n > 0) memcpy(value.data(), data, n);
  return n;
}

Errno InetOptions::Set(int level, int name, std::span<const std::byte> value, PortUse* use) {
  if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && use != nullptr) return Errno(EINVAL);
  if (const Errno error = Store(level, name, value); !error.ok()) return error;
  if (use != nullptr && level == SOL_SOCKET) {
    use->reuse_address = Flag(SOL_SOCKET, SO_REUSEADDR);
    use->reuse_port = Flag(SOL_SOCKET, SO_REUSEPORT);
  }
  return kOk;
}

Errno InetOptions::Store(int level, int name, std::span<const std::byte> value) {
  if (level == SOL_SOCKET && name == SO_LINGER) {
    return Read(value, &linger_) ? kOk : Errno(EINVAL);
  }
  if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO)) {
    timeval timeout;
    if (!Read(value, &timeout)) return Errno(EINVAL);
    if (!ValidTimeout(timeout)) return Errno(EDOM);
    (name == SO_RCVTIMEO ? receive_timeout_ : send_timeout_) = timeout;
    return kOk;
  }
  // Clearing the options of the IP header, which we never send, is all that can be done to them.
  if (level == IPPROTO_IP && name == IP_OPTIONS) {
    return value.empty() ? kOk : Errno(EINVAL);
  }
  int alias = name;
  if (level == SOL_SOCKET && name == SO_SNDBUFFORCE) alias = SO_SNDBUF;
  if (level == SOL_SOCKET && name == SO_RCVBUFFORCE) alias = SO_RCVBUF;
  const OptionSpec* spec = Find(domain_, protocol_, level, alias);
  if (spec == nullptr || spec->kind == Kind::kRead) return Errno(ENOPROTOOPT);
  int number = 0;
  if (!Read(value, &number)) {
    if (spec->kind != Kind::kByte || value.empty()) return Errno(EINVAL);
    number = std::to_integer<uint8_t>(value[0]);
  }
  switch (spec->kind) {
    case Kind::kFlag:
      number = number != 0 ? 1 : 0;
      break;
    case Kind::kBuffer:
      // Negative sizes are large unsigned ones.
      number = number < 0 || number > spec->max / 2 ? spec->max : std::max(spec->min, number * 2);
      break;
    default:
      if (number < spec->min || number > spec->max) return Errno(EINVAL);
      if (number == -1 && spec->min == -1) number = spec->initial;
  }
  ints_[{level, alias}] = number;
  return kOk;
}

int InetOptions::Int(int level, int name) const {
  if (auto it = ints_.find({level, name}); it != ints_.end()) return it->second;
  const OptionSpec* spec = Find(domain_, protocol_, level, name);
  return spec == nullptr ? 0 : spec->initial;
}

std::optional<int> InetOptions::Constant(int level, int name) const {
  if (level != SOL_SOCKET) return std::nullopt;
  switch (name) {
    case SO_TYPE:
      return protocol_ == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM;
    case SO_DOMAIN:
      return domain_;
    case SO_PROTOCOL:
      return protocol_;
    case SO_ACCEPTCONN:
      return 0;
    default:
      return std::nullopt;
  }
}

Result<size_t> InetOptions::Get(int level, int name, std::span<std::byte> value) const {
  if (const std::optional<int> constant = Constant(level, name)) {
    return Put(value, &*constant, sizeof *constant);
  }
  if (level == SOL_SOCKET && name == SO_LINGER) return Put(value, &linger_, sizeof linger_);
  if (level == SOL_SOCKET && name == SO_RCVTIMEO) {
    return Put(value, &receive_timeout_, sizeof receive_timeout_);
  }
  if (level == SOL_SOCKET && name == SO_SNDTIMEO) {
    return Put(value, &send_timeout_, sizeof send_timeout_);
  }
  if (level == SOL_SOCKET && name == SO_PEERCRED) {
    // Of the peers that there are, none is a process.
    const ucred nobody = {.pid = 0, .uid = static_cast<uid_t>(-1), .gid = static_cast<gid_t>(-1)};
    return Put(value, &nobody, sizeof nobody);
  }
  if (level == IPPROTO_IP && name == IP_OPTIONS) return size_t{0};
  if (level == SOL_SOCKET && name == SO_BINDTODEVICE) return size_t{0};  // to none
  const OptionSpec* spec = Find(domain_, protocol_, level, name);
  if (spec == nullptr) return Errno(ENOPROTOOPT);
  const int number = Int(level, name);
  if (spec->level == IPPROTO_IP && value.size() < sizeof number && !value.empty() && number >= 0 &&
      number <= 255) {
    const auto byte = static_cast<uint8_t>(number);
    return Put(value, &byte, sizeof byte);
  }
  return Put(value, &number, sizeof number);
}

}  // namespace rump
