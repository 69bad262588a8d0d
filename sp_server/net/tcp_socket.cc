#include "sp_server/net/tcp_socket.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "lwip/priv/tcp_priv.h"
#include "protocol/syscalls.h"

namespace rump {
namespace {

// lwIP's limits for a listener are one byte.
constexpr int kMaxHalfOpen = 255;

}  // namespace

TcpSocket::TcpSocket(NetStack* stack, int domain, int flags)
    : StreamSocket(domain, SOCK_STREAM, IPPROTO_TCP, flags),
      stack_(stack),
      options_(domain, IPPROTO_TCP) {}

TcpSocket::TcpSocket(const TcpSocket& listener, tcp_pcb* pcb)
    : StreamSocket(listener.domain(), SOCK_STREAM, IPPROTO_TCP, 0),
      stack_(listener.stack_),
      options_(listener.options_),
      state_(State::kConnected),
      port_use_(static_cast<PortUse*>(tcp_ext_arg_get(pcb, kPortSlot))),
      largest_segment_(listener.largest_segment_),
      remote_{pcb->remote_ip, pcb->remote_port} {
  port_use_->Ref();
  // The peer's acknowledgement, which follows, says what its buffer is; its SYN could not.
  pcb->snd_wnd_max = 0;
  Attach(pcb);
  BeginStream();
}

TcpSocket::TcpSocket(const TcpSocket& listener, const InetAddress& local, const InetAddress& remote)
    : StreamSocket(listener.domain(), SOCK_STREAM, IPPROTO_TCP, 0),
      stack_(listener.stack_),
      options_(listener.options_),
      state_(State::kConnected),
      port_use_(new PortUse),
      largest_segment_(listener.largest_segment_),
      remote_(remote) {
  port_use_->address = local.ip;
  port_use_->port = local.port;
  port_use_->reuse_address = listener.port_use_->reuse_address;
  port_use_->reuse_port = listener.port_use_->reuse_port;
  stack_->tcp_ports().Add(port_use_);
}

TcpSocket::~TcpSocket() {
  Close(/*reset=*/ResetsOnClose());
  ReleasePort();
}

bool TcpSocket::ResetsOnClose() const {
  const linger linger = options_.Linger();
  return linger.l_onoff != 0 && linger.l_linger == 0;
}

bool TcpSocket::v6only() const { return options_.Flag(IPPROTO_IPV6, IPV6_V6ONLY); }

PortUse* TcpSocket::NewPortUse(const ip_addr_t& address, uint16_t port) const {
  auto* use = new PortUse;
  use->address = address;
  use->port = port;
  use->reuse_address = options_.Flag(SOL_SOCKET, SO_REUSEADDR);
  use->reuse_port = options_.Flag(SOL_SOCKET, SO_REUSEPORT);
  return use;
}

void TcpSocket::ReleasePort() {
  if (port_use_ != nullptr) std::exchange(port_use_, nullptr)->Unref();
  explicitly_bound_ = false;
}

// Makes `pcb` this socket's connection and lets it share the port.
void TcpSocket::Attach(tcp_pcb* pcb) {
  pcb_ = pcb;
  tcp_arg(pcb, this);
  tcp_recv(pcb, &OnReceived);
  tcp_sent(pcb, &OnSent);
  tcp_err(pcb, &OnError);
  if (tcp_ext_arg_get(pcb, kPortSlot) == nullptr) {
    port_use_->Ref();
    tcp_ext_arg_set_callbacks(pcb, kPortSlot, &kPortCallbacks);
    tcp_ext_arg_set(pcb, kPortSlot, port_use_);
  }
  tcp_ext_arg_set_callbacks(pcb, kSocketSlot, &kSocketCallbacks);
  tcp_ext_arg_set(pcb, kSocketSlot, this);
  ApplyOptions();
}

// Leaves the connection to lwIP: no callback comes any more.
tcp_pcb* TcpSocket::Detach() {
  tcp_pcb* pcb = std::exchange(pcb_, nullptr);
  if (pcb == nullptr) return nullptr;
  tcp_arg(pcb, nullptr);
  tcp_ext_arg_set(pcb, kSocketSlot, nullptr);
  if (pcb->state != LISTEN) {
    tcp_recv(pcb, nullptr);
    tcp_sent(pcb, nullptr);
    tcp_err(pcb, nullptr);
    tcp_poll(pcb, nullptr, 0);
  }
  return pcb;
}

void TcpSocket::Close(bool reset) {
  TcpSocket* const other = direct_ ? direct_peer_ : nullptr;
  StayInStack();
  if (other != nullptr) other->OnDirectPeerGone();
  if (direct_) stack_->direct_connections().Remove(direct_->local, remote_);
  direct_.reset();
  if (state_ == State::kListening) {
    StopListening();
    return;
  }
  const bool unread = !received_.empty();
  received_.Clear();
  urgent_ = Urgent::kNone;
  tcp_pcb* pcb = Detach();
  state_ = State::kClosed;
  if (pcb == nullptr) return;
  // By which lwIP sees that nothing is unread.
  pcb->rcv_wnd = TCP_WND_MAX(pcb);
  // lwIP sends the FIN later if it has no memory for it now.
  if (reset || unread || tcp_close(pcb) != ERR_OK) tcp_abort(pcb);
}

void TcpSocket::StopListening() {
  state_ = State::kClosed;
  port_use_->listening = false;
  tcp_close(Detach());
  for (const auto& socket : std::exchange(accepted_, {})) socket->Abort();
}

// --- Addresses -----------------------------------------------------------------------------------

Errno TcpSocket::Bind(const SocketAddress& address) {
  Result<InetAddress> parsed = ParseBindAddress(domain(), v6only(), address);
  if (!parsed.ok()) return parsed.error();
  const ip_addr_t& ip = parsed->ip;
  if (!ip_addr_isany_val(ip) && !stack_->IsLocal(ip)) return Errno(EADDRNOTAVAIL);
  if (state_ != State::kClosed || bound()) return Errno(EINVAL);
  PortUse* use = NewPortUse(ip, parsed->port);
  if (Errno error = stack_->tcp_ports().Claim(use); !error.ok()) {
    use->Unref();
    return error;
  }
  port_use_ = use;
  explicitly_bound_ = true;
  return kOk;
}

InetAddress TcpSocket::Local() const {
  // After the connection's end lwIP has no address for it, and nor has Linux.
  if (pcb_ != nullptr && state_ != State::kListening && !ip_addr_isany_val(pcb_->local_ip)) {
    return {pcb_->local_ip, pcb_->local_port};
  }
  if (direct_) return direct_->local;
  if (port_use_ != nullptr) return {port_use_->address, port_use_->port};
  return {WildcardAddress(domain(), v6only()), 0};
}

Result<SocketAddress> TcpSocket::LocalAddress() { return ToSocketAddress(domain(), Local()); }

Result<SocketAddress> TcpSocket::PeerAddress() {
  if (state_ != State::kConnected) return Errno(ENOTCONN);
  return ToSocketAddress(domain(), remote_);
}

// --- Connections ---------------------------------------------------------------------------------

Errno TcpSocket::Listen(int backlog) {
  // Negative is a large unsigned number to Linux.
  backlog_ = backlog < 0 ? kMaxBacklog : std::min(backlog, kMaxBacklog);
  if (state_ == State::kListening) {
    UpdateBacklog();
    return kOk;
  }
  if (state_ != State::kClosed || shutdown_ != 0 || outcome_pending_) return Errno(EINVAL);
  if (!bound()) {
    PortUse* use = NewPortUse(WildcardAddress(domain(), v6only()), 0);
    if (Errno error = stack_->tcp_ports().Claim(use); !error.ok()) {
      use->Unref();
      return error;
    }
    port_use_ = use;
  }
  port_use_->listening = true;
  if (stack_->tcp_ports().Collides(*port_use_)) {
    port_use_->listening = false;
    return Errno(EADDRINUSE);
  }
  tcp_pcb* fresh = tcp_new_ip_type(IP_GET_TYPE(&port_use_->address));
  tcp_pcb* pcb = nullptr;
  if (fresh != nullptr) {
    ip_addr_copy(fresh->local_ip, port_use_->address);
    err_t error;
    pcb = tcp_listen_with_backlog_and_err(fresh, kMaxHalfOpen, &error);
    if (pcb == nullptr) tcp_close(fresh);
  }
  if (pcb == nullptr) {
    port_use_->listening = false;
    return Errno(ENOBUFS);
  }
  pcb->local_port = port_use_->port;
  pcb_ = pcb;
  tcp_arg(pcb, this);
  tcp_accept(pcb, &OnAccepted);
  port_use_->Ref();
  tcp_ext_arg_set_callbacks(pcb, kPortSlot, &kPortCallbacks);
  tcp_ext_arg_set(pcb, kPortSlot, port_use_);
  state_ = State::kListening;
  error_ = 0;
  ApplyOptions();
  UpdateBacklog();
  return kOk;
}

void TcpSocket::SetAcceptDebt(size_t connections) {
  accept_debt_ = static_cast<int>(connections);
  if (state_ != State::kListening) return;
  UpdateBacklog();
  InviteWaiting();
}

// lwIP drops a SYN when as many connections are half open as its backlog says: that is the room
// that our queue has left. A backlog of n lets n + 1 in.
void TcpSocket::UpdateBacklog() {
  const int room = backlog_ + 1 - static_cast<int>(accepted_.size()) - accept_debt_;
  if (room <= 0) was_full_ = true;
  reinterpret_cast<tcp_pcb_listen*>(pcb_)->backlog =
      static_cast<u8_t>(std::clamp(room, 0, kMaxHalfOpen));
}

// Lets peers on this host that met a full queue try again, as many as there is room for, those that
// have waited longest first. Their own timers tick for all of them at once, so that of a crowd only
// a queue's worth got in every time, with seconds in between.
void TcpSocket::InviteWaiting() {
  const size_t room = reinterpret_cast<tcp_pcb_listen*>(pcb_)->backlog;
  if (!was_full_ || room == 0) return;
  std::vector<tcp_pcb*> waiting;
  for (tcp_pcb* pcb = tcp_active_pcbs; pcb != nullptr; pcb = pcb->next) {
    if (pcb->state == SYN_SENT && pcb->remote_port == port_use_->port && pcb->unacked != nullptr &&
        stack_->IsLocal(pcb->remote_ip)) {
      waiting.push_back(pcb);
    }
  }
  was_full_ = waiting.size() > room;
  // lwIP's list has the youngest first.
  for (auto pcb = waiting.rbegin();
       pcb != waiting.rend() && pcb < waiting.rbegin() + static_cast<ptrdiff_t>(room); ++pcb) {
    // This is no sign of a lost packet: the timer goes on as it was.
    const u8_t retransmits = (*pcb)->nrtx;
    tcp_rexmit_rto(*pcb);
    (*pcb)->nrtx = retransmits;
  }
}

Result<std::shared_ptr<Socket>> TcpSocket::Accept(SocketAddress* peer) {
  if (state_ != State::kListening) return Errno(EINVAL);
  if (accepted_.empty()) return Errno(EAGAIN);
  std::shared_ptr<TcpSocket> socket = std::move(accepted_.front());
  accepted_.pop_front();
  UpdateBacklog();
  InviteWaiting();
  if (peer != nullptr) *peer = ToSocketAddress(domain(), socket->remote_);
  return std::shared_ptr<Socket>(std::move(socket));
}

void TcpSocket::Disconnect() {
  Close(/*reset=*/true);
  if (!explicitly_bound_) ReleasePort();
  outcome_pending_ = false;
  shutdown_ = 0;
  error_ = 0;
}

Result<InetAddress> TcpSocket::Destination(const SocketAddress& address) const {
  Result<InetAddress> parsed = ParseInetAddress(domain(), address);
  if (!parsed.ok()) return parsed.error();
  ip_addr_t& ip = parsed->ip;
  if (domain() == AF_INET6 && v6only() && IP_IS_V4_VAL(ip)) return Errno(ENETUNREACH);
  // Linux: the wildcard as a destination is this host.
  if (ip_addr_isany_val(ip)) ip_addr_set_loopback_val(IP_IS_V6_VAL(ip), ip);
  if (ip_addr_ismulticast(&ip) ||
      (IP_IS_V4_VAL(ip) && ip4_addr_get_u32(ip_2_ip4(&ip)) == INADDR_BROADCAST)) {
    return Errno(ENETUNREACH);
  }
  return parsed;
}

bool TcpSocket::PassesStack(const SocketAddress& address) {
  if (address.len < sizeof(sa_family_t) || address.family() == AF_UNSPEC) return false;
  const Result<InetAddress> destination = Destination(address);
  return destination.ok() && ListenerAtOnce(*destination) == nullptr;
}

Errno TcpSocket::Connect(const SocketAddress& address) {
  if (address.len < sizeof(sa_family_t)) return Errno(EINVAL);
  if (address.family() == AF_UNSPEC) {
    Disconnect();
    return kOk;
  }
  if (outcome_pending_) {
    if (state_ == State::kConnecting) return Errno(EALREADY);
    outcome_pending_ = false;
    if (state_ == State::kConnected) return kOk;
    const int error = std::exchange(error_, 0);
    shutdown_ = 0;
    if (!explicitly_bound_) ReleasePort();
    return Errno(error != 0 ? error : ECONNABORTED);
  }
  // Also once a connection is over: only AF_UNSPEC makes its socket fresh again.
  if (state_ != State::kClosed || shutdown_ != 0) return Errno(EISCONN);

  const Result<InetAddress> destination = Destination(address);
  if (!destination.ok()) return destination.error();
  const InetAddress& remote = *destination;
  Result<ip_addr_t> source = stack_->SourceFor(remote.ip);
  if (!source.ok()) return source.error();
  if (bound() && !ip_addr_isany_val(port_use_->address)) {
    if (IP_IS_V6_VAL(port_use_->address) != IP_IS_V6_VAL(remote.ip)) return Errno(ENETUNREACH);
    source = port_use_->address;
  } else if (bound() && !IP_IS_ANY_TYPE_VAL(port_use_->address) &&
             IP_IS_V6_VAL(port_use_->address) != IP_IS_V6_VAL(remote.ip)) {
    return Errno(ENETUNREACH);
  }
  const auto taken = [&](uint16_t port) {
    return stack_->direct_connections().Contains({*source, port}, remote) ||
           stack_->connections().Find(*source, port, remote.ip, remote.port) != nullptr;
  };
  if (bound()) {
    if (taken(port_use_->port)) return Errno(EADDRNOTAVAIL);
  } else {
    PortUse* use = NewPortUse(*source, 0);
    if (Errno error = stack_->tcp_ports().ClaimForConnect(use, taken); !error.ok()) {
      use->Unref();
      return error;
    }
    port_use_ = use;
  }
  // lwIP takes no SYN where it waits for the answer to one.
  if (port_use_->port == remote.port && ip_addr_cmp(&*source, &remote.ip)) {
    if (!explicitly_bound_) ReleasePort();
    return Errno(ECONNREFUSED);
  }
  if (ConnectAtOnce(*source, remote)) return Errno(EINPROGRESS);
  tcp_pcb* pcb = tcp_new_ip_type(IP_GET_TYPE(&remote.ip));
  if (pcb == nullptr) return Errno(ENOBUFS);
  ip_addr_copy(pcb->local_ip, *source);
  pcb->local_port = port_use_->port;
  pcb->rto = SynTimeout(0);
  Attach(pcb);
  syn_retransmits_ = 0;
  tcp_poll(pcb, &OnTick, 1);
  state_ = State::kConnecting;
  remote_ = remote;
  if (const err_t error = tcp_connect(pcb, &remote.ip, remote.port, &OnConnected);
      error != ERR_OK) {
    Close(/*reset=*/false);
    if (!explicitly_bound_) ReleasePort();
    return ErrnoFromLwip(error);
  }
  stack_->connections().Add(pcb);
  outcome_pending_ = true;
  return Errno(EINPROGRESS);
}

Errno TcpSocket::TakeError() {
  if (state_ != State::kConnecting && std::exchange(outcome_pending_, false) &&
      state_ == State::kClosed) {
    shutdown_ = 0;
    if (!explicitly_bound_) ReleasePort();
  }
  return Errno(std::exchange(error_, 0));
}

Errno TcpSocket::Shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  const auto directions = static_cast<uint8_t>(how + 1);
  switch (state_) {
    case State::kClosed:
      return Errno(ENOTCONN);
    case State::kListening:
      if ((directions & kShutRead) != 0) {
        StopListening();
        waiters().Notify(kEverything);
      }
      return kOk;
    case State::kConnecting:
      Disconnect();
      error_ = ECONNRESET;
      waiters().Notify(kEverything);
      return kOk;
    case State::kConnected:
      // Its bytes do not come by: the program shuts its own end down.
      if (direct_) return Errno(EOPNOTSUPP);
      break;
  }
  if ((directions & kShutWrite) != 0 && (shutdown_ & kShutWrite) == 0 && pcb_ != nullptr) {
    // Corked data goes out with the FIN, which lwIP sends later if it has no memory for it now.
    if (const err_t error = tcp_shutdown(pcb_, /*shut_rx=*/0, /*shut_tx=*/1); error != ERR_OK) {
      return ErrnoFromLwip(error);
    }
  }
  shutdown_ |= directions;
  waiters().Notify(Poll() & kEverything);
  return kOk;
}

