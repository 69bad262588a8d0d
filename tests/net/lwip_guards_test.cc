// Each of lwIP's known faults: its trigger is injected, and the stack must live on.
#include <linux/if_ether.h>

#include <random>

#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/ip6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/icmp6.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/tcp.h"
#include "lwip/timeouts.h"
#include "lwip_hooks.h"
#include "netif/ethernet.h"
#include "sp_server/net/frame_filter.h"
#include "sp_server/net/lwip_memory.h"
#include "tests/net/net_test_util.h"

namespace rump {
namespace {

class LwipGuardsTest : public NetTest {
 protected:
  ~LwipGuardsTest() override { SetLwipAllocationFailure(nullptr); }

  // lwIP's side of `socket`.
  tcp_pcb* PcbOf(Socket& socket) {
    const uint16_t port = PortOf(*socket.LocalAddress()), peer = PortOf(*socket.PeerAddress());
    for (tcp_pcb* pcb = tcp_active_pcbs; pcb != nullptr; pcb = pcb->next) {
      if (pcb->local_port == port && pcb->remote_port == peer) return pcb;
    }
    return nullptr;
  }

  struct Segment {
    ip4_addr_t source, destination;
    uint16_t source_port, destination_port;
    u32_t sequence, ack;
    u8_t flags;
  };
  // Queues a segment for the stack.
  static void Send(const Segment& segment, std::string_view options, std::string_view data) {
    const size_t length = IP_HLEN + TCP_HLEN + options.size() + data.size();
    pbuf* packet = pbuf_alloc(PBUF_RAW, static_cast<u16_t>(length), PBUF_RAM);
    memset(packet->payload, 0, length);
    auto* ip = static_cast<ip_hdr*>(packet->payload);
    IPH_VHL_SET(ip, 4, IP_HLEN / 4);
    IPH_LEN_SET(ip, lwip_htons(static_cast<u16_t>(length)));
    IPH_TTL_SET(ip, 64);
    IPH_PROTO_SET(ip, IP_PROTO_TCP);
    ip4_addr_copy(ip->src, segment.source);
    ip4_addr_copy(ip->dest, segment.destination);
    auto* tcp = reinterpret_cast<tcp_hdr*>(ip + 1);
    tcp->src = lwip_htons(segment.source_port);
    tcp->dest = lwip_htons(segment.destination_port);
    tcp->seqno = lwip_htonl(segment.sequence);
    tcp->ackno = lwip_htonl(segment.ack);
    TCPH_HDRLEN_FLAGS_SET(tcp, (TCP_HLEN + options.size()) / 4, segment.flags);
    tcp->wnd = lwip_htons(0xffff);
    auto* rest = reinterpret_cast<char*>(tcp + 1);
    memcpy(rest, options.data(), options.size());
    memcpy(rest + options.size(), data.data(), data.size());
    EXPECT_EQ(NetStack::Get().Requeue(packet, NetStack::Get().loopback()), ERR_OK);
    pbuf_free(packet);
  }
  // Gives `pcb` a segment from its peer.
  void Inject(const tcp_pcb* pcb, u32_t sequence, u32_t ack, std::string_view options,
              std::string_view data) {
    Send({.source = *ip_2_ip4(&pcb->remote_ip),
          .destination = *ip_2_ip4(&pcb->local_ip),
          .source_port = pcb->remote_port,
          .destination_port = pcb->local_port,
          .sequence = sequence,
          .ack = ack,
          .flags = TCP_ACK},
         options, data);
    Settle();
  }
  // Gives `pcb` the header of a segment with URG, which begins at `sequence`.
  static err_t InjectUrgent(tcp_pcb* pcb, u32_t sequence, u16_t pointer) {
    tcp_hdr header = {};
    header.seqno = sequence;
    header.urgp = lwip_htons(pointer);
    TCPH_HDRLEN_FLAGS_SET(&header, TCP_HLEN / 4, TCP_ACK | TCP_URG);
    return RumpLwipTcpInput(pcb, &header, 0, 0, nullptr, nullptr);
  }
};

TEST_F(LwipGuardsTest, SegmentsFarOutsideTheWindowAreDropped) {
  Pair pair = ConnectedPair();
  tcp_pcb* pcb = PcbOf(*pair.server);
  ASSERT_NE(pcb, nullptr);
  for (u32_t offset : {u32_t{1} << 31, (u32_t{1} << 31) - 1, (u32_t{1} << 31) + 1,
                       (u32_t{1} << 30) + 1, 0 - (u32_t{1} << 30) - 1}) {
    Inject(pcb, pcb->rcv_nxt + offset, pcb->snd_nxt, "", "x");
  }
  EXPECT_EQ(*SendText(*pair.client, "alive"), 5u);
  Settle();
  EXPECT_EQ(ReceiveText(*pair.server), "alive");
}

TEST_F(LwipGuardsTest, UrgentDataHasItsBitAndPointer) {
  Pair pair = ConnectedPair();
  tcp_pcb* pcb = PcbOf(*pair.client);
  EXPECT_EQ(*SendText(*pair.client, "abc!", MSG_OOB), 4u);
  ASSERT_NE(pcb->unacked, nullptr);
  EXPECT_NE(TCPH_FLAGS(pcb->unacked->tcphdr) & TCP_URG, 0);
  EXPECT_EQ(lwip_ntohs(pcb->unacked->tcphdr->urgp), 4);
  Settle();
  ASSERT_EQ(pcb->unacked, nullptr);
  EXPECT_EQ(*SendText(*pair.client, "de"), 2u);
  ASSERT_NE(pcb->unacked, nullptr);
  EXPECT_EQ(TCPH_FLAGS(pcb->unacked->tcphdr) & TCP_URG, 0);
  EXPECT_EQ(pcb->unacked->tcphdr->urgp, 0);
}

TEST_F(LwipGuardsTest, UrgentByteIsAnnouncedBeforeItComes) {
  Pair pair = ConnectedPair();
  tcp_pcb* pcb = PcbOf(*pair.server);
  EXPECT_EQ(ReceiveText(*pair.server, 1, MSG_OOB), ErrorText(EINVAL));
  EXPECT_EQ(InjectUrgent(pcb, pcb->rcv_nxt, 4), ERR_OK);
  EXPECT_EQ(*SendText(*pair.client, "ab"), 2u);
  Settle();
  EXPECT_EQ(pair.server->Poll() & POLLPRI, 0u);
  EXPECT_EQ(ReceiveText(*pair.server, 1, MSG_OOB), ErrorText(EAGAIN));
  EXPECT_EQ(ReceiveText(*pair.server), "ab");
  EXPECT_EQ(*SendText(*pair.client, "c!d"), 3u);
  Settle();
  EXPECT_NE(pair.server->Poll() & POLLPRI, 0u);
  EXPECT_EQ(ReceiveText(*pair.server, 1, MSG_OOB), "!");
  EXPECT_EQ(ReceiveText(*pair.server), "c");
  EXPECT_EQ(ReceiveText(*pair.server), "d");
}

TEST_F(LwipGuardsTest, UrgentPointersOfAnyKindAreHarmless) {
  Pair pair = ConnectedPair();
  tcp_pcb* pcb = PcbOf(*pair.server);
  std::mt19937 random(1);
  std::string got;
  size_t sent = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string data(random() % 4, 'x');
    const u32_t behind = random() % 3 == 0 ? random() % 100'000 - 50'000 : 0;
    const auto pointer = static_cast<u16_t>(random() % 2 == 0 ? random() % 8 : random());
    (void)InjectUrgent(pcb, pcb->rcv_nxt + behind, pointer);
    if (!data.empty()) sent += *SendText(*pair.client, data);
    Settle();
    if (random() % 2 != 0) {
      const std::string byte = ReceiveText(*pair.server, 1, MSG_OOB);
      EXPECT_TRUE(byte == "x" || byte == ErrorText(EINVAL) || byte == ErrorText(EAGAIN)) << byte;
    }
    if (i % 100 == 0) {
      EXPECT_EQ(SetInt(*pair.server, SOL_SOCKET, SO_OOBINLINE, i / 100 % 2), kOk);
    }
    const int flags = random() % 4 == 0 ? MSG_PEEK : 0;
    const std::string part = ReceiveText(*pair.server, random() % 8 + 1, flags);
    if (flags == 0 && part != ErrorText(EAGAIN)) got += part;
    iovec iov[4];
    const size_t count = pair.server_stream()->PeekReceived(iov);
    for (size_t j = 0; j < count; ++j) EXPECT_GT(iov[j].iov_len, 0u);
  }
  EXPECT_LE(got.size(), sent);
  EXPECT_EQ(got.find_first_not_of('x'), std::string::npos);
}

TEST_F(LwipGuardsTest, MssOptionsCountOnlyInSyns) {
  Pair pair = ConnectedPair();
  tcp_pcb* pcb = PcbOf(*pair.server);
  // More than the window takes at first: some stays unsent.
  EXPECT_TRUE(SendText(*pair.server, std::string(500000, 'a')).ok());
  ASSERT_NE(pcb->unsent, nullptr);
  const u16_t mss = pcb->mss;
  using std::string_view_literals::operator""sv;
  for (std::string_view options :
       {"\x02\x04\x00\x64"sv, "\x01\x01\x01\x01\x02\x04\x00\x01"sv,
        "\x05\x02\x02\x04\x00\x01\x00\x00"sv, "\x02\x00\x02\x04"sv, "\x01\x01\x01\x02"sv}) {
    Inject(pcb, pcb->rcv_nxt, pcb->lastack, options, "");
    EXPECT_EQ(pcb->mss, mss);
  }
  EXPECT_TRUE(SendText(*pair.server, std::string(500000, 'a')).ok());
  size_t received = 0;
  while (received < 1000000) {
    Settle();
    const std::string part = ReceiveText(*pair.client);
    ASSERT_EQ(part[0], 'a') << part << " after " << received;
    received += part.size();
  }
}

TEST_F(LwipGuardsTest, TinyMssOfASynIsRaised) {
  using std::string_view_literals::operator""sv;
  const std::shared_ptr<Socket> listener = Listener(Ipv4("127.0.0.1", 0));
  constexpr uint16_t kPeerPort = 9;
  ip4_addr_t loopback;
  IP4_ADDR(&loopback, 127, 0, 0, 1);
  struct Case {
    std::string_view options;
    u16_t mss;
  };
  for (const auto& [options, mss] :
       {Case{"\x02\x04\x00\x00"sv, 88}, Case{"\x02\x04\x00\x01"sv, 88},
        Case{"\x01\x01\x01\x01\x02\x04\x00\x57"sv, 88}, Case{"\x02\x04\x00\x58"sv, 88},
        Case{"\x02\x04\x05\xb4"sv, 1460}, Case{"\x02\x05\x00\x01\x01\x00\x00\x00"sv, 536},
        Case{""sv, 536}}) {
    Send({.source = loopback,
          .destination = loopback,
          .source_port = kPeerPort,
          .destination_port = PortOf(*listener->LocalAddress()),
          .sequence = 1000,
          .ack = 0,
          .flags = TCP_SYN},
         options, "");
    // The peer's answer, a reset, is still to come.
    NetStack::Get().Drain(1);
    tcp_pcb* pcb = tcp_active_pcbs;
    while (pcb != nullptr && pcb->remote_port != kPeerPort) pcb = pcb->next;
    ASSERT_NE(pcb, nullptr);
    EXPECT_EQ(pcb->mss, mss);
    Settle();
  }
}

TEST_F(LwipGuardsTest, PathMtuStaysAtIpv6sMinimum) {
  const ip_addr_t dest = IPADDR6_INIT(lwip_htonl(0x20010db8), 0, 0, lwip_htonl(7));
  nd6_destination_cache_entry& entry = destination_cache[0];
  const nd6_destination_cache_entry before = entry;
  ip6_addr_copy(entry.destination_addr, *ip_2_ip6(&dest));
  entry.pmtu = 1500;
  struct [[gnu::packed]] {
    ip6_hdr outer;
    icmp6_hdr icmp;
    ip6_hdr inner;
  } message = {};
  const ip_addr_t self = IPADDR6_INIT_HOST(0, 0, 0, 1);
  IP6H_VTCFL_SET(&message.outer, 6, 0, 0);
  IP6H_NEXTH_SET(&message.outer, IP6_NEXTH_ICMP6);
  IP6H_PLEN_SET(&message.outer, sizeof message - IP6_HLEN);
  IP6H_HOPLIM_SET(&message.outer, 255);
  memcpy(&message.outer.src, ip_2_ip6(&self)->addr, 16);
  memcpy(&message.outer.dest, ip_2_ip6(&self)->addr, 16);
  message.icmp.type = ICMP6_TYPE_PTB;
  message.icmp.data = lwip_htonl(50);
  IP6H_VTCFL_SET(&message.inner, 6, 0, 0);
  memcpy(&message.inner.src, ip_2_ip6(&self)->addr, 16);
  memcpy(&message.inner.dest, ip_2_ip6(&dest)->addr, 16);
  pbuf* packet = pbuf_alloc(PBUF_RAW, sizeof message, PBUF_RAM);
  pbuf_take(packet, &message, sizeof message);
  EXPECT_EQ(NetStack::Get().Requeue(packet, NetStack::Get().loopback()), ERR_OK);
  pbuf_free(packet);
  Settle();
  EXPECT_EQ(entry.pmtu, 1280u);  // not 1500: the message did arrive
  entry = before;
}

TEST_F(LwipGuardsTest, FrameFilter) {
  const auto valid = [](uint16_t type, size_t size) {
    std::vector<std::byte> frame(size);
    if (size >= 14) {
      frame[12] = std::byte(type >> 8);
      frame[13] = std::byte(type & 0xff);
    }
    return FrameLengthValid(frame);
  };
  EXPECT_FALSE(valid(ETH_P_IP, 0));
  EXPECT_FALSE(valid(ETH_P_IP, 13));
  EXPECT_FALSE(valid(ETH_P_IP, 33));
  EXPECT_TRUE(valid(ETH_P_IP, 34));
  EXPECT_FALSE(valid(ETH_P_ARP, 41));
  EXPECT_TRUE(valid(ETH_P_ARP, 42));
  EXPECT_FALSE(valid(ETH_P_IPV6, 53));
  EXPECT_TRUE(valid(ETH_P_IPV6, 54));
  EXPECT_FALSE(valid(ETH_P_8021Q, 17));
  EXPECT_TRUE(valid(ETH_P_8021Q, 18));
  EXPECT_TRUE(valid(0x1234, 14));
  EXPECT_FALSE(valid(ETH_P_IP, kMaxFrameBytes + 1));
}

TEST_F(LwipGuardsTest, TimersGetMemoryFromTheReserve) {
  const size_t before = LwipReserveInUse();
  SetLwipAllocationFailure([](size_t) { return true; });
  int fired = 0;
  constexpr int kTimers = 20;
  for (int i = 0; i < kTimers; ++i) {
    sys_timeout(
        0, [](void* arg) { ++*static_cast<int*>(arg); }, &fired);
  }
  EXPECT_EQ(LwipReserveInUse(), before + kTimers);
  sys_check_timeouts();
  EXPECT_EQ(fired, kTimers);
  SetLwipAllocationFailure(nullptr);
}

TEST_F(LwipGuardsTest, SocketsReportTheLackOfMemory) {
  SocketFamilies families;
  RegisterInet(&families, &NetStack::Get(), nullptr);
  auto listener = Tcp();
  auto client = Tcp();
  SetLwipAllocationFailure([](size_t) { return true; });
  EXPECT_EQ(families.Create(AF_INET, SOCK_DGRAM, 0, 0).error().value(), ENOBUFS);
  EXPECT_EQ(listener->Listen(1).value(), ENOBUFS);
  EXPECT_EQ(client->Connect(Ipv4("127.0.0.1", 80)).value(), ENOBUFS);
  SetLwipAllocationFailure(nullptr);
  EXPECT_EQ(listener->Listen(1).value(), 0);
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  Settle();
  EXPECT_EQ(client->TakeError().value(), 0);
}

TEST_F(LwipGuardsTest, DataArrivesThoughEveryFifthAllocationFails) {
  Pair pair = ConnectedPair();
  std::mt19937 random(7);
  SetLwipAllocationFailure([&](size_t) { return random() % 5 == 0; });
  constexpr size_t kTotal = 3'000'000;
  std::string data(kTotal, '\0');
  for (size_t i = 0; i < kTotal; ++i) data[i] = static_cast<char>(i * 7 % 253);
  size_t sent = 0, received = 0;
  std::vector<std::byte> buffer(70000);
  for (int round = 0; round < 100000 && received < kTotal; ++round) {
    if (sent < kTotal) {
      Result<size_t> n =
          pair.client->Send(Bytes(std::string_view(data).substr(sent, 30000)), nullptr, 0);
      if (n.ok()) sent += *n;
    }
    Settle();
    Result<Received> part = pair.server->Receive(buffer, 0);
    if (part.ok()) {
      ASSERT_EQ(memcmp(buffer.data(), data.data() + received, part->copied), 0);
      received += part->copied;
    } else {
      ASSERT_EQ(part.error().value(), EAGAIN);
      tcp_tmr();
    }
  }
  EXPECT_EQ(received, kTotal);
  SetLwipAllocationFailure(nullptr);
}

TEST_F(LwipGuardsTest, InitialSequenceNumbersDifferByConnection) {
  const ip_addr_t a = IPADDR4_INIT_BYTES(127, 0, 0, 1);
  const ip_addr_t b = IPADDR4_INIT_BYTES(127, 0, 0, 2);
  const u32_t first = RumpLwipInitialSequence(&a, 1000, &b, 80);
  const u32_t again = RumpLwipInitialSequence(&a, 1000, &b, 80);
  constexpr u32_t kTicksPerMinute = 60 * 250000;
  EXPECT_LT(again - first, kTicksPerMinute);
  EXPECT_GT(RumpLwipInitialSequence(&a, 1001, &b, 80) - first, 2u);
  EXPECT_GT(RumpLwipInitialSequence(&b, 1000, &a, 80) - first, 2u);
}

// An Ethernet interface whose frames come from the test.
class WireTest : public LwipGuardsTest {
 protected:
  WireTest() {
    ip4_addr_t address, mask, gateway;
    IP4_ADDR(&address, 10, 9, 8, 7);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&gateway, 10, 9, 8, 1);
    netif_add(&wire_, &address, &mask, &gateway, nullptr, &Init, &ethernet_input);
    netif_create_ip6_linklocal_address(&wire_, 1);
    netif_set_link_up(&wire_);
    netif_set_up(&wire_);
  }
  ~WireTest() override { netif_remove(&wire_); }

