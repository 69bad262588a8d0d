#include "sp_server/net/netlink_socket.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <utility>

#include "sp_server/net/interfaces.h"
#include "sp_server/net/route_messages.h"

namespace rump {
namespace {

// The highest port id of those that the system chooses, downwards. Linux's first choice is the
// process's number, which may be that of another process of the program here.
constexpr uint32_t kFirstPort = static_cast<uint32_t>(-4097);

SocketAddress ToSocketAddress(uint32_t port, uint32_t groups) {
  SocketAddress result;
  auto& address = reinterpret_cast<sockaddr_nl&>(result.storage);
  address.nl_family = AF_NETLINK;
  address.nl_pid = port;
  address.nl_groups = groups;
  result.len = sizeof address;
  return result;
}

Result<sockaddr_nl> Parse(const SocketAddress& address) {
  sockaddr_nl parsed;
  if (address.len < sizeof parsed || address.family() != AF_NETLINK) return Errno(EINVAL);
  memcpy(&parsed, &address.storage, sizeof parsed);
  return parsed;
}

}  // namespace

NetlinkSocket::NetlinkSocket(std::shared_ptr<NetlinkPorts> ports, int type, int flags,
                             std::shared_ptr<Budget> memory)
    : Socket(AF_NETLINK, type, NETLINK_ROUTE, flags),
      ports_(std::move(ports)),
      options_(AF_NETLINK, IPPROTO_UDP),
      received_(std::move(memory)) {}

NetlinkSocket::~NetlinkSocket() { ports_->erase(port_); }

Errno NetlinkSocket::BindTo(uint32_t port) {
  if (!ports_->insert(port).second) return Errno(EADDRINUSE);
  port_ = port;
  return kOk;
}

Errno NetlinkSocket::Autobind() {
  if (port_ != 0) return kOk;
  uint32_t port = kFirstPort;
  while (ports_->contains(port)) --port;
  return BindTo(port);
}

Errno NetlinkSocket::Bind(const SocketAddress& address) {
  const Result<sockaddr_nl> parsed = Parse(address);
  if (!parsed.ok()) return parsed.error();
  if (port_ != 0 && parsed->nl_pid != port_) return Errno(EINVAL);
  if (port_ == 0) {
    const Errno error = parsed->nl_pid != 0 ? BindTo(parsed->nl_pid) : Autobind();
    if (!error.ok()) return error;
  }
  groups_ = parsed->nl_groups;
  return kOk;
}

Errno NetlinkSocket::Listen(int) { return Errno(EOPNOTSUPP); }

Result<std::shared_ptr<Socket>> NetlinkSocket::Accept(SocketAddress*) { return Errno(EOPNOTSUPP); }

Errno NetlinkSocket::Connect(const SocketAddress& address) {
  if (address.len >= sizeof(sa_family_t) && address.family() == AF_UNSPEC) return kOk;
  const Result<sockaddr_nl> parsed = Parse(address);
  if (!parsed.ok()) return parsed.error();
  // The kernel is the only one to talk to.
  if (parsed->nl_pid != 0 || parsed->nl_groups != 0) return Errno(EPERM);
  return Autobind();
}

Result<SocketAddress> NetlinkSocket::LocalAddress() { return ToSocketAddress(port_, groups_); }

Result<SocketAddress> NetlinkSocket::PeerAddress() { return ToSocketAddress(0, 0); }

bool NetlinkSocket::Queue(std::vector<std::byte> datagram) {
  const size_t bytes = datagram.size();
  const auto buffer_size = static_cast<size_t>(options_.Int(SOL_SOCKET, SO_RCVBUF));
  if (received_.Push(std::move(datagram), bytes, buffer_size)) return true;
  error_ = ENOBUFS;
  waiters().Notify(kReadable | POLLERR);
  return false;
}

Result<size_t> NetlinkSocket::Send(std::span<const std::byte> data, const SocketAddress* to,
                                   int flags) {
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (to != nullptr && to->len > 0) {
    const Result<sockaddr_nl> parsed = Parse(*to);
    if (!parsed.ok()) return parsed.error();
    if (parsed->nl_groups != 0) return Errno(EPERM);
    if (parsed->nl_pid != 0) return Errno(ECONNREFUSED);
  }
  if (const Errno error = Autobind(); !error.ok()) return error;
  (void)AnswerRouteRequest(
      data, port_, [this](std::vector<std::byte> datagram) { return Queue(std::move(datagram)); });
  if (!received_.empty()) waiters().Notify(kReadable);
  return data.size();
}

Result<Received> NetlinkSocket::Receive(std::span<std::byte> buffer, int flags) {
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if ((flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  if (error_ != 0) return Errno(std::exchange(error_, 0));
  if (received_.empty()) return Errno(EAGAIN);
  const std::vector<std::byte>& datagram = received_.front();
  Received result;
  result.length = datagram.size();
  result.copied = std::min(result.length, buffer.size());
  if (result.copied > 0) memcpy(buffer.data(), datagram.data(), result.copied);
  if (result.copied < result.length) result.flags |= MSG_TRUNC;
  result.from = ToSocketAddress(0, 0);
  if ((flags & MSG_PEEK) == 0) received_.Pop();
  return result;
}

Errno NetlinkSocket::Shutdown(int) { return Errno(EOPNOTSUPP); }

uint32_t NetlinkSocket::Poll() const {
  return kWritable | (received_.empty() ? 0 : kReadable) | (error_ != 0 ? POLLERR : 0U);
}

Errno NetlinkSocket::Ioctl(uint64_t request, std::span<std::byte> arg) {
  return InterfaceIoctl(domain(), request, arg);
}

Errno NetlinkSocket::TakeError() { return Errno(std::exchange(error_, 0)); }

Errno NetlinkSocket::SetOption(int level, int name, std::span<const std::byte> value) {
  if (level == SOL_SOCKET) return options_.Set(level, name, value, nullptr);
  if (level != SOL_NETLINK) return Errno(ENOPROTOOPT);
  switch (name) {
    // About things that never happen here, or only make an answer longer.
    case NETLINK_ADD_MEMBERSHIP:
    case NETLINK_DROP_MEMBERSHIP:
    case NETLINK_BROADCAST_ERROR:
    case NETLINK_NO_ENOBUFS:
    case NETLINK_EXT_ACK:
    case NETLINK_CAP_ACK:
      return value.size() < sizeof(int) ? Errno(EINVAL) : kOk;
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<size_t> NetlinkSocket::GetOption(int level, int name, std::span<std::byte> value) {
  if (level != SOL_SOCKET) return Errno(ENOPROTOOPT);
  int number;
  switch (name) {
    case SO_TYPE:
      number = type();
      break;
    case SO_PROTOCOL:
      number = protocol();
      break;
    case SO_ERROR:
      number = std::exchange(error_, 0);
      break;
    default:
      return options_.Get(level, name, value);
  }
  return InetOptions::Put(value, &number, sizeof number);
}

}  // namespace rump
