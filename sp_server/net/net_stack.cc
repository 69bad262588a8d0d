#include "sp_server/net/net_stack.h"

#include <malloc.h>
#include <string.h>

#include <algorithm>
#include <utility>

#include "lwip/icmp.h"
#include "lwip/init.h"
#include "lwip/ip.h"
#include "lwip/ip6.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"
#include "sp_server/net/frame_filter.h"
#include "sp_server/net/shared_bytes.h"
#include "sp_server/net/udp_socket.h"

extern "C" u32_t sys_now(void) {
  return static_cast<u32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                rump::EventLoop::Clock::now().time_since_epoch())
                                .count());
}

namespace rump {
namespace {

constexpr u16_t kLoopbackMtu = 65535;
// The loopback queue's bounds: two ends of this host that answer each other without end must not
// grow it. What does not fit is an interface that is busy; TCP tries again.
constexpr size_t kQueuePackets = 8192;
constexpr size_t kQueueBytes = size_t{64} << 20;
// Packets per turn of the event loop.
constexpr int kPacketsPerTurn = 512;
// Connections kept in TIME_WAIT; the oldest go first. lwIP walks them all for every SYN.
constexpr int kMaxTimeWait = 1024;
// No fragment is kept for longer.
constexpr std::chrono::seconds kFragmentLife{std::max(IP_REASS_MAXAGE, IPV6_REASS_MAXAGE) + 2};
constexpr size_t kEthernetHeader = SIZEOF_ETH_HDR - ETH_PAD_SIZE;
// IPv6's header and TCP's longest.
constexpr u16_t kMaxHeaders = 40 + 60;
// Packets from this size on are not copied.
constexpr u16_t kReferencedPacketBytes = 4096;
// RFC 8200: every link carries packets of this size.
constexpr u32_t kMinIpv6Mtu = 1280;

err_t Output4(netif* netif, pbuf* packet, const ip4_addr_t*) {
  return NetStack::Get().Requeue(packet, netif);
}

err_t Output6(netif* netif, pbuf* packet, const ip6_addr_t*) {
  return NetStack::Get().Requeue(packet, netif);
}

// RFC 8201: a path's MTU is never below IPv6's minimum, whatever a Packet Too Big says. lwIP stores
// what it is told and would then cut packets without end.
void ClampPathMtus() {
  for (int i = 0; i < LWIP_ND6_NUM_DESTINATIONS; ++i) {
    nd6_destination_cache_entry& entry = destination_cache[i];
    if (entry.pmtu != 0 && entry.pmtu < kMinIpv6Mtu) entry.pmtu = kMinIpv6Mtu;
  }
}

bool IsIpv6(const pbuf* packet) {
  return packet->len > 0 && IP_HDR_GET_VERSION(packet->payload) == 6;
}

bool IsTcp(const pbuf* packet) {
  if (packet->len < IP6_HLEN) return false;
  if (IsIpv6(packet)) {
    return IP6H_NEXTH(static_cast<const ip6_hdr*>(packet->payload)) == IP6_NEXTH_TCP;
  }
  return IPH_PROTO(static_cast<const ip_hdr*>(packet->payload)) == IP_PROTO_TCP;
}

// A packet for the receiver: the sender keeps its own to send it again, and each side changes the
// headers in its own way. Of large TCP segments only those, which have a buffer to themselves, are
// copied: what a segment carries stays as it is.
pbuf* CopyPacket(pbuf* packet) {
  if (packet->next == nullptr || packet->len > kMaxHeaders ||
      packet->tot_len < kReferencedPacketBytes || !IsTcp(packet)) {
    return pbuf_clone(PBUF_RAW, PBUF_RAM, packet);
  }
  pbuf* copy = pbuf_alloc(PBUF_RAW, packet->len, PBUF_RAM);
  if (copy == nullptr) return nullptr;
  memcpy(copy->payload, packet->payload, packet->len);
  pbuf_cat(copy, ReferenceBytes(packet->next));
  return copy;
}

}  // namespace

NetStack& NetStack::Get() {
  static NetStack* const stack = new NetStack;
  return *stack;
}

NetStack::NetStack() : queue_(kQueuePackets) {
  // Segments of 60 KiB come and go at the top of the heap; giving each back to the system costs
  // more than the copy.
  constexpr int kKeptHeapBytes = 64 << 20;
  mallopt(M_TRIM_THRESHOLD, kKeptHeapBytes);
  lwip_init();
  ip4_addr_t address, mask, gateway;
  IP4_ADDR(&address, 127, 0, 0, 1);
  IP4_ADDR(&mask, 255, 0, 0, 0);
  ip4_addr_set_zero(&gateway);
  netif_add(&loopback_, &address, &mask, &gateway, this, &InitLoopback, &ip_input);
  ip_addr_t loopback6 = IPADDR6_INIT_HOST(0, 0, 0, 1);
  netif_ip6_addr_set(&loopback_, 0, ip_2_ip6(&loopback6));
  netif_ip6_addr_set_state(&loopback_, 0, IP6_ADDR_PREFERRED);
  netif_set_link_up(&loopback_);
  netif_set_up(&loopback_);
  raw_recv(raw_new_ip_type(IPADDR_TYPE_V4, IP_PROTO_ICMP), &OnIcmp, this);
  raw_recv(raw_new_ip_type(IPADDR_TYPE_V6, IP6_NEXTH_ICMP6), &OnIcmp, this);
}

err_t NetStack::InitLoopback(netif* netif) {
  netif->name[0] = 'l';
  netif->name[1] = 'o';
  netif->mtu = netif->mtu6 = kLoopbackMtu;
  netif->flags = NETIF_FLAG_BROADCAST;  // 127.255.255.255, as Linux
  netif->output = &Output4;
  netif->output_ip6 = &Output6;
  NETIF_SET_CHECKSUM_CTRL(netif, NETIF_CHECKSUM_DISABLE_ALL);
  return ERR_OK;
}

err_t NetStack::Requeue(pbuf* packet, netif* input) {
  if (queue_size_ == queue_.size() || queue_bytes_ + packet->tot_len > kQueueBytes) return ERR_MEM;
  pbuf* copy = CopyPacket(packet);
  if (copy == nullptr) return ERR_MEM;
  queue_[(queue_head_ + queue_size_) % queue_.size()] = {copy, netif_get_index(input)};
  ++queue_size_;
  queue_bytes_ += copy->tot_len;
  return ERR_OK;
}

void NetStack::Deliver(const QueuedPacket& queued) {
  received_ = true;
  // The interface may have gone meanwhile.
  netif* input = netif_get_by_index(queued.input);
  if (input == nullptr) {
    pbuf_free(queued.packet);
    return;
  }
  const ConnectionTable::Focus focus(
      connections_, {static_cast<const std::byte*>(queued.packet->payload), queued.packet->len});
  if (IsIpv6(queued.packet)) {
    ip_input(queued.packet, input);
    ClampPathMtus();
    return;
  }
  if (input != &loopback_ || queued.packet->len < IP_HLEN) {
    ip_input(queued.packet, input);
    return;
  }
  // The loopback interface answers for every address of this host, and lwIP gives it only one: it
  // has the packet's for as long as the packet is being received.
  const ip_addr_t own = loopback_.ip_addr;
  const auto* header = static_cast<const ip_hdr*>(queued.packet->payload);
  ip_addr_t dest;
  ip_addr_copy_from_ip4(dest, header->dest);
  if (IsLocal(dest)) loopback_.ip_addr = dest;
  ip_input(queued.packet, &loopback_);
  loopback_.ip_addr = own;
}

void NetStack::Drain(int max_packets) {
  for (; queue_size_ > 0 && max_packets > 0; --max_packets) {
    const QueuedPacket queued = queue_[queue_head_];
    queue_head_ = (queue_head_ + 1) % queue_.size();
    --queue_size_;
    queue_bytes_ -= queued.packet->tot_len;
    Deliver(queued);
  }
}

bool NetStack::Quiet() const {
  return queue_size_ == 0 && !received_ && fragments_gone_ && tcp_active_pcbs == nullptr &&
         tcp_tw_pcbs == nullptr;
}

EventLoop::Clock::duration NetStack::Poll() {
  // lwIP's timers never stop by themselves, and a loop that waits for none sleeps cheaper.
  if (Quiet()) return EventLoop::Clock::duration::max();
  Drain(kPacketsPerTurn);
  const auto now = EventLoop::Clock::now();
  if (std::exchange(received_, false)) fragments_until_ = now + kFragmentLife;
  fragments_gone_ = now >= fragments_until_;
  sys_check_timeouts();
  LimitTimeWait(now);
  if (queue_size_ > 0) return EventLoop::Clock::duration::zero();
  const u32_t sleep = sys_timeouts_sleeptime();
  if (sleep == SYS_TIMEOUTS_SLEEPTIME_INFINITE) return EventLoop::Clock::duration::max();
  return std::chrono::milliseconds(sleep);
}

void NetStack::LimitTimeWait(EventLoop::Clock::time_point now) {
  if (now < next_limit_) return;
  next_limit_ = now + std::chrono::milliseconds(TCP_TMR_INTERVAL);
  tcp_pcb** rest = &tcp_tw_pcbs;  // newest first
  for (int kept = 0; *rest != nullptr && kept < kMaxTimeWait; ++kept) rest = &(*rest)->next;
  // Cut off at once: tcp_abort would search the list for each.
  for (tcp_pcb* pcb = std::exchange(*rest, nullptr); pcb != nullptr;) {
    tcp_free(std::exchange(pcb, pcb->next));
  }
}

bool NetStack::IsLocal(const ip_addr_t& address) const {
  if (IP_IS_V4_VAL(address) && ip4_addr_isloopback(ip_2_ip4(&address))) return true;
  if (IP_IS_V6_VAL(address) && ip6_addr_isloopback(ip_2_ip6(&address))) return true;
  if (ip_addr_isany_val(address)) return false;
  const netif* netif;
  NETIF_FOREACH(netif) {
    if (IP_IS_V4_VAL(address)) {
      if (ip4_addr_cmp(netif_ip4_addr(netif), ip_2_ip4(&address))) return true;
      continue;
    }
    for (int i = 0; i < LWIP_IPV6_NUM_ADDRESSES; ++i) {
      if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) &&
          ip6_addr_cmp_zoneless(netif_ip6_addr(netif, i), ip_2_ip6(&address))) {
        return true;
      }
    }
  }
  return false;
}

