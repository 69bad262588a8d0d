// AF_UNIX sockets between the processes of the kernel: streams, datagrams, sequenced packets. Their
// names, paths too, are the kernel's own and have nothing to do with the host's.
#ifndef SP_SERVER_KERNEL_UNIX_SOCKET_H_
#define SP_SERVER_KERNEL_UNIX_SOCKET_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include <deque>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/socket.h"
#include "sp_server/kernel/unix_names.h"

namespace rump {

// As unix(7) says, without ancillary data. Queues are bounded by the sender's SO_SNDBUF
// and by the memory for all of them: ENOBUFS.
class UnixSocket final : public Socket, public std::enable_shared_from_this<UnixSocket> {
 public:
  // For std::make_shared alone. `type`: SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET. `flags` as File's.
  UnixSocket(std::shared_ptr<UnixNames> names, int type, int flags);
  ~UnixSocket() override;

  uint32_t Poll() const override;
  Errno Ioctl(uint64_t request, std::span<std::byte> arg) override;

  Errno Bind(const SocketAddress& address) override;
  Errno Listen(int backlog) override;
  Result<std::shared_ptr<Socket>> Accept(SocketAddress* peer) override;
  // Of a stream: decided at once, or EAGAIN.
  Errno Connect(const SocketAddress& address) override;
  Errno ConnectPair(Socket& other) override;
  Result<SocketAddress> LocalAddress() override;
  Result<SocketAddress> PeerAddress() override;
  Result<size_t> Send(std::span<const std::byte> data, const SocketAddress* to, int flags) override;
  Result<Received> Receive(std::span<std::byte> buffer, int flags) override;
  Errno Shutdown(int how) override;
  Errno SetOption(int level, int name, std::span<const std::byte> value) override;
  Result<size_t> GetOption(int level, int name, std::span<std::byte> value) override;
  Errno TakeError() override { return Errno(std::exchange(error_, 0)); }

 private:
  enum class State { kFresh, kListening, kConnected };
  static constexpr uint8_t kShutRead = 1;
  static constexpr uint8_t kShutWrite = 2;
  static constexpr uint8_t kShutBoth = kShutRead | kShutWrite;

  // A record, or a piece of a stream.
  struct Message {
    std::vector<std::byte> data;
    size_t begin = 0;                           // of a stream's piece: what has been read of it
    std::shared_ptr<const SocketAddress> from;  // nullptr: a sender without a name
  };
  // Waits for room in the queue of `target`.
  class RoomWaiter final : public Waiter {
   public:
    RoomWaiter(UnixSocket* socket, UnixSocket* target) : socket_(socket), target_(target) {}

   private:
    void OnReady(uint32_t) override { socket_->Unblock(target_); }
    void OnGone() override { socket_->Unblock(target_); }

    UnixSocket* const socket_;
    UnixSocket* const target_;
  };

  bool has_connections() const { return type() != SOCK_DGRAM; }
  // The socket that `address` names: ENOENT, ECONNREFUSED, EPROTOTYPE.
  Result<std::shared_ptr<UnixSocket>> FindOther(const SocketAddress& address) const;
  // Whether a datagram socket takes messages from `sender`.
  bool TakesFrom(const UnixSocket* sender) const;
  void SetPeer(UnixSocket& peer);
  void OnPeerClosed(bool reset);
  size_t StreamRoom(const UnixSocket& peer) const;
  Result<size_t> SendStream(std::span<const std::byte> data);
  Result<size_t> SendRecord(std::span<const std::byte> data, const SocketAddress* to);
  Result<Received> ReceiveStream(std::span<std::byte> buffer, bool peek);
  Result<Received> ReceiveRecord(std::span<std::byte> buffer, bool peek);
  // Until `target` has room or is gone, this socket is not writable. Returns EAGAIN.
  Errno BlockOn(UnixSocket* target);
  void Unblock(UnixSocket* target);

  const std::shared_ptr<UnixNames> names_;
  State state_ = State::kFresh;
  bool accepted_by_program_ = true;
  uint8_t shutdown_ = 0;
  int error_ = 0;
  UnixNames::Name bound_name_;  // while `bound_`
  bool bound_ = false;
  std::shared_ptr<const SocketAddress> name_;  // nullptr: none
  std::shared_ptr<const SocketAddress> peer_name_;
  std::weak_ptr<UnixSocket> peer_;
  int peer_user_ = 0;
  std::deque<Message> received_;
  Share received_cost_;
  std::deque<std::shared_ptr<UnixSocket>> accepted_;
  Share accepted_cost_;
  size_t backlog_ = 0;
  int send_buffer_;
  std::map<int, int> options_;  // set ones of SOL_SOCKET that are kept and mean nothing more
  timeval receive_timeout_ = {};
  timeval send_timeout_ = {};
  WaitQueue room_;  // those that wait for room in received_ or accepted_
  std::map<UnixSocket*, RoomWaiter> blocked_;
};

// Offers AF_UNIX, with a name space of its own. `memory`: see UnixNames.
void RegisterUnix(SocketFamilies* families, std::shared_ptr<Budget> memory);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_UNIX_SOCKET_H_
