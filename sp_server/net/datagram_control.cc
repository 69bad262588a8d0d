#include "sp_server/net/datagram_control.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <utility>

#include "lwip/ip.h"
#include "lwip/netif.h"

namespace rump {
namespace {

class ControlWriter {
 public:
  template <typename T>
  void Add(int level, int type, const T& value) {
    AddBytes(level, type, std::as_bytes(std::span(&value, 1)));
  }
  void AddBytes(int level, int type, std::span<const std::byte> value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + CMSG_SPACE(value.size()));
    cmsghdr header = {};
    header.cmsg_len = CMSG_LEN(value.size());
    header.cmsg_level = level;
    header.cmsg_type = type;
    memcpy(bytes_.data() + at, &header, sizeof header);
    memcpy(bytes_.data() + at + CMSG_LEN(0), value.data(), value.size());
  }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

void AddTime(const InetOptions& options, const Arrival& arrival, ControlWriter* out) {
  timespec time = arrival.time;
  if (time.tv_sec == 0) clock_gettime(CLOCK_REALTIME, &time);
  if (options.Flag(SOL_SOCKET, SO_TIMESTAMPNS)) {
    out->Add(SOL_SOCKET, SCM_TIMESTAMPNS, time);
  } else {
    timeval rounded;
    TIMESPEC_TO_TIMEVAL(&rounded, &time);
    out->Add(SOL_SOCKET, SCM_TIMESTAMP, rounded);
  }
}

bool WantsTime(const InetOptions& options) {
  return options.Flag(SOL_SOCKET, SO_TIMESTAMP) || options.Flag(SOL_SOCKET, SO_TIMESTAMPNS);
}

void DescribeIpv4(const InetOptions& options, const Arrival& arrival, ControlWriter* out) {
  if (options.Flag(IPPROTO_IP, IP_PKTINFO)) {
    in_pktinfo info = {};
    info.ipi_ifindex = arrival.interface;
    info.ipi_addr.s_addr = ip4_addr_get_u32(ip_2_ip4(&arrival.to.ip));
    info.ipi_spec_dst = info.ipi_addr;
    out->Add(IPPROTO_IP, IP_PKTINFO, info);
  }
  if (options.Flag(IPPROTO_IP, IP_RECVTTL)) out->Add(IPPROTO_IP, IP_TTL, int{arrival.ttl});
  if (options.Flag(IPPROTO_IP, IP_RECVTOS)) out->Add(IPPROTO_IP, IP_TOS, arrival.tos);
  if (options.Flag(IPPROTO_IP, IP_RECVORIGDSTADDR)) {
    const SocketAddress to = ToSocketAddress(AF_INET, arrival.to);
    out->AddBytes(IPPROTO_IP, IP_ORIGDSTADDR, to.bytes());
  }
}

void DescribeIpv6(const InetOptions& options, const Arrival& arrival, ControlWriter* out) {
  if (options.Flag(IPPROTO_IPV6, IPV6_RECVPKTINFO)) {
    const SocketAddress to = ToSocketAddress(AF_INET6, arrival.to);
    in6_pktinfo info = {};
    info.ipi6_ifindex = static_cast<unsigned>(arrival.interface);
    info.ipi6_addr = reinterpret_cast<const sockaddr_in6&>(to.storage).sin6_addr;
    out->Add(IPPROTO_IPV6, IPV6_PKTINFO, info);
  }
  // Of an IPv4 packet IPv6 has nothing else to tell.
  if (IP_IS_V4_VAL(arrival.to.ip)) return;
  if (options.Flag(IPPROTO_IPV6, IPV6_RECVHOPLIMIT)) {
    out->Add(IPPROTO_IPV6, IPV6_HOPLIMIT, int{arrival.ttl});
  }
  if (options.Flag(IPPROTO_IPV6, IPV6_RECVTCLASS)) {
    out->Add(IPPROTO_IPV6, IPV6_TCLASS, int{arrival.tos});
  }
}

template <typename T>
bool Read(std::span<const std::byte> value, T* out) {
  if (value.size() < sizeof *out) return false;
  memcpy(out, value.data(), sizeof *out);
  return true;
}

bool ReadAddress(std::span<const std::byte> value, ip_addr_t* ip) {
  memset(ip, 0, sizeof *ip);
  in_pktinfo info;
  if (!Read(value, &info)) return false;
  ip_addr_set_ip4_u32_val(*ip, info.ipi_spec_dst.s_addr);
  return true;
}

bool ReadAddress6(std::span<const std::byte> value, ip_addr_t* ip) {
  in6_pktinfo info;
  if (!Read(value, &info)) return false;
  SocketAddress address;
  auto& in6 = reinterpret_cast<sockaddr_in6&>(address.storage);
  in6.sin6_family = AF_INET6;
  in6.sin6_addr = info.ipi6_addr;
  in6.sin6_scope_id = info.ipi6_ifindex;
  address.len = sizeof in6;
  const Result<InetAddress> parsed = ParseInetAddress(AF_INET6, address);
  if (parsed.ok()) *ip = parsed->ip;
  return parsed.ok();
}

// IP_TOS is taken as a byte or as an int, the others as an int.
bool ReadNumber(std::span<const std::byte> value, int min, bool byte_too, std::optional<int>* out) {
  constexpr int kMax = 255;
  int number;
  if (byte_too && value.size() == 1) {
    number = std::to_integer<int>(value[0]);
  } else if (!Read(value, &number)) {
    return false;
  }
  if (number < min || number > kMax) return false;
  *out = number;
  return true;
}

bool ParseOne(int domain, const cmsghdr& header, std::span<const std::byte> value,
              SendControl* out) {
  // What is passed on by other families means nothing here.
  if (header.cmsg_level == SOL_SOCKET) {
    return header.cmsg_type == SCM_RIGHTS || header.cmsg_type == SCM_CREDENTIALS;
  }
  ip_addr_t source;
  if (header.cmsg_level == IPPROTO_IP && domain == AF_INET) {
    switch (header.cmsg_type) {
      case IP_PKTINFO:
        if (!ReadAddress(value, &source)) return false;
        out->source = source;
        return true;
      case IP_TTL:
        return ReadNumber(value, 1, false, &out->ttl);
      case IP_TOS:
        return ReadNumber(value, 0, true, &out->tos);
      default:
        return false;
    }
  }
  if (header.cmsg_level != IPPROTO_IPV6 || domain != AF_INET6) return true;
  switch (header.cmsg_type) {
    case IPV6_PKTINFO:
      if (!ReadAddress6(value, &source)) return false;
      out->source = source;
      return true;
    case IPV6_HOPLIMIT:
      if (!ReadNumber(value, -1, false, &out->ttl)) return false;
      if (*out->ttl < 0) out->ttl.reset();
      return true;
    case IPV6_TCLASS:
      if (!ReadNumber(value, -1, false, &out->tos)) return false;
      if (*out->tos < 0) out->tos.reset();
      return true;
    default:
      return false;
  }
}

}  // namespace

Arrival NoteArrival(const InetOptions& options, uint16_t port) {
  Arrival arrival;
  arrival.to = {*ip_current_dest_addr(), port};
  arrival.interface = netif_get_index(ip_current_input_netif());
  if (ip_current_is_v6()) {
    arrival.ttl = IP6H_HOPLIM(ip6_current_header());
    arrival.tos = IP6H_TC(ip6_current_header());
  } else {
    arrival.ttl = IPH_TTL(ip4_current_header());
    arrival.tos = IPH_TOS(ip4_current_header());
  }
  if (WantsTime(options)) clock_gettime(CLOCK_REALTIME, &arrival.time);
  return arrival;
}

std::vector<std::byte> DescribeArrival(const InetOptions& options, int domain,
                                       const Arrival& arrival) {
  ControlWriter out;
  if (WantsTime(options)) AddTime(options, arrival, &out);
  if (domain == AF_INET6) DescribeIpv6(options, arrival, &out);
  if (IP_IS_V4_VAL(arrival.to.ip)) DescribeIpv4(options, arrival, &out);
  return out.Take();
}

std::vector<std::byte> DescribeError(int domain, const DatagramError& error) {
  const SocketAddress offender = ToSocketAddress(domain, {error.offender, 0});
  sock_extended_err body = {};
  body.ee_errno = static_cast<uint32_t>(error.error);
  body.ee_origin = IP_IS_V6_VAL(error.to.ip) ? SO_EE_ORIGIN_ICMP6 : SO_EE_ORIGIN_ICMP;
  body.ee_type = error.type;
  body.ee_code = error.code;
  std::vector<std::byte> value(sizeof body + offender.len);
  memcpy(value.data(), &body, sizeof body);
  memcpy(value.data() + sizeof body, &offender.storage, offender.len);
  ControlWriter out;
  if (domain == AF_INET6) {
    out.AddBytes(IPPROTO_IPV6, IPV6_RECVERR, value);
  } else {
    out.AddBytes(IPPROTO_IP, IP_RECVERR, value);
  }
  return out.Take();
}

Result<SendControl> ParseSendControl(int domain, std::span<const std::byte> control) {
  SendControl result;
  cmsghdr header;
  while (control.size() >= sizeof header) {
    memcpy(&header, control.data(), sizeof header);
    if (header.cmsg_len < sizeof header || header.cmsg_len > control.size()) return Errno(EINVAL);
    const std::span<const std::byte> value = control.first(header.cmsg_len).subspan(CMSG_LEN(0));
    if (!ParseOne(domain, header, value, &result)) return Errno(EINVAL);
    control = control.subspan(std::min<size_t>(CMSG_ALIGN(header.cmsg_len), control.size()));
  }
  return result;
}

}  // namespace rump
