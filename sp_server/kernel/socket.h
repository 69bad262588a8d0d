// What a socket can do beyond a file, and the registry of socket families.
#ifndef SP_SERVER_KERNEL_SOCKET_H_
#define SP_SERVER_KERNEL_SOCKET_H_

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/kernel/file.h"

namespace rump {

// Linux's net.core.somaxconn.
inline constexpr int kMaxBacklog = 4096;

// A socket address of any family, Linux layout; len 0 means none.
struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t len = 0;

  sa_family_t family() const { return len == 0 ? sa_family_t{AF_UNSPEC} : storage.ss_family; }
  std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(&storage), len};
  }
};

// What Receive found.
struct Received {
  size_t copied = 0;     // bytes put into the buffer
  size_t length = 0;     // of the whole datagram; for streams, copied or thrown away (MSG_TRUNC)
  SocketAddress from;    // sender; len 0 for streams
  int flags = 0;         // MSG_TRUNC and kin
  bool at_mark = false;  // a stream's next byte is urgent: a receive ends before it
  std::vector<std::byte> control = {};  // control messages, as recvmsg(2) has them
};

// As File: nothing blocks, EAGAIN means wait on waiters(). Errno values are those of the manual
// page of the call that each function serves.
class Socket : public File {
 public:
  Socket(int domain, int type, int protocol, int flags)
      : File(flags), domain_(domain), type_(type), protocol_(protocol) {}

  Socket* AsSocket() final { return this; }
  int domain() const { return domain_; }
  int type() const { return type_; }
  int protocol() const { return protocol_; }
  // The process that listens or connects with it last: what SO_PEERCRED tells the other end.
  int user() const { return user_; }
  void set_user(int pid) { user_ = pid; }

  virtual Errno Bind(const SocketAddress& address) = 0;
  virtual Errno Listen(int backlog) = 0;
  // Takes the oldest finished connection off the queue; `peer` gets its address.
  virtual Result<std::shared_ptr<Socket>> Accept(SocketAddress* peer) = 0;
  // How many connections were taken by Accept for somebody who has not accepted them yet: they
  // count towards the backlog. Nothing to know for sockets that do not listen.
  virtual void SetAcceptDebt(size_t /*connections*/) {}
  // Starts to connect: kOk if that is done at once, EINPROGRESS if POLLOUT will tell, EALREADY,
  // EISCONN… After POLLOUT, TakeError() has the outcome. EAGAIN: the listener has no room; POLLOUT
  // tells when to try again. AF_UNSPEC dissolves a datagram socket's.
  virtual Errno Connect(const SocketAddress& address) = 0;
  // Makes this and `other`, fresh sockets of the same kind, the ends of a socketpair(2).
  virtual Errno ConnectPair(Socket& /*other*/) { return Errno(EOPNOTSUPP); }
  virtual Result<SocketAddress> LocalAddress() = 0;
  // ENOTCONN without a peer.
  virtual Result<SocketAddress> PeerAddress() = 0;
  // `to`: nullptr or len 0 for the connected peer. `flags`: MSG_* that matter to the socket itself.
  virtual Result<size_t> Send(std::span<const std::byte> data, const SocketAddress* to,
                              int flags) = 0;
  // The same for sendmsg(2) with control messages, which most sockets have no use for.
  virtual Result<size_t> SendMessage(std::span<const std::byte> data, const SocketAddress* to,
                                     std::span<const std::byte> /*control*/, int flags) {
    return Send(data, to, flags);
  }
  // Send to the peer, as File::WriteKept.
  virtual Result<size_t> SendKept(std::span<const std::byte> data,
                                  const std::shared_ptr<const void>& /*keeper*/, int flags) {
    return SendMessage(data, nullptr, {}, flags);
  }
  virtual Result<Received> Receive(std::span<std::byte> buffer, int flags) = 0;
  virtual Errno Shutdown(int how) = 0;
  virtual Errno SetOption(int level, int name, std::span<const std::byte> value) = 0;
  // Writes at most value.size() bytes, as getsockopt(2) does; returns how many. SO_TYPE, SO_DOMAIN,
  // SO_PROTOCOL and SO_ERROR included.
  virtual Result<size_t> GetOption(int level, int name, std::span<std::byte> value) = 0;
  // The pending error, which is cleared; kOk if none.
  virtual Errno TakeError() = 0;