void TcpSocket::StayInStack() {
  if (direct_peer_ == nullptr) return;
  direct_peer_->direct_peer_ = nullptr;
  direct_peer_ = nullptr;
}

void TcpSocket::FindDirectPeer() {
  const tcp_pcb* const other = stack_->connections().Find(pcb_->remote_ip, pcb_->remote_port,
                                                          pcb_->local_ip, pcb_->local_port);
  // What has been sent is in the stack, and stays there.
  if (other == nullptr || other->snd_lbb != pcb_->rcv_nxt) return;
  auto* const peer = static_cast<TcpSocket*>(tcp_ext_arg_get(other, kSocketSlot));
  if (peer == nullptr || peer == this || peer->direct_peer_ != nullptr) return;
  if (!MayBeDirect() || !peer->MayBeDirect()) return;
  direct_peer_ = peer;
  peer->direct_peer_ = this;
}

bool TcpSocket::MayBeDirect() const {
  return options_.Flag(IPPROTO_TCP, kTcpDirect) && !ResetsOnClose();
}

// As tcp_input(): the list's first that has the very address, else the last wildcard.
TcpSocket* TcpSocket::ListenerAt(const InetAddress& address) {
  tcp_pcb_listen* found = nullptr;
  for (tcp_pcb_listen* pcb = tcp_listen_pcbs.listen_pcbs; pcb != nullptr; pcb = pcb->next) {
    if (pcb->local_port != address.port) continue;
    if (pcb->netif_idx != NETIF_NO_INDEX) return nullptr;
    const bool exact = ip_addr_cmp(&pcb->local_ip, &address.ip);
    if (exact || IP_IS_ANY_TYPE_VAL(pcb->local_ip) ||
        (IP_GET_TYPE(&pcb->local_ip) == IP_GET_TYPE(&address.ip) &&
         ip_addr_isany(&pcb->local_ip))) {
      found = pcb;
    }
    if (exact) break;
  }
  return found == nullptr ? nullptr : static_cast<TcpSocket*>(found->callback_arg);
}

