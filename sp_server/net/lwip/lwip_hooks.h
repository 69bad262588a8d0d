// The places where lwIP calls us; included by lwIP's own sources.
#ifndef SP_SERVER_NET_LWIP_LWIP_HOOKS_H_
#define SP_SERVER_NET_LWIP_LWIP_HOOKS_H_

#include "lwip/err.h"
#include "lwip/ip_addr.h"

#ifdef __cplusplus
extern "C" {
#endif

struct netif;
struct pbuf;
struct tcp_hdr;
struct tcp_pcb;

// A connection's first sequence number, by RFC 6528: a clock plus a keyed hash of its addresses.
u32_t RumpLwipInitialSequence(const ip_addr_t* local_ip, u16_t local_port,
                              const ip_addr_t* remote_ip, u16_t remote_port);
// ERR_OK if the segment may reach the connection or listener `pcb`. May blank options.
err_t RumpLwipTcpInput(struct tcp_pcb* pcb, struct tcp_hdr* header, u16_t options_length,
                       u16_t first_part_length, u8_t* second_part, struct pbuf* packet);
// Completes the header of a segment that is about to be sent. Returns `options`: none are added.
// `pcb` may be null.
u32_t* RumpLwipTcpOutput(struct tcp_hdr* header, const struct tcp_pcb* pcb, u32_t* options);
// The interface for `dest` if that is an address of this host, else nullptr: lwIP decides.
struct netif* RumpLwipRoute4(const ip4_addr_t* src, const ip4_addr_t* dest);
struct netif* RumpLwipRoute6(const ip6_addr_t* src, const ip6_addr_t* dest);
// 1 if the packet was dropped, which frees it.
int RumpLwipInput4(struct pbuf* packet, struct netif* netif);

#ifdef __cplusplus
}
#endif

#endif  // SP_SERVER_NET_LWIP_LWIP_HOOKS_H_
