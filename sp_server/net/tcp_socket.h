// TCP sockets over IPv4 and IPv6.
#ifndef SP_SERVER_NET_TCP_SOCKET_H_
#define SP_SERVER_NET_TCP_SOCKET_H_

#include <stdint.h>

#include <deque>
#include <memory>
#include <optional>

#include "lwip/tcp.h"
#include "sp_server/kernel/socket.h"
#include "sp_server/net/inet_address.h"
#include "sp_server/net/inet_options.h"
#include "sp_server/net/net_stack.h"
#include "sp_server/net/port_table.h"
#include "sp_server/net/receive_queue.h"
#include "sp_server/net/shared_bytes.h"

struct tcp_hdr;

namespace rump {

// As tcp(7) and socket(7) say. Destroying the socket closes it: what was sent is still delivered,
// unless received data was left unread or SO_LINGER is 0, which reset the connection.
//
// Connect always starts with EINPROGRESS, on loopback too: the peer's answer is a packet. A caller
// that wants to know at once calls NetStack::Drain and then TakeError, or Connect again.
class TcpSocket final : public StreamSocket {
 public:
  // `domain`: AF_INET or AF_INET6. `flags` as File's.
  TcpSocket(NetStack* stack, int domain, int flags);
  ~TcpSocket() override;

  uint32_t Poll() const override;
  Errno Ioctl(uint64_t request, std::span<std::byte> arg) override;

  Errno Bind(const SocketAddress& address) override;
  Errno Listen(int backlog) override;
  Result<std::shared_ptr<Socket>> Accept(SocketAddress* peer) override;
  void SetAcceptDebt(size_t connections) override;
  Errno Connect(const SocketAddress& address) override;
  Result<SocketAddress> LocalAddress() override;
  Result<SocketAddress> PeerAddress() override;
  Result<size_t> Send(std::span<const std::byte> data, const SocketAddress* to, int flags) override;
  Result<size_t> SendKept(std::span<const std::byte> data,
                          const std::shared_ptr<const void>& keeper, int flags) override;
  Result<Received> Receive(std::span<std::byte> buffer, int flags) override;
  Errno Shutdown(int how) override;
  Errno SetOption(int level, int name, std::span<const std::byte> value) override;
  Result<size_t> GetOption(int level, int name, std::span<std::byte> value) override;
  // Also takes note of a connect's outcome, which Connect then does not report again.
  Errno TakeError() override;

  size_t PeekReceived(std::span<iovec> iov) const override;
  bool AtMark() const override { return urgent_ != Urgent::kNone && mark_ == read_seq_; }
  void ConsumeReceived(size_t bytes) override;
  bool receive_eof() const override { return (shutdown_ & kShutRead) != 0; }
  size_t SendSpace() const override;
  size_t PrepareSend(size_t bytes, std::span<iovec> iov) override;
  bool SendPrepared(size_t bytes) override;
  Errno pending_error() const override { return Errno(error_); }
  size_t BufferAskedFor(int option) const override;
  void Abort() override;

  void set_accepts_directly(bool accepts) override { accepts_directly_ = accepts; }
  StreamSocket* DirectPeer() const override { return direct_peer_; }
  bool PassesStack(const SocketAddress& address) override;
  bool OnlyDirect() const override { return direct_.has_value(); }
  void StayInStack() override;
  void LeaveStack() override;

  // For lwIP's hooks, since it has no urgent data: a segment with URG has come, in host order but
  // for urgp; a segment is about to be sent, in network order.
  static void OnUrgent(tcp_pcb* pcb, const tcp_hdr* header);
  static void MarkUrgent(const tcp_pcb* pcb, tcp_hdr* header);
  // The same for the largest segment that the other end is asked for: `option` is what lwIP has put
  // into a SYN, in network order.
  static void LimitMssOption(const tcp_pcb* pcb, u32_t* option);
  // A connection is about to come to `listener`: the next one's turn is another's of those that
  // share the port by SO_REUSEPORT.
  static void PassTurn(tcp_pcb_listen* listener);

 private:
  enum class State {
    kClosed,  // fresh, bound, or over
    kListening,
    kConnecting,
    kConnected,  // also while either side is shut down
  };
  // What is known of the last urgent byte, until it has been read past: nothing, where it is, or
  // that it has been taken by itself.
  enum class Urgent : uint8_t { kNone, kAnnounced, kTaken };
  // Directions that are shut down, by us or by the peer.
  static constexpr uint8_t kShutRead = 1;
  static constexpr uint8_t kShutWrite = 2;
  static constexpr uint8_t kShutBoth = kShutRead | kShutWrite;

  // The end of a connection that `listener` accepted.
  TcpSocket(const TcpSocket& listener, tcp_pcb* pcb);
  // The same of one between `local` and `remote` that the stack does not know of.
  TcpSocket(const TcpSocket& listener, const InetAddress& local, const InetAddress& remote);

  // lwIP's callbacks: they record what happened and tell the waiters, no more.
  static err_t OnConnected(void* arg, tcp_pcb* pcb, err_t error);
  static err_t OnAccepted(void* arg, tcp_pcb* pcb, err_t error);
  static err_t OnReceived(void* arg, tcp_pcb* pcb, pbuf* packet, err_t error);
  static err_t OnSent(void* arg, tcp_pcb* pcb, u16_t length);
  static err_t OnTick(void* arg, tcp_pcb* pcb);
  static void OnError(void* arg, err_t error);
  static void OnPortFreed(u8_t id, void* data);
  static err_t OnPassiveOpen(u8_t id, tcp_pcb_listen* listener, tcp_pcb* pcb);
  static void OnPcbFreed(u8_t id, void* data);