  static err_t Init(netif* netif) {
    netif->name[0] = 't';
    netif->name[1] = 'w';
    netif->mtu = netif->mtu6 = 1500;
    netif->hwaddr_len = ETH_HWADDR_LEN;
    memcpy(netif->hwaddr, kOwnMac, ETH_HWADDR_LEN);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
    netif->output = &etharp_output;
    netif->output_ip6 = &ethip6_output;
    netif->linkoutput = [](struct netif*, pbuf*) -> err_t { return ERR_OK; };
    return ERR_OK;
  }

  static constexpr u8_t kOwnMac[ETH_HWADDR_LEN] = {2, 0, 0, 0, 0, 1};
  netif wire_ = {};
};

TEST_F(WireTest, RandomFramesOfEveryLength) {
  std::mt19937 random(11);
  for (int i = 0; i < 30000; ++i) {
    std::vector<std::byte> frame(random() % 100);
    for (std::byte& byte : frame) byte = static_cast<std::byte>(random());
    for (size_t k = 0; k < std::min<size_t>(ETH_HWADDR_LEN, frame.size()); ++k) {
      frame[k] = static_cast<std::byte>(kOwnMac[k]);
    }
    constexpr u16_t kTypes[] = {ETH_P_IP, ETH_P_ARP, ETH_P_IPV6, ETH_P_8021Q};
    const u16_t type = kTypes[random() % std::size(kTypes)];
    if (frame.size() >= 14) {
      frame[12] = static_cast<std::byte>(type >> 8);
      frame[13] = static_cast<std::byte>(type & 0xff);
    }
    if (frame.size() > 14) frame[14] = type == ETH_P_IPV6 ? std::byte{0x60} : std::byte{0x45};
    NetStack::Get().InputFrame(&wire_, frame);
  }
  Settle();
  Pair pair = ConnectedPair();
  EXPECT_EQ(*SendText(*pair.client, "alive"), 5u);
}

