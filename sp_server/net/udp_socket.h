// UDP and UDP-Lite (RFC 3828) sockets over IPv4 and IPv6.
#ifndef SP_SERVER_NET_UDP_SOCKET_H_
#define SP_SERVER_NET_UDP_SOCKET_H_

#include <stddef.h>
#include <stdint.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "lwip/udp.h"
#include "sp_server/kernel/socket.h"
#include "sp_server/net/datagram_control.h"
#include "sp_server/net/datagram_queue.h"
#include "sp_server/net/inet_address.h"
#include "sp_server/net/inet_options.h"
#include "sp_server/net/net_stack.h"
#include "sp_server/net/port_table.h"

namespace rump {

// As udp(7) and socket(7) say. A datagram that finds SO_RCVBUF used up, or what all sockets share,
// is dropped.
class UdpSocket final : public Socket {
 public:
  // `domain`: AF_INET or AF_INET6. `protocol`: IPPROTO_UDP or IPPROTO_UDPLITE, which share their
  // ports. `flags` as File's. `memory`: for what is received, see DatagramQueue.
  UdpSocket(NetStack* stack, int domain, int protocol, int flags, std::shared_ptr<Budget> memory);
  ~UdpSocket() override;
  // False if there was no memory; the socket is then of no use.
  bool valid() const { return pcb_ != nullptr; }

  uint32_t Poll() const override;
  Errno Ioctl(uint64_t request, std::span<std::byte> arg) override;

  Errno Bind(const SocketAddress& address) override;
  Errno Listen(int backlog) override;
  Result<std::shared_ptr<Socket>> Accept(SocketAddress* peer) override;
  Errno Connect(const SocketAddress& address) override;
  Result<SocketAddress> LocalAddress() override;
  Result<SocketAddress> PeerAddress() override;
  Result<size_t> Send(std::span<const std::byte> data, const SocketAddress* to, int flags) override;
  Result<size_t> SendMessage(std::span<const std::byte> data, const SocketAddress* to,
                             std::span<const std::byte> control, int flags) override;
  Result<Received> Receive(std::span<std::byte> buffer, int flags) override;
  Errno Shutdown(int how) override;
  Errno SetOption(int level, int name, std::span<const std::byte> value) override;
  Result<size_t> GetOption(int level, int name, std::span<std::byte> value) override;
  Errno TakeError() override;

  // Tells the socket that an ICMP error is about. `packet` starts at the IP header, ICMP's is
  // `ip_header_length` bytes in.
  static void OnIcmpError(const pbuf* packet, u16_t ip_header_length, bool v6);

 private:
  struct FreePacket {
    void operator()(pbuf* packet) const { pbuf_free(packet); }
  };
  using Packet = std::unique_ptr<pbuf, FreePacket>;
  struct Datagram {
    Packet data;
    InetAddress from;
    Arrival arrival;
  };
  static void OnReceived(void* arg, udp_pcb* pcb, pbuf* packet, const ip_addr_t* from, u16_t port);

  bool v6only() const;
  bool bound() const { return port_use_ != nullptr; }
  bool connected() const { return (pcb_->flags & UDP_FLAGS_CONNECTED) != 0; }
  // AF_INET6 sockets take AF_INET addresses to connect and send to.
  Result<InetAddress> ParseDestination(const SocketAddress& address) const;
  // Where a datagram goes that is sent to `to`, or to the peer.
  Result<InetAddress> Destination(const SocketAddress* to) const;
  Result<Received> ReceiveError(bool peek);
  void QueueError(const DatagramError& error);
  bool WantsErrors() const;
  Errno BindTo(const ip_addr_t& ip, uint16_t port);
  Result<ip_addr_t> SourceTo(const ip_addr_t& dest) const;
  // Where a datagram to `dest` leaves and with which address, as options, a binding and `told` want
  // it.
  struct Path {
    netif* interface;
    ip_addr_t source;
  };
  Result<Path> PathTo(const ip_addr_t& dest, const std::optional<ip_addr_t>& told) const;
  // IP_ADD_MEMBERSHIP and its kin: udp_multicast.cc.
  static bool IsMulticastOption(int level, int name);
  Errno SetMulticast(int name, std::span<const std::byte> value);
  // Whether what came for `dest` is for this socket, too.
  bool Hears(const ip_addr_t& dest) const;
  bool IsMember(const ip_addr_t& group) const;
  void LeaveGroups();
  void Unbind();
  void Unlink();

  NetStack* const stack_;
  const int protocol_;
  InetOptions options_;
  udp_pcb* pcb_ = nullptr;
  PortUse* port_use_ = nullptr;  // counted reference
  bool explicit_address_ = false;
  bool explicit_port_ = false;
  uint8_t shutdown_ = 0;
  int error_ = 0;
  DatagramQueue<Datagram> received_;
  std::deque<DatagramError> errors_;  // MSG_ERRQUEUE
  struct Membership {
    ip_addr_t group;
    int interface;  // index
    bool operator==(const Membership& other) const {
      return interface == other.interface && ip_addr_cmp(&group, &other.group);
    }
  };
  // One less that the stack knows of.
  void CountOut(const Membership& membership);
  std::vector<Membership> memberships_;
  int multicast_interface_ = 0;  // index; 0: none chosen
};

}  // namespace rump

#endif  // SP_SERVER_NET_UDP_SOCKET_H_
