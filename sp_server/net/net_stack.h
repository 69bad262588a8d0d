// The TCP/IP stack: owns lwIP, the loopback interface and the ports in use.
#ifndef SP_SERVER_NET_NET_STACK_H_
#define SP_SERVER_NET_NET_STACK_H_

#include <stddef.h>
#include <stdint.h>

#include <span>
#include <unordered_map>
#include <vector>

#include "lwip/ip_addr.h"
#include "lwip/netif.h"
#include "lwip/raw.h"
#include "protocol/errno.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/net/connection_set.h"
#include "sp_server/net/connection_table.h"
#include "sp_server/net/port_table.h"
#include "sp_server/net/shared_bytes.h"

namespace rump {

// lwIP's state is global and cannot be torn down, so there is one NetStack per process, made at its
// first use and never destroyed. All of it, and all sockets, belong to the thread of the event
// loop.
class NetStack final : public EventLoop::Poller {
 public:
  static NetStack& Get();
  NetStack(const NetStack&) = delete;
  NetStack& operator=(const NetStack&) = delete;

  // Delivers a bounded number of queued packets and runs lwIP's timers.
  EventLoop::Clock::duration Poll() override;
  // Delivers queued packets until none are left or `max_packets` have been: lets a system call see
  // the outcome of what it has just sent to this host. Not from within a callback of lwIP.
  void Drain(int max_packets);

  // An address of this host: all of 127.0.0.0/8, ::1, and those of every interface.
  bool IsLocal(const ip_addr_t& address) const;
  // The address to send from to reach `dest`. ENETUNREACH: no route.
  Result<ip_addr_t> SourceFor(const ip_addr_t& dest) const;

  // Hands a frame from a wire to lwIP, unless the frame filter drops it.
  void InputFrame(netif* wire, std::span<const std::byte> frame);
  // Queues a copy of an IP packet, to be received by `input` in a later turn. ERR_MEM: queue full.
  err_t Requeue(pbuf* packet, netif* input);

  netif* loopback() { return &loopback_; }
  const netif* loopback() const { return &loopback_; }
  PortTable& tcp_ports() { return tcp_ports_; }
  PortTable& udp_ports() { return udp_ports_; }
  ConnectionSet& direct_connections() { return direct_connections_; }
  ConnectionTable& connections() { return connections_; }
  // How often each group of IPv4 has been joined, by its address.
  using GroupCounts = std::unordered_map<uint32_t, size_t>;
  GroupCounts& udp_groups() { return udp_groups_; }
  // What TcpSocket::PrepareSend has made room in, for the SendPrepared that follows.
  std::vector<SendBlock*>& prepared() { return prepared_; }
  size_t queued_packets() const { return queue_size_; }

 private:
  struct QueuedPacket {
    pbuf* packet;
    u8_t input;  // interface, lwIP's index
  };
  NetStack();
  static err_t InitLoopback(netif* netif);
  static u8_t OnIcmp(void* arg, raw_pcb* pcb, pbuf* packet, const ip_addr_t* from);
  void Deliver(const QueuedPacket& queued);
  void LimitTimeWait(EventLoop::Clock::time_point now);
  // Whether nothing in lwIP waits for time to pass.
  bool Quiet() const;

  netif loopback_ = {};
  std::vector<QueuedPacket> queue_;  // ring
  size_t queue_head_ = 0;
  size_t queue_size_ = 0;
  size_t queue_bytes_ = 0;
  PortTable tcp_ports_;
  PortTable udp_ports_;
  ConnectionSet direct_connections_;
  ConnectionTable connections_;
  GroupCounts udp_groups_;
  std::vector<SendBlock*> prepared_;
  EventLoop::Clock::time_point next_limit_;
  bool received_ = false;  // something since the last turn
  // Until then fragments of what was received may be kept.
  EventLoop::Clock::time_point fragments_until_;
  bool fragments_gone_ = false;  // that was over at the end of the last turn
};

// The errno for a failure of an lwIP call that is not a connection's end.
Errno ErrnoFromLwip(err_t error);

}  // namespace rump

#endif  // SP_SERVER_NET_NET_STACK_H_