// tcp_input() looks for one with the very address from the list's start, for a wildcard from its
// end.
void TcpSocket::PassTurn(tcp_pcb_listen* listener) {
  const auto* const use =
      static_cast<PortUse*>(tcp_ext_arg_get(reinterpret_cast<tcp_pcb*>(listener), kPortSlot));
  if (!use->reuse_port) return;
  tcp_pcb_listen** at = &tcp_listen_pcbs.listen_pcbs;
  while (*at != listener) at = &(*at)->next;
  *at = listener->next;
  at = &tcp_listen_pcbs.listen_pcbs;
  if (!ip_addr_isany_val(listener->local_ip)) {
    while (*at != nullptr) at = &(*at)->next;
  }
  listener->next = *at;
  *at = listener;
}

bool TcpSocket::HasRoomAtOnce() const {
  const auto* const pcb = reinterpret_cast<const tcp_pcb_listen*>(pcb_);
  return state_ == State::kListening && !was_full_ && pcb->accepts_pending < pcb->backlog;
}

TcpSocket* TcpSocket::ListenerAtOnce(const InetAddress& remote) const {
  if (host() == nullptr || !MayBeDirect() || !stack_->IsLocal(remote.ip)) return nullptr;
  // Which interface such an address is of is for the stack to say.
  if (IP_IS_V6_VAL(remote.ip) && ip6_addr_islinklocal(ip_2_ip6(&remote.ip))) return nullptr;
  TcpSocket* const listener = ListenerAt(remote);
  if (listener == nullptr || !listener->accepts_directly_ || !listener->MayBeDirect() ||
      !listener->HasRoomAtOnce()) {
    return nullptr;
  }
  return listener;
}