TEST_F(WireTest, ItsOwnAddressIsReachedThroughLoopback) {
  auto listener = Listener(Ipv4("10.9.8.7", 0));
  auto client = Tcp();
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  Settle();
  EXPECT_EQ(client->TakeError().value(), 0);
  EXPECT_EQ(Show(*client->LocalAddress()).substr(0, 9), "10.9.8.7 ");
}

TEST_F(WireTest, LoopbackAddressesFromOutsideAreDropped) {
  auto socket = Udp();
  ASSERT_EQ(socket->Bind(Ipv4("0.0.0.0", 8300)).value(), 0);
  struct [[gnu::packed]] {
    u8_t to[6] = {2, 0, 0, 0, 0, 1};
    u8_t from[6] = {2, 0, 0, 0, 0, 2};
    u8_t type[2] = {8, 0};
    u8_t ip[20] = {0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 8, 2, 10, 9, 8, 7};
    u8_t udp[9] = {1, 1, 8300 >> 8, 8300 & 0xff, 0, 9, 0, 0, 'x'};
  } frame;
  const auto input = [&](u8_t source, u8_t dest) {
    frame.ip[12] = source;
    frame.ip[16] = dest;
    frame.ip[10] = frame.ip[11] = 0;
    u32_t sum = 0;
    for (size_t i = 0; i < sizeof frame.ip; i += 2) sum += frame.ip[i] << 8 | frame.ip[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    frame.ip[10] = static_cast<u8_t>(~sum >> 8);
    frame.ip[11] = static_cast<u8_t>(~sum);
    NetStack::Get().InputFrame(&wire_, std::as_bytes(std::span(&frame, 1)));
    return ReceiveText(*socket);
  };
  EXPECT_EQ(input(10, 10), "x");
  EXPECT_EQ(input(127, 10), ErrorText(EAGAIN));
  EXPECT_EQ(input(10, 127), ErrorText(EAGAIN));
}

}  // namespace
}  // namespace rump
