// The connections between sockets of this host that lwIP does not know of: direct pairs.
#ifndef SP_SERVER_NET_CONNECTION_SET_H_
#define SP_SERVER_NET_CONNECTION_SET_H_

#include <stdint.h>

#include <unordered_map>
#include <utility>

#include "sp_server/net/inet_address.h"

namespace rump {

// Both ends of a connection are entered, each with its own address as the local one.
class ConnectionSet {
 public:
  void Add(const InetAddress& local, const InetAddress& remote) {
    connections_.emplace(Ports(local, remote), std::pair(local.ip, remote.ip));
  }
  void Remove(const InetAddress& local, const InetAddress& remote) {
    if (const auto it = Find(local, remote); it != connections_.end()) connections_.erase(it);
  }
  bool Contains(const InetAddress& local, const InetAddress& remote) const {
    return Find(local, remote) != connections_.end();
  }

 private:
  using Map = std::unordered_multimap<uint32_t, std::pair<ip_addr_t, ip_addr_t>>;

  static uint32_t Ports(const InetAddress& local, const InetAddress& remote) {
    return uint32_t{local.port} << 16 | remote.port;
  }
  Map::const_iterator Find(const InetAddress& local, const InetAddress& remote) const {
    const auto [first, last] = connections_.equal_range(Ports(local, remote));
    for (auto it = first; it != last; ++it) {
      const auto& [local_ip, remote_ip] = it->second;
      if (ip_addr_cmp(&local_ip, &local.ip) && ip_addr_cmp(&remote_ip, &remote.ip)) return it;
    }
    return connections_.end();
  }

  Map connections_;
};

}  // namespace rump

#endif  // SP_SERVER_NET_CONNECTION_SET_H_
