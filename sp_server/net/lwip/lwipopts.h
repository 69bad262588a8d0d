// lwIP's options. One thread drives the stack from the server's event loop, so no operating system
// layer, no locks and none of lwIP's own socket interfaces.
#ifndef SP_SERVER_NET_LWIP_LWIPOPTS_H_
#define SP_SERVER_NET_LWIP_LWIPOPTS_H_

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0
#define LWIP_STATS 0
#define LWIP_DONT_PROVIDE_BYTEORDER_FUNCTIONS 1

// Memory: libc's allocator for everything; no fixed pools that a burst could exhaust.
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#define mem_clib_malloc RumpLwipMalloc
#define mem_clib_calloc RumpLwipCalloc
#define mem_clib_free RumpLwipFree

// Internet layer.
#define LWIP_IPV4 1
#define LWIP_IPV6 1
#define LWIP_ICMP 1
#define LWIP_ICMP6 1
#define LWIP_RAW 1
#define IP_FORWARD 0
#define IP_REASS_MAX_PBUFS 512
// Pointers do not fit the fragment header, where lwIP would keep them.
#define IPV6_FRAG_COPYHEADER 1
#define LWIP_IPV6_MLD 0
#define LWIP_IGMP 0
#define LWIP_DHCP 0
#define LWIP_DNS 0
#define LWIP_SINGLE_NETIF 0
// The loopback interface is our own (loopback.h).
#define LWIP_HAVE_LOOPIF 0
#define LWIP_NETIF_LOOPBACK 0
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1

// Ethernet. The padding aligns the headers behind the 14 bytes of Ethernet's to 4.
#define LWIP_ARP 1
#define LWIP_ETHERNET 1
#define ETH_PAD_SIZE 2
#define ARP_TABLE_SIZE 127
#define ARP_QUEUEING 1

#define LWIP_UDPLITE 1
// UDP and raw sockets share ports and addresses by our own rules, not lwIP's.
#define SO_REUSE 1
#define SO_REUSE_RXTOALL 1
#define IP_SOF_BROADCAST 0

// TCP. The largest segment that an interface's MTU allows; on loopback (MTU 65535) that is this
// one. It is smaller than the MTU so that segments stay aligned to pages.
#define TCP_MSS 61440
#define TCP_WND (2 * 1024 * 1024)
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 6
#define TCP_SND_BUF (2 * 1024 * 1024)
#define TCP_SND_QUEUELEN 32768
#define TCP_SNDLOWAT (TCP_SND_BUF / 4)
// How much longer than asked for a buffer is when more small writes may follow.
#define TCP_OVERSIZE 4096
#define TCP_QUEUE_OOSEQ 1
// A hole in the stream must not let the peer fill the memory with tiny segments.
#define TCP_OOSEQ_MAX_PBUFS 4096
#define TCP_LISTEN_BACKLOG 1
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_TIMESTAMPS 0
#define LWIP_TCP_KEEPALIVE 1
#define LWIP_TCP_PCB_NUM_EXT_ARGS 4
// Linux's 60 s of TIME_WAIT.
#define TCP_MSL 30000UL
#define TCP_FIN_WAIT_TIMEOUT 60000
// 1 + 2 + … + 64 s with a doubling timeout (see TcpSocket), as Linux.
#define TCP_SYNMAXRTX 7
// Its 16-bit arithmetic does not hold for our segment size.
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1

// Defaults of Linux.
#define IP_DEFAULT_TTL 64
#define TCP_KEEPIDLE_DEFAULT 7200000UL
#define TCP_KEEPINTVL_DEFAULT 75000UL
#define TCP_KEEPCNT_DEFAULT 9U

// Declared there. Here, and not there, because lwIP's headers look for some of these names.
#define LWIP_HOOK_FILENAME "lwip_hooks.h"
#define LWIP_HOOK_TCP_ISN RumpLwipInitialSequence
#define LWIP_HOOK_TCP_INPACKET_PCB RumpLwipTcpInput
#define LWIP_HOOK_TCP_OUT_ADD_TCPOPTS(p, hdr, pcb, opts) RumpLwipTcpOutput(hdr, pcb, opts)
#define LWIP_HOOK_IP4_ROUTE_SRC RumpLwipRoute4
#define LWIP_HOOK_IP6_ROUTE RumpLwipRoute6
#define LWIP_HOOK_IP4_INPUT RumpLwipInput4

#endif  // SP_SERVER_NET_LWIP_LWIPOPTS_H_
