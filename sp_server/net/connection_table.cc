#include "sp_server/net/connection_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lwip/ip.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/ip6.h"
#include "lwip/prot/tcp.h"
#include "sp_server/net/net_stack.h"
#include "sp_server/net/siphash.h"

namespace rump {
namespace {

using Key = ConnectionTable::Key;

constexpr uint64_t kIpv6 = uint64_t{1} << 32;

Key MakeKey(bool ipv6, const void* local, uint16_t local_port, const void* remote,
            uint16_t remote_port) {
  Key key = {};
  const size_t size = ipv6 ? 16 : 4;
  memcpy(&key[0], local, size);
  memcpy(&key[2], remote, size);
  key[4] = uint64_t{local_port} << 16 | remote_port | (ipv6 ? kIpv6 : 0);
  return key;
}

// The address without the zone, which is the interface's of a link-local one.
const void* Bytes(const ip_addr_t& address) {
  if (IP_IS_V6_VAL(address)) return ip_2_ip6(&address)->addr;
  return &ip_2_ip4(&address)->addr;
}

Key KeyOf(const ip_addr_t& local, uint16_t local_port, const ip_addr_t& remote,
          uint16_t remote_port) {
  return MakeKey(IP_IS_V6_VAL(remote), Bytes(local), local_port, Bytes(remote), remote_port);
}

bool NeedsZone(const uint8_t* ipv6) { return ipv6[0] == 0xfe || ipv6[0] == 0xff; }

// The key of the connection that a packet is for, if it is a whole TCP segment.
std::optional<Key> KeyOfPacket(std::span<const std::byte> packet) {
  const auto* const bytes = reinterpret_cast<const uint8_t*>(packet.data());
  if (packet.size() < IP_HLEN) return std::nullopt;
  const bool ipv6 = bytes[0] >> 4 == 6;
  size_t header = IP6_HLEN;
  const uint8_t* source;
  const uint8_t* dest;
  if (ipv6) {
    if (packet.size() < IP6_HLEN + TCP_HLEN) return std::nullopt;
    const auto* const ip = reinterpret_cast<const ip6_hdr*>(bytes);
    if (IP6H_NEXTH(ip) != IP6_NEXTH_TCP) return std::nullopt;
    source = reinterpret_cast<const uint8_t*>(&ip->src);
    dest = reinterpret_cast<const uint8_t*>(&ip->dest);
    // lwIP tells these apart by the interface, too.
    if (NeedsZone(source) || NeedsZone(dest)) return std::nullopt;
  } else {
    const auto* const ip = reinterpret_cast<const ip_hdr*>(bytes);
    header = IPH_HL_BYTES(ip);
    if (IPH_V(ip) != 4 || IPH_PROTO(ip) != IP_PROTO_TCP) return std::nullopt;
    if ((IPH_OFFSET(ip) & PP_HTONS(IP_OFFMASK | IP_MF)) != 0) return std::nullopt;
    if (header < IP_HLEN || packet.size() < header + TCP_HLEN) return std::nullopt;
    source = reinterpret_cast<const uint8_t*>(&ip->src);
    dest = reinterpret_cast<const uint8_t*>(&ip->dest);
  }
  const auto port = [&](size_t at) {
    return static_cast<uint16_t>(bytes[header + at] << 8 | bytes[header + at + 1]);
  };
  return MakeKey(ipv6, dest, port(2), source, port(0));
}

// Takes back what `list` has become since it was cut off before `shown`; nullptr: it was empty.
void Restore(tcp_pcb** list, tcp_pcb* whole, tcp_pcb* shown) {
  tcp_pcb* const rest = *list;
  *list = whole;
  if (rest == shown) return;
  // `shown` is gone, or another is before it. lwIP has not seen what is before that.
  tcp_pcb** link = list;
  if (shown == nullptr) {
    // Only new ones: they go first.
    *list = rest;
    while (*link != nullptr) link = &(*link)->next;
    *link = whole;
    return;
  }
  while (*link != shown) link = &(*link)->next;
  *link = rest;
}

}  // namespace

const tcp_ext_arg_callbacks ConnectionTable::kCallbacks = {&OnFreed, nullptr};

ConnectionTable::ConnectionTable()
    : pcbs_(0, Hash{[] {
              std::array<uint64_t, 2> key;
              if (getrandom(key.data(), sizeof key, 0) != sizeof key) abort();
              return key;
            }()}) {}

size_t ConnectionTable::Hash::operator()(const Key& words) const { return SipHash(key, words); }

void ConnectionTable::Add(tcp_pcb* pcb) {
  const auto [it, added] =
      pcbs_.emplace(KeyOf(pcb->local_ip, pcb->local_port, pcb->remote_ip, pcb->remote_port), pcb);
  // Addresses that only their interface tells apart: these are not looked up here.
  if (!added) return;
  tcp_ext_arg_set_callbacks(pcb, kSlot, &kCallbacks);
  tcp_ext_arg_set(pcb, kSlot, &*it);
}

void ConnectionTable::OnFreed(u8_t, void* data) {
  if (data == nullptr) return;
  const Key key = static_cast<Map::value_type*>(data)->first;
  NetStack::Get().connections().pcbs_.erase(key);
}

tcp_pcb* ConnectionTable::Find(const ip_addr_t& local, uint16_t local_port, const ip_addr_t& remote,
                               uint16_t remote_port) const {
  const auto it = pcbs_.find(KeyOf(local, local_port, remote, remote_port));
  return it == pcbs_.end() ? nullptr : it->second;
}

ConnectionTable::Focus::Focus(const ConnectionTable& table, std::span<const std::byte> packet) {
  const std::optional<Key> key = KeyOfPacket(packet);
  if (!key) return;
  on_ = true;
  active_ = tcp_active_pcbs;
  waiting_ = tcp_tw_pcbs;
  const auto it = table.pcbs_.find(*key);
  if (it != table.pcbs_.end()) {
    (it->second->state == TIME_WAIT ? waiting_shown_ : active_shown_) = it->second;
  }
  tcp_active_pcbs = active_shown_;
  tcp_tw_pcbs = waiting_shown_;
}

ConnectionTable::Focus::~Focus() {
  if (!on_) return;
  Restore(&tcp_active_pcbs, active_, active_shown_);
  Restore(&tcp_tw_pcbs, waiting_, waiting_shown_);
}

}  // namespace rump