  // File's operations on a socket are Send and Receive without address and flags.
  Result<size_t> Read(std::span<std::byte> buffer) final {
    Result<Received> r = Receive(buffer, 0);
    if (!r.ok()) return r.error();
    return r->copied;
  }
  Result<size_t> Write(std::span<const std::byte> data) final { return Send(data, nullptr, 0); }

 private:
  const int domain_;
  const int type_;
  const int protocol_;
  int user_ = 0;
};

class HostSocket;

// A connected stream whose bytes can be taken where they lie: what the pump moves.
class StreamSocket : public Socket {
 public:
  using Socket::Socket;

  // The program's descriptor that the socket is behind; nullptr if there is none.
  HostSocket* host() const { return host_; }
  void set_host(HostSocket* host) { host_ = host; }

  // Fills `iov` with received bytes in order, without taking them; returns how many entries. 0 with
  // receive_eof() means that the peer has finished sending.
  virtual size_t PeekReceived(std::span<iovec> iov) const = 0;
  // Whether the next byte is urgent. PeekReceived shows it alone, and before that none from it on.
  virtual bool AtMark() const { return false; }
  // Takes `bytes`, which PeekReceived showed.
  virtual void ConsumeReceived(size_t bytes) = 0;
  virtual bool receive_eof() const = 0;
  // How many bytes Send takes now; 0 if none. POLLOUT tells when it grows again.
  virtual size_t SendSpace() const = 0;
  // Fills `iov` with room in the stack's own buffers for at most `bytes`, which SendPrepared is
  // then to send. Returns how many entries; 0 where Send is as good.
  virtual size_t PrepareSend(size_t /*bytes*/, std::span<iovec> /*iov*/) { return 0; }
  // Sends the first `bytes` of that room, at most SendSpace(), and gives it back. False: not all of
  // them went in.
  virtual bool SendPrepared(size_t /*bytes*/) { return false; }
  // What TakeError would return.
  virtual Errno pending_error() const = 0;
  // What the program has set `option`, SO_SNDBUF or SO_RCVBUF, to: in bytes as it gave them, or
  // what the limits make of that; 0 if it has not.
  virtual size_t BufferAskedFor(int option) const = 0;
  // Drops the connection with a reset.
  virtual void Abort() = 0;

  // Before listening: whether connections from sockets of this stack may leave it when they are
  // accepted.
  virtual void set_accepts_directly(bool /*accepts*/) {}
  // The other end, if this one or that one was just accepted and the connection may leave the
  // stack. Until that is decided neither may send.
  virtual StreamSocket* DirectPeer() const { return nullptr; }
  // Whether a connection to `address` would be made in the stack.
  virtual bool PassesStack(const SocketAddress& /*address*/) { return false; }
  // Whether the connection never was in the stack, and cannot get there.
  virtual bool OnlyDirect() const { return false; }
  // The connection stays in the stack.
  virtual void StayInStack() {}
  // This end and its DirectPeer leave the stack, which has moved no byte yet: names and options are
  // all that they are asked for from now on.
  virtual void LeaveStack() {}

 private:
  HostSocket* host_ = nullptr;
};

// Makes the sockets of a family, by the registry below.
using SocketFactory =
    std::function<Result<std::shared_ptr<Socket>>(int domain, int type, int protocol, int flags)>;

// The socket families that the kernel offers, by number.
class SocketFamilies {
 public:
  void Register(int domain, SocketFactory factory) { factories_[domain] = std::move(factory); }
  // `type` without SOCK_NONBLOCK and SOCK_CLOEXEC; `flags` as File's. EAFNOSUPPORT for a family
  // that nobody registered; EPROTONOSUPPORT, ESOCKTNOSUPPORT from the factory.
  Result<std::shared_ptr<Socket>> Create(int domain, int type, int protocol, int flags) const {
    auto it = factories_.find(domain);
    if (it == factories_.end()) return Errno(EAFNOSUPPORT);
    return it->second(domain, type, protocol, flags);
  }

 private:
  std::map<int, SocketFactory> factories_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_SOCKET_H_
