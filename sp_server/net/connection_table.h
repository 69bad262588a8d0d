// TCP connections by their addresses. lwIP keeps them in lists, which it searches for each segment.
#ifndef SP_SERVER_NET_CONNECTION_TABLE_H_
#define SP_SERVER_NET_CONNECTION_TABLE_H_

#include <stddef.h>
#include <stdint.h>

#include <array>
#include <optional>
#include <span>
#include <unordered_map>

#include "lwip/tcp.h"

namespace rump {

class ConnectionTable {
 public:
  // Both addresses and ports, those of IPv4 apart from those of IPv6.
  using Key = std::array<uint64_t, 5>;
  // The argument slot of lwIP's connections that this takes; TcpSocket has the others.
  static constexpr u8_t kSlot = 3;

  ConnectionTable();
  ConnectionTable(const ConnectionTable&) = delete;
  ConnectionTable& operator=(const ConnectionTable&) = delete;

  // Enters `pcb`, whose addresses and ports stay as they are, until lwIP frees it.
  void Add(tcp_pcb* pcb);
  // nullptr for none.
  tcp_pcb* Find(const ip_addr_t& local, uint16_t local_port, const ip_addr_t& remote,
                uint16_t remote_port) const;

  size_t size() const { return pcbs_.size(); }

  // While it exists, lwIP's lists show what concerns one packet that is about to be received, and
  // what they have behind that: the search ends where it starts. The packet may end connections and
  // begin one.
  class Focus {
   public:
    // `packet`: from its IP header on. What is not the whole of a TCP segment is received with the
    // lists as they are.
    Focus(const ConnectionTable& table, std::span<const std::byte> packet);
    Focus(const Focus&) = delete;
    Focus& operator=(const Focus&) = delete;
    ~Focus();

   private:
    bool on_ = false;
    // Of lwIP's lists, the active and those in TIME_WAIT: where they began, and begin for now.
    tcp_pcb* active_ = nullptr;
    tcp_pcb* active_shown_ = nullptr;
    tcp_pcb* waiting_ = nullptr;
    tcp_pcb* waiting_shown_ = nullptr;
  };

 private:
  struct Hash {
    std::array<uint64_t, 2> key;
    size_t operator()(const Key& words) const;
  };
  using Map = std::unordered_map<Key, tcp_pcb*, Hash>;

  static void OnFreed(u8_t id, void* data);
  static const tcp_ext_arg_callbacks kCallbacks;

  Map pcbs_;
};

}  // namespace rump

#endif  // SP_SERVER_NET_CONNECTION_TABLE_H_
