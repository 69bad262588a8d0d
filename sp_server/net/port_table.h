// Which local addresses and ports are in use, and who may share one: Linux's rules.
#ifndef SP_SERVER_NET_PORT_TABLE_H_
#define SP_SERVER_NET_PORT_TABLE_H_

#include <stdint.h>

#include <functional>
#include <vector>

#include "lwip/ip_addr.h"
#include "protocol/errno.h"

namespace rump {

// The range of ports that the system chooses from.
inline constexpr uint16_t kFirstEphemeralPort = 32768;
inline constexpr uint16_t kLastEphemeralPort = 60999;

// One claim on a port. Shared between a socket and its lwIP connection, which may live on in
// TIME_WAIT: the last of them frees it.
struct PortUse {
  ip_addr_t address;  // IPADDR_TYPE_ANY for all of both families
  uint16_t port = 0;
  bool reuse_address = false;
  bool reuse_port = false;
  bool listening = false;
  // Chosen by connect: others may share the port as long as the remote end differs.
  bool for_connect = false;

  PortUse() = default;
  PortUse(const PortUse&) = delete;
  PortUse& operator=(const PortUse&) = delete;
  void Ref() { ++refs_; }
  void Unref();

 private:
  friend class PortTable;
  ~PortUse() = default;
  int refs_ = 1;
  class PortTable* table_ = nullptr;
  PortUse* prev_ = nullptr;
  PortUse* next_ = nullptr;
};

class PortTable {
 public:
  PortTable() : heads_(65536) {}
  PortTable(const PortTable&) = delete;
  PortTable& operator=(const PortTable&) = delete;

  // Enters `use` under its port, or under a free ephemeral one if that is 0. EADDRINUSE.
  Errno Claim(PortUse* use);
  // Enters `use`, whose port is 0, under an ephemeral port for a connection: a port that nobody
  // has, else one for which `taken` is false. EADDRNOTAVAIL.
  Errno ClaimForConnect(PortUse* use, const std::function<bool(uint16_t port)>& taken);
  // Enters `use` without asking: the connection of a listener that is entered.
  void Add(PortUse* use);
  // Whether `use`, entered, would collide with another if it were as it is now: before listening.
  bool Collides(const PortUse& use) const;

 private:
  friend struct PortUse;
  void Remove(PortUse* use);

  std::vector<PortUse*> heads_;  // by port
};

}  // namespace rump

#endif  // SP_SERVER_NET_PORT_TABLE_H_