bool TcpSocket::ConnectAtOnce(const ip_addr_t& source, const InetAddress& remote) {
  TcpSocket* const listener = ListenerAtOnce(remote);
  if (listener == nullptr) return false;
  const InetAddress local{source, port_use_->port};
  u16_t segment = tcp_eff_send_mss(TCP_MSS, &source, &remote.ip);
  for (const TcpSocket* const end : {this, listener}) {
    if (end->largest_segment_ != 0) segment = std::min(segment, end->largest_segment_);
  }
  std::shared_ptr<TcpSocket> accepted(new TcpSocket(*listener, remote, local));
  accepted->direct_ = {remote, segment};
  direct_ = {local, segment};
  stack_->direct_connections().Add(local, remote);
  stack_->direct_connections().Add(remote, local);
  direct_peer_ = accepted.get();
  accepted->direct_peer_ = this;
  state_ = State::kConnected;
  remote_ = remote;
  outcome_pending_ = true;
  listener->accepted_.push_back(std::move(accepted));
  PassTurn(reinterpret_cast<tcp_pcb_listen*>(listener->pcb_));
  listener->UpdateBacklog();
  listener->waiters().Notify(kReadable);
  return true;
}

void TcpSocket::OnDirectPeerGone() {
  stack_->direct_connections().Remove(direct_->local, remote_);
  direct_.reset();
  error_ = ECONNRESET;
  OnClosed();
}

void TcpSocket::LeaveStackAlone() {
  direct_ = {Local(), pcb_->mss};
  stack_->direct_connections().Add(direct_->local, remote_);
  // The other end leaves as well, so that nothing has to be said.
  tcp_abandon(Detach(), /*reset=*/0);
}

void TcpSocket::LeaveStack() {
  TcpSocket* const peer = direct_peer_;
  StayInStack();
  if (direct_) return;
  LeaveStackAlone();
  peer->LeaveStackAlone();
}

void TcpSocket::Abort() {
  if (state_ == State::kListening) {
    StopListening();
    return;
  }
  Close(/*reset=*/true);
  OnClosed();
}

}  // namespace rump
