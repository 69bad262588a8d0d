// The functions that lwIP calls (lwip/lwip_hooks.h, lwip/arch/cc.h), among them the guards against
// its known faults.
#include "lwip_hooks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include <array>

#include "lwip/ip.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/tcp.h"
#include "lwip/tcp.h"
#include "sp_server/net/net_stack.h"
#include "sp_server/net/siphash.h"
#include "sp_server/net/tcp_socket.h"

namespace rump {
namespace {

void FillRandom(void* buffer, size_t size) {
  // Up to 256 bytes come whole; only a signal before the system's first entropy interrupts.
  while (getrandom(buffer, size, 0) != static_cast<ssize_t>(size)) {
    if (errno != EINTR) abort();
  }
}

uint64_t NowNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// The least that a peer may make us cut a stream into, which is what Linux lets programs ask for:
// below that headers are most of the traffic, and 2 MB of SO_SNDBUF millions of segments.
constexpr u16_t kMinMss = 88;

// Mends an MSS option, whose bytes `at` gives. lwIP takes one from any segment, and then asserts
// that what is queued already fits: outside of a SYN it becomes NOPs.
template <typename Byte>
void MendMssOption(bool syn, u8_t size, Byte at) {
  if (!syn || size != LWIP_TCP_OPT_LEN_MSS) {
    for (size_t i = 0; i < size; ++i) at(i) = LWIP_TCP_OPT_NOP;
    return;
  }
  if ((at(2) << 8 | at(3)) >= kMinMss) return;
  at(2) = kMinMss >> 8;
  at(3) = kMinMss & 0xff;
}

// Mends each MSS option of a segment. `option(i)` is the i-th byte of the options.
template <typename Option>
void MendMssOptions(bool syn, size_t length, Option option) {
  for (size_t i = 0; i < length;) {
    const u8_t kind = option(i);
    if (kind == LWIP_TCP_OPT_EOL) return;
    if (kind == LWIP_TCP_OPT_NOP) {
      ++i;
      continue;
    }
    if (i + 1 >= length) return;
    const u8_t size = option(i + 1);
    if (size < 2 || i + size > length) return;
    if (kind == LWIP_TCP_OPT_MSS) {
      MendMssOption(syn, size, [&](size_t j) -> u8_t& { return option(i + j); });
    }
    i += size;
  }
}

// A new connection with the addresses of one in TIME_WAIT. As Linux, let the old one go when the
// new one's sequence numbers are beyond it; on loopback no stray segment can exist. The segment is
// queued again and meets the listener.
bool RecycleTimeWait(tcp_pcb* pcb, tcp_hdr* header, u16_t options_length, pbuf* packet) {
  const u8_t flags = TCPH_FLAGS(header);
  if ((flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN) return false;
  NetStack& stack = NetStack::Get();
  netif* input = ip_current_input_netif();
  if (input != stack.loopback() && !TCP_SEQ_GT(header->seqno, pcb->rcv_nxt)) return false;
  tcp_abort(pcb);
  // tcp_input has put these into host order.
  header->src = lwip_htons(header->src);
  header->dest = lwip_htons(header->dest);
  header->seqno = lwip_htonl(header->seqno);
  header->ackno = lwip_htonl(header->ackno);
  header->wnd = lwip_htons(header->wnd);
  pbuf_add_header_force(packet, TCP_HLEN + options_length + ip_current_header_tot_len());
  stack.Requeue(packet, input);
  return true;
}

}  // namespace
}  // namespace rump

extern "C" void RumpLwipAssert(const char* message, const char* file, int line) {
  fprintf(stderr, "lwIP: %s (%s:%d)\n", message, file, line);
  abort();
}

extern "C" uint32_t RumpLwipRandom() {
  // As many as the kernel gives at once.
  static std::array<uint32_t, 64> values;
  static size_t left = 0;
  if (left == 0) {
    rump::FillRandom(values.data(), sizeof values);
    left = values.size();
  }
  return values[--left];
}

extern "C" u32_t RumpLwipInitialSequence(const ip_addr_t* local_ip, u16_t local_port,
                                         const ip_addr_t* remote_ip, u16_t remote_port) {
  static const std::array<uint64_t, 2> key = [] {
    std::array<uint64_t, 2> fresh;
    rump::FillRandom(fresh.data(), sizeof fresh);
    return fresh;
  }();
  std::array<uint64_t, 5> words = {};
  const auto pack = [](const ip_addr_t* ip, uint64_t* out) {
    if (IP_IS_V6(ip)) {
      const u32_t* addr = ip_2_ip6(ip)->addr;
      out[0] = uint64_t{addr[0]} << 32 | addr[1];
      out[1] = uint64_t{addr[2]} << 32 | addr[3];
    } else {
      out[0] = ip4_addr_get_u32(ip_2_ip4(ip));
    }
  };
  pack(local_ip, &words[0]);
  pack(remote_ip, &words[2]);
  words[4] = uint64_t{local_port} << 16 | remote_port;
  constexpr uint64_t kTickNanoseconds = 4000;
  return static_cast<u32_t>(rump::NowNanoseconds() / kTickNanoseconds + rump::SipHash(key, words));
}

extern "C" err_t RumpLwipTcpInput(tcp_pcb* pcb, tcp_hdr* header, u16_t options_length,
                                  u16_t first_part_length, u8_t* second_part, pbuf* packet) {
  const u8_t flags = TCPH_FLAGS(header);
  if (pcb->state == TIME_WAIT && second_part == nullptr &&
      rump::RecycleTimeWait(pcb, header, options_length, packet)) {
    return ERR_ABRT;
  }
  if (pcb->state == LISTEN && (flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN) {
    rump::TcpSocket::PassTurn(reinterpret_cast<tcp_pcb_listen*>(pcb));
  }
  auto* first_part = reinterpret_cast<u8_t*>(header + 1);
  rump::MendMssOptions((flags & TCP_SYN) != 0, options_length, [&](size_t i) -> u8_t& {
    return second_part == nullptr || i < first_part_length ? first_part[i]
                                                           : second_part[i - first_part_length];
  });
  // A FIN right behind the window is in order; lwIP would cut it off and wait for the peer to send
  // it again.
  if ((flags & TCP_FIN) != 0 && pcb->state >= ESTABLISHED && pcb->state < CLOSE_WAIT &&
      header->seqno == pcb->rcv_nxt && packet->tot_len == pcb->rcv_wnd) {
    ++pcb->rcv_wnd;
  }
  // Where rcv_nxt means something, a segment half the sequence space away is no mistake of an
  // honest peer, and lwIP's arithmetic fails on it.
  if (pcb->state != LISTEN && pcb->state != SYN_SENT) {
    constexpr u32_t kFar = u32_t{1} << 30;
    const u32_t ahead = header->seqno - pcb->rcv_nxt;
    if (ahead > kFar && ahead < 0 - kFar) return ERR_VAL;
    if ((flags & TCP_URG) != 0) rump::TcpSocket::OnUrgent(pcb, header);
  }
  return ERR_OK;
}

extern "C" u32_t* RumpLwipTcpOutput(tcp_hdr* header, const tcp_pcb* pcb, u32_t* options) {
  if (pcb == nullptr) return options;
  rump::TcpSocket::MarkUrgent(pcb, header);
  // It is lwIP's first.
  if ((TCPH_FLAGS(header) & TCP_SYN) != 0) {
    rump::TcpSocket::LimitMssOption(pcb, reinterpret_cast<u32_t*>(header + 1));
  }
  return options;
}

extern "C" netif* RumpLwipRoute4(const ip4_addr_t*, const ip4_addr_t* dest) {
  ip_addr_t ip;
  ip_addr_copy_from_ip4(ip, *dest);
  rump::NetStack& stack = rump::NetStack::Get();
  return stack.IsLocal(ip) ? stack.loopback() : nullptr;
}

extern "C" netif* RumpLwipRoute6(const ip6_addr_t*, const ip6_addr_t* dest) {
  ip_addr_t ip;
  ip_addr_copy_from_ip6(ip, *dest);
  rump::NetStack& stack = rump::NetStack::Get();
  return stack.IsLocal(ip) ? stack.loopback() : nullptr;
}

extern "C" int RumpLwipInput4(pbuf* packet, netif* netif) {
  const rump::NetStack& stack = rump::NetStack::Get();
  if (netif == stack.loopback() || packet->len < IP_HLEN) return 0;
  const auto* header = static_cast<const ip_hdr*>(packet->payload);
  // RFC 1122, 3.2.1.3: 127/8 never appears outside a host.
  constexpr u8_t kLoopbackNet = 127;
  if (ip4_addr1(&header->src) != kLoopbackNet && ip4_addr1(&header->dest) != kLoopbackNet) return 0;
  pbuf_free(packet);
  return 1;
}
