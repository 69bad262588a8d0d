// AF_NETLINK sockets of the family NETLINK_ROUTE.
#ifndef SP_SERVER_NET_NETLINK_SOCKET_H_
#define SP_SERVER_NET_NETLINK_SOCKET_H_

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <set>
#include <vector>

#include "sp_server/kernel/socket.h"
#include "sp_server/net/datagram_queue.h"
#include "sp_server/net/inet_options.h"

namespace rump {

// The port ids that sockets have.
using NetlinkPorts = std::set<uint32_t>;

// As netlink(7) says. The stack answers at once, so that all there is to receive are answers; it
// tells nobody of changes. An answer that finds SO_RCVBUF used up, or what all sockets share, is
// lost, and the next receive fails with ENOBUFS.
class NetlinkSocket final : public Socket {
 public:
  // `type`: SOCK_RAW or SOCK_DGRAM. `flags` as File's. `memory`: for answers, see DatagramQueue.
  NetlinkSocket(std::shared_ptr<NetlinkPorts> ports, int type, int flags,
                std::shared_ptr<Budget> memory);
  ~NetlinkSocket() override;

  uint32_t Poll() const override;
  Errno Ioctl(uint64_t request, std::span<std::byte> arg) override;

  Errno Bind(const SocketAddress& address) override;
  Errno Listen(int backlog) override;
  Result<std::shared_ptr<Socket>> Accept(SocketAddress* peer) override;
  Errno Connect(const SocketAddress& address) override;
  Result<SocketAddress> LocalAddress() override;
  Result<SocketAddress> PeerAddress() override;
  Result<size_t> Send(std::span<const std::byte> data, const SocketAddress* to, int flags) override;
  Result<Received> Receive(std::span<std::byte> buffer, int flags) override;
  Errno Shutdown(int how) override;
  Errno SetOption(int level, int name, std::span<const std::byte> value) override;
  Result<size_t> GetOption(int level, int name, std::span<std::byte> value) override;
  Errno TakeError() override;

 private:
  Errno BindTo(uint32_t port);
  Errno Autobind();
  bool Queue(std::vector<std::byte> datagram);

  const std::shared_ptr<NetlinkPorts> ports_;
  InetOptions options_;
  uint32_t port_ = 0;  // 0: none yet
  uint32_t groups_ = 0;
  int error_ = 0;
  DatagramQueue<std::vector<std::byte>> received_;
};

}  // namespace rump

#endif  // SP_SERVER_NET_NETLINK_SOCKET_H_