Result<ip_addr_t> NetStack::SourceFor(const ip_addr_t& dest) const {
  if (IP_IS_V4_VAL(dest) && ip4_addr_isloopback(ip_2_ip4(&dest))) {
    ip_addr_t source;
    ip_addr_set_loopback_val(false, source);
    return source;
  }
  if (IsLocal(dest)) return dest;
  netif* route =
      IP_IS_V6_VAL(dest) ? ip6_route(IP6_ADDR_ANY6, ip_2_ip6(&dest)) : ip4_route(ip_2_ip4(&dest));
  // lwIP sends everything to an only interface; loopback leads nowhere else.
  if (route == nullptr || route == &loopback_) return Errno(ENETUNREACH);
  const ip_addr_t* source = ip_netif_get_local_ip(route, &dest);
  if (source == nullptr) return Errno(ENETUNREACH);
  return *source;
}

void NetStack::InputFrame(netif* wire, std::span<const std::byte> frame) {
  received_ = true;
  if (!FrameLengthValid(frame)) return;
  pbuf* packet = pbuf_alloc(PBUF_RAW, static_cast<u16_t>(frame.size() + ETH_PAD_SIZE), PBUF_RAM);
  if (packet == nullptr) return;
  memset(packet->payload, 0, ETH_PAD_SIZE);
  memcpy(static_cast<std::byte*>(packet->payload) + ETH_PAD_SIZE, frame.data(), frame.size());
  const ConnectionTable::Focus focus(connections_,
                                     frame.subspan(std::min(frame.size(), kEthernetHeader)));
  if (wire->input(packet, wire) != ERR_OK) pbuf_free(packet);
  ClampPathMtus();
}

// lwIP ignores the errors that ICMP reports; a connected UDP socket must hear of a closed port.
u8_t NetStack::OnIcmp(void*, raw_pcb*, pbuf* packet, const ip_addr_t*) {
  UdpSocket::OnIcmpError(packet, ip_current_header_tot_len(), ip_current_is_v6() != 0);
  return 0;
}

Errno ErrnoFromLwip(err_t error) {
  switch (error) {
    case ERR_OK:
      return kOk;
    case ERR_MEM:
    case ERR_BUF:
      return Errno(ENOBUFS);
    case ERR_TIMEOUT:
      return Errno(ETIMEDOUT);
    case ERR_RTE:
    case ERR_IF:
      return Errno(ENETUNREACH);
    case ERR_USE:
      return Errno(EADDRINUSE);
    case ERR_ALREADY:
      return Errno(EALREADY);
    case ERR_ISCONN:
      return Errno(EISCONN);
    case ERR_CONN:
    case ERR_CLSD:
      return Errno(ENOTCONN);
    case ERR_RST:
      return Errno(ECONNRESET);
    case ERR_ABRT:
      return Errno(ECONNABORTED);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace rump
