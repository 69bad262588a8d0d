// A socket of the kernel behind a real descriptor of a program: the server's half of the extension
// "hostfd". The program holds end C of a socketpair, this object end S.
#ifndef SP_SERVER_KERNEL_HOST_SOCKET_H_
#define SP_SERVER_KERNEL_HOST_SOCKET_H_

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <optional>

#include "protocol/errno.h"
#include "protocol/syscalls.h"
#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/socket.h"
#include "sp_server/kernel/stream_pump.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

class HostObjects;

// A new pair, S kept and C to give away.
struct HostPair {
  enum class Use {
    kFresh,      // for a stream that is to connect or listen
    kConnected,  // for the stream that a listener has accepted
    kDirect,     // for the same: C is the other end of the connecting program's pair, there is no S
    kDatagram,
  };
  Use use;
  uint64_t id = 0;  // of the object, after which C is named
  UniqueFd s;
  UniqueFd c;
  uint64_t c_cookie = 0;  // SO_COOKIE of C, by which a process proves to hold it
  size_t junk = 0;        // bytes in S that are none of the stream's
  Share share;            // what the owner's limit counts
};

class HostSocket final : public std::enable_shared_from_this<HostSocket>,
                         private Waiter,
                         private EventLoop::Watcher {
 public:
  // `objects` outlives this. Takes all of `pair` but its C, which the creator gives away after
  // construction.
  HostSocket(HostObjects* objects, std::shared_ptr<Socket> socket, HostPair* pair);
  ~HostSocket() override;

  uint64_t id() const { return id_; }
  // Whether nothing tells of the end of C: it is looked for.
  bool silent() const { return state_ == State::kDirect || (state_ == State::kFresh && !watched_); }
  // Whether it is among those that HostObjects looks at.
  bool is_looked_at() const { return is_looked_at_; }
  void set_is_looked_at(bool looked_at) { is_looked_at_ = looked_at; }
  Socket& socket() const { return *socket_; }
  std::shared_ptr<Socket> socket_ptr() const { return socket_; }
  // The socket of a stream.
  StreamSocket& stream() const { return static_cast<StreamSocket&>(*socket_); }
  uint64_t c_cookie() const { return c_cookie_; }

  // The calls that change how S and the socket hang together; all answer at once.
  Errno Listen(int backlog);
  // See kSysHostConnect in protocol/syscalls.h.
  Result<uint64_t> Connect(const SocketAddress& address, uint64_t flags);
  // Whether the byte that `notify` asked for has been sent; it will not be any more.
  bool AbandonConnect();
  // While connecting without `notify`: C has sent `bytes` that are none of the stream's, so that it
  // is not writable. Nothing is told of the connection before. ENOTCONN: it is decided already.
  Errno FillConnect(size_t bytes);
  // After SO_RCVBUF has been set.
  void ReceiveBufferSet();
  // The program is about to send urgent data.
  void ExpectUrgent();
  // After a receive that was not a peek: the client has taken the readiness byte.
  void DatagramTaken();
  // The readiness byte may have gone with a process that has ended, before it asked for anything:
  // looks in a while whether it has come to be nobody's, and then sends another.
  void LookForByte();

  // Whether no C is open in any process any more, nor has one left bytes that are still to be sent.
  bool Finished() const;
  // Does what S and the socket are ready for. Called by HostObjects.
  void Run();
  void Schedule();

  // Gives S away, with the name of the object *peer, as the C of the one to whose socket this one
  // is connected and which has accepted it; from now on no byte of the connection passes here.
  // Invalid if that cannot be.
  UniqueFd ConnectDirectly(uint64_t* peer);
  // Takes out of S what has been passed on. Called by HostObjects, some time after TrimLater.
  void Trim();

 private:
  // Whether no C is open in any process any more.
  bool HostClosed() const;
  // kDead: the connection is lost and S closed, or S has been shut down with its listener. Only
  // names and options are left to ask for.
  // kDirect: the bytes pass between two programs, without S; only names and options are left, too.
  enum class State { kFresh, kListening, kConnecting, kConnected, kDirect, kDatagram, kDead };

  static State InitialState(HostPair::Use use);

  void OnReady(uint32_t mask) override;
  void OnEvents(uint32_t events) override;
  // Errors of epoll_ctl(2), which only the first one meets.
  Errno WatchS(bool writable);
  // Whether S is watched; else it will be, as soon as the host has room for that.
  bool WatchSOrRetry();
  void RunListening();
  // Takes a connection and makes unsent_ of it. False if there is none, or no pair for it.
  bool AcceptNext();
  // Puts unsent_'s socket behind a pair: the connecting program's own, if that is one of ours, or
  // a new one.
  bool MakeUnsentObject();
  void DropUnsent();
  // Whether the other end is about to be accepted by a program of ours, which may get S.
  bool AwaitsDirectPeer() const { return stream().DirectPeer() != nullptr; }
  // Runs again when there may be descriptors, or memory.
  void RetryLater();
  void RunConnecting();
  void RunConnected();
  // Whether SO_LINGER says that closing is a reset.
  bool ResetsOnClose() const;
  // Lets C write: takes the junk out of S, but for a byte that the pump keeps.
  void BecomeConnected();
  // Takes what is in S of `junk` bytes. Returns how many are still to come.
  size_t TakeJunk(size_t junk);
  // Puts the readiness byte on S if there is something to receive and no byte is out.
  void MirrorReadiness();
  // The connection is lost, by a reset or another error: closes S so that C shows it.
  void DieOf(StreamSocket& stream);
  void Die();
  void CloseS();
  // Brings records_ up to date where it matters: when there may be too many.
  void CountRecords();
  size_t MostRecords() const;
  bool MayHaveManyRecords() const;

  HostObjects* const objects_;
  const uint64_t id_;
  const std::shared_ptr<Socket> socket_;
  const uint64_t c_cookie_;
  const Share share_;
  UniqueFd s_;
  State state_;
  size_t junk_;  // bytes in S that are none of the stream's
  bool scheduled_ = false;
  bool trim_pending_ = false;
  bool bulk_ = false;
  bool is_looked_at_ = false;
  bool watched_ = false;  // S is: fresh sockets of streams are not
  bool watches_writable_ = false;
  bool hangup_ = false;       // S has shown HUP: C may be closed
  bool host_closed_ = false;  // a connection's C is, in all processes
  bool notify_ = false;       // connecting: a byte on S tells the outcome
  bool notified_ = false;
  bool to_be_filled_ = false;  // connecting: until FillConnect
  bool byte_out_ = false;      // datagrams: the readiness byte is in C
  uint32_t bytes_sent_ = 0;    // datagrams: readiness bytes, modulo 2^32
  bool look_pending_ = false;
  bool retry_pending_ = false;
  size_t backlog_ = 0;      // listening: unaccepted connections allowed
  size_t records_ = 0;      // listening: sent and, as far as is known, not accepted
  size_t record_cost_ = 0;  // what one unaccepted record adds to SIOCOUTQ of S
  // Listening: a connection that S has not taken yet.
  struct Unsent {
    std::shared_ptr<Socket> socket;
    AcceptRecord record;
    std::shared_ptr<HostSocket> object;  // nullptr: there is none yet
    UniqueFd c;
  };
  std::unique_ptr<Unsent> unsent_;
  std::optional<Errno> outcome_;  // connecting: known, and not told yet
  StreamPump pump_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_HOST_SOCKET_H_
