#include "sp_server/net/udp_socket.h"

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <utility>

#include "lwip/icmp.h"
#include "lwip/ip.h"
#include "lwip/ip6.h"
#include "lwip/prot/icmp.h"
#include "lwip/prot/icmp6.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/udp.h"
#include "sp_server/net/interfaces.h"

namespace rump {
namespace {

constexpr uint8_t kShutRead = 1;
constexpr uint8_t kShutWrite = 2;

constexpr size_t kMaxDatagram4 = 65535 - IP_HLEN - UDP_HLEN;
constexpr size_t kMaxDatagram6 = 65535 - UDP_HLEN;
// Errors that wait for somebody to ask; more are dropped.
constexpr size_t kMaxErrors = 64;

// Whether `pcb` may have sent a datagram with these ends.
bool SentBy(const udp_pcb* pcb, const ip_addr_t& local, u16_t local_port,
            const InetAddress& remote) {
  const bool to_peer =
      (pcb->flags & UDP_FLAGS_CONNECTED) == 0 ||
      (pcb->remote_port == remote.port && ip_addr_cmp_zoneless(&pcb->remote_ip, &remote.ip));
  return to_peer && pcb->local_port == local_port &&
         (ip_addr_isany_val(pcb->local_ip) || ip_addr_cmp_zoneless(&pcb->local_ip, &local));
}

}  // namespace

UdpSocket::UdpSocket(NetStack* stack, int domain, int protocol, int flags,
                     std::shared_ptr<Budget> memory)
    : Socket(domain, SOCK_DGRAM, protocol, flags),
      stack_(stack),
      protocol_(protocol),
      options_(domain, protocol),
      pcb_(udp_new_ip_type(domain == AF_INET ? IPADDR_TYPE_V4 : IPADDR_TYPE_ANY)),
      received_(std::move(memory)) {
  if (pcb_ == nullptr) return;
  if (protocol == IPPROTO_UDPLITE) udp_setflags(pcb_, UDP_FLAGS_UDPLITE);
  // Who may share a port is the port table's decision, not lwIP's.
  ip_set_option(pcb_, SOF_REUSEADDR);
  udp_recv(pcb_, &OnReceived, this);
}

UdpSocket::~UdpSocket() {
  LeaveGroups();
  if (pcb_ != nullptr) udp_remove(pcb_);
  if (port_use_ != nullptr) port_use_->Unref();
}

bool UdpSocket::v6only() const { return options_.Flag(IPPROTO_IPV6, IPV6_V6ONLY); }

void UdpSocket::OnReceived(void* arg, udp_pcb*, pbuf* received, const ip_addr_t* from, u16_t port) {
  auto* self = static_cast<UdpSocket*>(arg);
  // lwIP looks for the port alone.
  const bool other_protocol = ip_current_header_proto() != self->protocol_;
  Packet packet(received);
  if (other_protocol || !self->Hears(*ip_current_dest_addr())) return;
  const size_t bytes = packet->tot_len;
  const auto buffer_size = static_cast<size_t>(self->options_.Int(SOL_SOCKET, SO_RCVBUF));
  if (!self->received_.Push(
          {std::move(packet), {*from, port}, NoteArrival(self->options_, self->pcb_->local_port)},
          bytes, buffer_size)) {
    return;
  }
  self->waiters().Notify(kReadable);
}

void UdpSocket::OnIcmpError(const pbuf* packet, u16_t ip_header_length, bool v6) {
  // ICMP's header, then as much of the datagram in question as we need.
  constexpr size_t kIcmpHeader = 8, kMaxIpHeader = 60, kPorts = 4;
  u8_t bytes[kIcmpHeader + kMaxIpHeader + kPorts];
  const size_t length = pbuf_copy_partial(packet, bytes, sizeof bytes, ip_header_length);
  const size_t shortest = kIcmpHeader + (v6 ? IP6_HLEN : IP_HLEN) + kPorts;
  if (length < shortest) return;
  const bool port_unreachable = v6 ? bytes[0] == ICMP6_TYPE_DUR && bytes[1] == ICMP6_DUR_PORT
                                   : bytes[0] == ICMP_DUR && bytes[1] == ICMP_DUR_PORT;
  if (!port_unreachable) return;
  ip_addr_t local, remote;
  size_t ports = kIcmpHeader;
  int protocol;
  if (v6) {
    ip6_hdr header;
    memcpy(&header, bytes + kIcmpHeader, sizeof header);
    protocol = IP6H_NEXTH(&header);
    ip_addr_copy_from_ip6_packed(local, header.src);
    ip_addr_copy_from_ip6_packed(remote, header.dest);
    ports += IP6_HLEN;
  } else {
    ip_hdr header;
    memcpy(&header, bytes + kIcmpHeader, sizeof header);
    protocol = IPH_PROTO(&header);
    ip_addr_copy_from_ip4(local, header.src);
    ip_addr_copy_from_ip4(remote, header.dest);
    ports += IPH_HL_BYTES(&header);
  }
  if (ports + kPorts > length) return;
  const auto port = [&](size_t at) { return static_cast<u16_t>(bytes[at] << 8 | bytes[at + 1]); };
  const DatagramError error = {.error = ECONNREFUSED,
                               .type = bytes[0],
                               .code = bytes[1],
                               .to = {remote, port(ports + 2)},
                               .offender = *ip_current_src_addr()};
  for (const udp_pcb* pcb = udp_pcbs; pcb != nullptr; pcb = pcb->next) {
    if (pcb->recv != &OnReceived || !SentBy(pcb, local, port(ports), error.to)) continue;
    auto* self = static_cast<UdpSocket*>(pcb->recv_arg);
    if (self->protocol_ != protocol) continue;
    const bool wants = self->WantsErrors();
    // Unconnected sockets hear of it on request only.
    if (!wants && !self->connected()) continue;
    if (wants) self->QueueError(error);
    self->error_ = error.error;
    self->waiters().Notify(kReadable | kWritable | POLLERR);
    return;
  }
}

bool UdpSocket::WantsErrors() const {
  return options_.Flag(IPPROTO_IP, IP_RECVERR) ||
         (domain() == AF_INET6 && options_.Flag(IPPROTO_IPV6, IPV6_RECVERR));
}

void UdpSocket::QueueError(const DatagramError& error) {
  if (errors_.size() < kMaxErrors) errors_.push_back(error);
}

Result<InetAddress> UdpSocket::ParseDestination(const SocketAddress& address) const {
  const bool ipv4 = domain() == AF_INET6 && address.family() == AF_INET;
  Result<InetAddress> parsed = ParseInetAddress(ipv4 ? AF_INET : domain(), address);
  if (!parsed.ok()) return parsed;
  if (domain() == AF_INET6 && v6only() && IP_IS_V4_VAL(parsed->ip)) return Errno(ENETUNREACH);
  // Linux: the wildcard as a destination is this host.
  if (ip_addr_isany_val(parsed->ip)) {
    ip_addr_set_loopback_val(IP_IS_V6_VAL(parsed->ip), parsed->ip);
  }
  return parsed;
}

Errno UdpSocket::BindTo(const ip_addr_t& ip, uint16_t port) {
  auto* use = new PortUse;
  use->address = ip;
  use->port = port;
  use->reuse_address = options_.Flag(SOL_SOCKET, SO_REUSEADDR);
  use->reuse_port = options_.Flag(SOL_SOCKET, SO_REUSEPORT);
  Errno error = stack_->udp_ports().Claim(use);
  if (error.ok()) error = ErrnoFromLwip(udp_bind(pcb_, &ip, use->port));
  if (!error.ok()) {
    use->Unref();
    return error;
  }
  port_use_ = use;
  return kOk;
}

Errno UdpSocket::Bind(const SocketAddress& address) {
  Result<InetAddress> parsed = ParseBindAddress(domain(), v6only(), address);
  if (!parsed.ok()) return parsed.error();
  const ip_addr_t& ip = parsed->ip;
  const bool group = ip_addr_ismulticast(&ip) ||
                     (IP_IS_V4_VAL(ip) && ip4_addr_get_u32(ip_2_ip4(&ip)) == INADDR_BROADCAST);
  if (!ip_addr_isany_val(ip) && !group && !stack_->IsLocal(ip)) return Errno(EADDRNOTAVAIL);
  if (bound()) return Errno(EINVAL);
  explicit_address_ = !ip_addr_isany_val(ip);
  explicit_port_ = parsed->port != 0;
  return BindTo(ip, parsed->port);
}

Errno UdpSocket::Listen(int) { return Errno(EOPNOTSUPP); }

Result<std::shared_ptr<Socket>> UdpSocket::Accept(SocketAddress*) { return Errno(EOPNOTSUPP); }

Result<ip_addr_t> UdpSocket::SourceTo(const ip_addr_t& dest) const {
  Result<ip_addr_t> source = stack_->SourceFor(dest);
  if (!source.ok() || !bound() || IP_IS_ANY_TYPE_VAL(pcb_->local_ip)) return source;
  if (IP_IS_V6_VAL(pcb_->local_ip) != IP_IS_V6_VAL(dest)) return Errno(ENETUNREACH);
  if (!ip_addr_isany_val(pcb_->local_ip)) source = pcb_->local_ip;
  return source;
}

void UdpSocket::Unlink() {
  for (udp_pcb** at = &udp_pcbs; *at != nullptr; at = &(*at)->next) {
    if (*at != pcb_) continue;
    *at = pcb_->next;
    pcb_->next = nullptr;
    return;
  }
}

// Dissolves the connection, and what connecting has bound.
void UdpSocket::Unbind() {
  udp_disconnect(pcb_);
  if (!bound()) return;
  if (!explicit_address_) {
    pcb_->local_ip = WildcardAddress(domain(), v6only());
    port_use_->address = pcb_->local_ip;
  }
  if (explicit_port_) return;
  Unlink();
  pcb_->local_port = 0;
  std::exchange(port_use_, nullptr)->Unref();
}

Errno UdpSocket::Connect(const SocketAddress& address) {
  if (address.len < sizeof(sa_family_t)) return Errno(EINVAL);
  if (address.family() == AF_UNSPEC) {
    Unbind();
    return kOk;
  }
  Result<InetAddress> remote = ParseDestination(address);
  if (!remote.ok()) return remote.error();
  if (connected() && !explicit_address_) {
    pcb_->local_ip = WildcardAddress(domain(), v6only());
    port_use_->address = pcb_->local_ip;
  }
  Result<ip_addr_t> source = SourceTo(remote->ip);
  if (!source.ok()) return source.error();
  if (!bound()) {
    if (Errno error = BindTo(WildcardAddress(domain(), v6only()), 0); !error.ok()) return error;
  }
  pcb_->local_ip = *source;
  port_use_->address = *source;
  error_ = 0;
  return ErrnoFromLwip(udp_connect(pcb_, &remote->ip, remote->port));
}

Result<SocketAddress> UdpSocket::LocalAddress() {
  if (!bound()) return ToSocketAddress(domain(), {WildcardAddress(domain(), v6only()), 0});
  return ToSocketAddress(domain(), {pcb_->local_ip, pcb_->local_port});
}

Result<SocketAddress> UdpSocket::PeerAddress() {
  if (!connected()) return Errno(ENOTCONN);
  return ToSocketAddress(domain(), {pcb_->remote_ip, pcb_->remote_port});
}

Result<InetAddress> UdpSocket::Destination(const SocketAddress* to) const {
  if (to == nullptr || to->len == 0) {
    if (!connected()) return Errno(EDESTADDRREQ);
    return InetAddress{pcb_->remote_ip, pcb_->remote_port};
  }
  Result<InetAddress> parsed = ParseDestination(*to);
  if (parsed.ok() && parsed->port == 0) return Errno(EINVAL);
  return parsed;
}

Result<UdpSocket::Path> UdpSocket::PathTo(const ip_addr_t& dest,
                                          const std::optional<ip_addr_t>& told) const {
  const bool v6 = IP_IS_V6_VAL(dest);
  if (told && !ip_addr_isany_val(*told) && (!stack_->IsLocal(*told) || IP_IS_V6_VAL(*told) != v6)) {
    return Errno(v6 ? EINVAL : ENETUNREACH);
  }
  Path path;
  path.interface = v6 || !ip_addr_ismulticast(&dest)
                       ? nullptr
                       : netif_get_by_index(static_cast<u8_t>(multicast_interface_));
  Result<ip_addr_t> source =
      path.interface != nullptr ? *netif_ip_addr4(path.interface) : SourceTo(dest);
  if (!source.ok()) return source.error();
  path.source = told && !ip_addr_isany_val(*told) ? *told : *source;
  if (path.interface == nullptr) {
    path.interface =
        v6 ? ip6_route(ip_2_ip6(&path.source), ip_2_ip6(&dest)) : ip4_route(ip_2_ip4(&dest));
  }
  if (path.interface == nullptr) return Errno(ENETUNREACH);
  return path;
}

Result<size_t> UdpSocket::Send(std::span<const std::byte> data, const SocketAddress* to,
                               int flags) {
  return SendMessage(data, to, {}, flags);
}

Result<size_t> UdpSocket::SendMessage(std::span<const std::byte> data, const SocketAddress* to,
                                      std::span<const std::byte> control, int flags) {
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if ((shutdown_ & kShutWrite) != 0) return Errno(EPIPE);
  if (data.size() > kMaxDatagram6) return Errno(EMSGSIZE);
  const Result<InetAddress> destination = Destination(to);
  if (!destination.ok()) return destination.error();
  const InetAddress& remote = *destination;
  const Result<SendControl> told = ParseSendControl(domain(), control);
  if (!told.ok()) return told.error();
  const bool v6 = IP_IS_V6_VAL(remote.ip);
  // lwIP cannot fragment what does not fit the 16 bits of its own lengths, headers included.
  if (data.size() > (v6 ? kMaxDatagram6 - IP6_HLEN : kMaxDatagram4)) return Errno(EMSGSIZE);
  if (error_ != 0) return Errno(std::exchange(error_, 0));
  const Result<Path> path = PathTo(remote.ip, told->source);
  if (!path.ok()) return path.error();
  if (ip_addr_isbroadcast(&remote.ip, path->interface) &&
      !options_.Flag(SOL_SOCKET, SO_BROADCAST)) {
    return Errno(EACCES);
  }
  if (!bound()) {
    if (Errno error = BindTo(WildcardAddress(domain(), v6only()), 0); !error.ok()) return error;
  }
  pbuf* packet = pbuf_alloc(PBUF_TRANSPORT, static_cast<u16_t>(data.size()), PBUF_RAM);
  if (packet == nullptr) return Errno(ENOBUFS);
  if (!data.empty()) memcpy(packet->payload, data.data(), data.size());
  pcb_->ttl = static_cast<u8_t>(told->ttl.value_or(
      v6 ? options_.Int(IPPROTO_IPV6, IPV6_UNICAST_HOPS)
         : options_.Int(IPPROTO_IP, ip_addr_ismulticast(&remote.ip) ? IP_MULTICAST_TTL : IP_TTL)));
  pcb_->tos = static_cast<u8_t>(told->tos.value_or(v6 ? options_.Int(IPPROTO_IPV6, IPV6_TCLASS)
                                                      : options_.Int(IPPROTO_IP, IP_TOS)));
  pcb_->chksum_len_tx = static_cast<u16_t>(options_.Int(IPPROTO_UDPLITE, kUdpLiteSendCoverage));
  const err_t error =
      udp_sendto_if_src(pcb_, packet, &remote.ip, remote.port, path->interface, &path->source);
  pbuf_free(packet);
  // A full queue drops the datagram without a word, as Linux does.
  if (error != ERR_OK && error != ERR_MEM) return ErrnoFromLwip(error);
  return data.size();
}

Result<Received> UdpSocket::ReceiveError(bool peek) {
  if (errors_.empty()) return Errno(EAGAIN);
  Received result;
  result.from = ToSocketAddress(domain(), errors_.front().to);
  result.flags = MSG_ERRQUEUE;
  result.control = DescribeError(domain(), errors_.front());
  if (!peek) errors_.pop_front();
  // What is told here is told once; the next one takes its place.
  error_ = errors_.empty() ? 0 : errors_.front().error;
  return result;
}

Result<Received> UdpSocket::Receive(std::span<std::byte> buffer, int flags) {
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if ((flags & MSG_ERRQUEUE) != 0) return ReceiveError((flags & MSG_PEEK) != 0);
  if (error_ != 0) return Errno(std::exchange(error_, 0));
  if (received_.empty()) {
    if ((shutdown_ & kShutRead) != 0) return Received{};
    return Errno(EAGAIN);
  }
  const Datagram& datagram = received_.front();
  Received result;
  result.length = datagram.data->tot_len;
  result.copied = std::min(result.length, buffer.size());
  pbuf_copy_partial(datagram.data.get(), buffer.data(), static_cast<u16_t>(result.copied), 0);
  result.from = ToSocketAddress(domain(), datagram.from);
  if (result.copied < result.length) result.flags |= MSG_TRUNC;
  result.control = DescribeArrival(options_, domain(), datagram.arrival);
  if ((flags & MSG_PEEK) == 0) received_.Pop();
  return result;
}

Errno UdpSocket::Shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  shutdown_ |= static_cast<uint8_t>(how + 1);
  waiters().Notify(Poll());
  return connected() ? kOk : Errno(ENOTCONN);
}