  // How long a SYN sent for the `retransmits`-th time again waits for its answer, in lwIP's slow
  // ticks: 1 s for the first, doubled with each.
  static s16_t SynTimeout(uint8_t retransmits);

  // Argument slots of lwIP's connections: the PortUse that it holds, its socket, and the sequence
  // number behind the last urgent byte sent, below kUrgentSent, until it is acknowledged.
  static constexpr u8_t kPortSlot = 0;
  static constexpr u8_t kSocketSlot = 1;
  static constexpr u8_t kUrgentSlot = 2;
  static constexpr uintptr_t kUrgentSent = uintptr_t{1} << 32;
  static const tcp_ext_arg_callbacks kPortCallbacks;
  static const tcp_ext_arg_callbacks kSocketCallbacks;

  bool v6only() const;
  bool ResetsOnClose() const;
  bool bound() const { return port_use_ != nullptr; }
  PortUse* NewPortUse(const ip_addr_t& address, uint16_t port) const;
  void ReleasePort();
  void Attach(tcp_pcb* pcb);
  tcp_pcb* Detach();
  void ApplyOptions();
  // Ends the socket's connection or listening, quietly or with a reset.
  void Close(bool reset);
  void StopListening();
  void UpdateBacklog();
  void InviteWaiting();
  void OnClosed();
  // Whether the options let it be an end of a direct pair.
  bool MayBeDirect() const;
  // The listener that a packet to `address` from this host would get to now, where that is certain.
  static TcpSocket* ListenerAt(const InetAddress& address);
  // Whether there is room for a connection, and nobody who waits for it.
  bool HasRoomAtOnce() const;
  // What connect(2) to `address` connects to; its errors.
  Result<InetAddress> Destination(const SocketAddress& address) const;
  // The listener that a connection from here can have at once, without a packet, or nullptr.
  TcpSocket* ListenerAtOnce(const InetAddress& remote) const;
  // Connects to a listener of this stack, if that is to be a direct pair and can be at once: no
  // packet has to say so. The port is claimed.
  bool ConnectAtOnce(const ip_addr_t& source, const InetAddress& remote);
  // The other end of a pair that was not accepted yet is no more.
  void OnDirectPeerGone();
  // Makes the end that has connected to this one, just accepted, its DirectPeer if both may leave
  // the stack.
  void FindDirectPeer();
  void LeaveStackAlone();
  // Back to a fresh socket, with the port if the program chose it.
  void Disconnect();
  size_t SendLimit() const;
  // The most that the peer may send before somebody takes it.
  size_t ReceiveLimit() const;
  // Gives the connection, of which nothing has come yet, its first window and largest segment.
  void LimitStream(tcp_pcb* pcb) const;
  // Opens the window as far as what is unread lets it.
  void OpenWindow();
  // Queues `data` behind what is unsent, as far as it goes in. With `block` it lies there, and is
  // not copied. Returns how many bytes.
  size_t Queue(std::span<const std::byte> data, bool more, SendBlock* block);
  // Send, of bytes of `block` unless that is nullptr.
  Result<size_t> SendFrom(SendBlock* block, std::span<const std::byte> data, int flags);
  // Whether `bytes` are better sent from a SendBlock than copied by lwIP.
  bool BlocksPay(size_t bytes) const;
  // Sends what is queued, of which `queued` bytes are new, unless it shall wait and not go
  // `at_once`.
  void Output(size_t queued, bool more, bool at_once);
  // Whether what is queued shall wait for more, by the cork or by Nagle.
  bool HoldsBack(bool more) const;
  void BeginStream();
  // How many bytes are to be read before the urgent one.
  size_t BytesToMark() const { return mark_ - read_seq_; }
  bool UrgentArrived() const {
    return urgent_ != Urgent::kNone && BytesToMark() < received_.size();
  }
  bool UrgentInline() const { return options_.Flag(SOL_SOCKET, SO_OOBINLINE); }
  // Whether reading skips the first byte.
  bool SkipsFirst() const { return AtMark() && UrgentArrived() && !UrgentInline(); }
  Result<Received> ReceiveUrgent(std::span<std::byte> buffer, int flags);
  uint8_t LinuxState() const;
  InetAddress Local() const;

  NetStack* const stack_;
  InetOptions options_;
  State state_ = State::kClosed;
  tcp_pcb* pcb_ = nullptr;       // a tcp_pcb_listen while listening; nullptr when lwIP has none
  PortUse* port_use_ = nullptr;  // counted reference
  bool explicitly_bound_ = false;
  bool outcome_pending_ = false;  // of a connect that nobody has asked for yet
  uint8_t shutdown_ = 0;
  int error_ = 0;
  uint8_t syn_retransmits_ = 0;
  u16_t largest_segment_ = 0;  // asked for by TCP_MAXSEG; 0: none
  size_t least_window_ = 0;    // below which the peer's segments may be too large for it
  uint32_t small_end_ = 0;     // sequence number behind the last segment that was not full
  InetAddress remote_;
  ReceiveQueue received_;
  uint32_t read_seq_ = 0;  // sequence number of the next byte to read
  uint32_t mark_ = 0;      // of the urgent byte
  Urgent urgent_ = Urgent::kNone;
  std::deque<std::shared_ptr<TcpSocket>> accepted_;
  int backlog_ = 0;
  int accept_debt_ = 0;
  // Listening: accepted connections may leave the stack.
  bool accepts_directly_ = false;
  TcpSocket* direct_peer_ = nullptr;
  // Of a connection that has left the stack.
  struct Direct {
    InetAddress local;
    uint16_t segment;  // TCP_MAXSEG
  };
  std::optional<Direct> direct_;
  bool was_full_ = false;  // peers may have been turned away since they were last invited
};

}  // namespace rump

#endif  // SP_SERVER_NET_TCP_SOCKET_H_