uint32_t UdpSocket::Poll() const {
  uint32_t mask = kWritable;
  if (error_ != 0) mask |= POLLERR;
  if ((shutdown_ & kShutRead) != 0) mask |= kReadable | POLLRDHUP;
  if (shutdown_ == (kShutRead | kShutWrite)) mask |= POLLHUP;
  if (!received_.empty()) mask |= kReadable;
  return mask;
}

Errno UdpSocket::Ioctl(uint64_t request, std::span<std::byte> arg) {
  int value = 0;
  switch (request) {
    case FIONREAD:
      if (!received_.empty()) value = received_.front().data->tot_len;
      break;
    case TIOCOUTQ:
      break;
    default:
      return InterfaceIoctl(domain(), request, arg);
  }
  if (arg.size() < sizeof value) return Errno(EINVAL);
  memcpy(arg.data(), &value, sizeof value);
  return kOk;
}

Errno UdpSocket::TakeError() { return Errno(std::exchange(error_, 0)); }

Errno UdpSocket::SetOption(int level, int name, std::span<const std::byte> value) {
  if (IsMulticastOption(level, name)) return SetMulticast(name, value);
  return options_.Set(level, name, value, port_use_);
}

Result<size_t> UdpSocket::GetOption(int level, int name, std::span<std::byte> value) {
  if (level == SOL_SOCKET && name == SO_ERROR) {
    const int error = std::exchange(error_, 0);
    return InetOptions::Put(value, &error, sizeof error);
  }
  if (level == IPPROTO_IP && name == IP_MULTICAST_IF) {
    const netif* chosen = netif_get_by_index(static_cast<u8_t>(multicast_interface_));
    const uint32_t address = chosen == nullptr ? 0 : ip4_addr_get_u32(netif_ip4_addr(chosen));
    return InetOptions::Put(value, &address, sizeof address);
  }
  return options_.Get(level, name, value);
}

}  // namespace rump
