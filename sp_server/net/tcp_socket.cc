#include "sp_server/net/tcp_socket.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "lwip/priv/tcp_priv.h"

namespace rump {
namespace {

constexpr uint32_t kReadable = POLLIN | POLLRDNORM;
constexpr uint32_t kWritable = POLLOUT | POLLWRNORM;
constexpr uint32_t kEverything = kReadable | kWritable | POLLRDHUP | POLLHUP | POLLERR;

// Bytes per tcp_write, which counts in 16 bits.
constexpr size_t kWriteBytes = TCP_MSS;
// Buffers queued at lwIP above which a socket counts as full, far enough from lwIP's own limit that
// a write cannot fail on it.
constexpr u16_t kMaxQueuedBuffers = TCP_SND_QUEUELEN / 2;
// lwIP's limits for a listener are one byte.
constexpr int kMaxHalfOpen = 255;
// Linux's net.core.somaxconn.
constexpr int kMaxBacklog = 4096;
// 1 s until the first retransmission of a SYN, in lwIP's slow ticks; doubled with each.
constexpr s16_t kSynTimeoutTicks = 1000 / TCP_SLOW_INTERVAL;

constexpr char kCongestionControl[] = "reno";

}  // namespace

const tcp_ext_arg_callbacks TcpSocket::kPortCallbacks = {&OnPortFreed, &OnPassiveOpen};
const tcp_ext_arg_callbacks TcpSocket::kSocketCallbacks = {&OnPcbFreed, nullptr};

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
      remote_{pcb->remote_ip, pcb->remote_port} {
  port_use_->Ref();
  small_end_ = pcb->lastack;
  Attach(pcb);
}

TcpSocket::~TcpSocket() {
  const linger linger = options_.Linger();
  Close(/*reset=*/linger.l_onoff != 0 && linger.l_linger == 0);
  ReleasePort();
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

void TcpSocket::ApplyOptions() {
  if (pcb_ == nullptr) return;
  const auto set_option = [this](u8_t bit, bool on) {
    pcb_->so_options = static_cast<u8_t>(on ? pcb_->so_options | bit : pcb_->so_options & ~bit);
  };
  set_option(SOF_KEEPALIVE, options_.Flag(SOL_SOCKET, SO_KEEPALIVE));
  const bool v6 = IP_IS_V6_VAL(pcb_->remote_ip);
  pcb_->ttl = static_cast<u8_t>(v6 ? options_.Int(IPPROTO_IPV6, IPV6_UNICAST_HOPS)
                                   : options_.Int(IPPROTO_IP, IP_TTL));
  pcb_->tos = static_cast<u8_t>(v6 ? options_.Int(IPPROTO_IPV6, IPV6_TCLASS)
                                   : options_.Int(IPPROTO_IP, IP_TOS));
  if (pcb_->state == LISTEN) return;
  // HoldsBack is our Nagle.
  tcp_nagle_disable(pcb_);
  constexpr u32_t kMilliseconds = 1000;
  pcb_->keep_idle = static_cast<u32_t>(options_.Int(IPPROTO_TCP, TCP_KEEPIDLE)) * kMilliseconds;
  pcb_->keep_intvl = static_cast<u32_t>(options_.Int(IPPROTO_TCP, TCP_KEEPINTVL)) * kMilliseconds;
  pcb_->keep_cnt = static_cast<u32_t>(options_.Int(IPPROTO_TCP, TCP_KEEPCNT));
}

void TcpSocket::Close(bool reset) {
  if (state_ == State::kListening) {
    StopListening();
    return;
  }
  const bool unread = !received_.empty();
  received_.Clear();
  tcp_pcb* pcb = Detach();
  state_ = State::kClosed;
  if (pcb == nullptr) return;
  // lwIP sends the FIN later if it has no memory for it now.
  if (reset || unread || tcp_close(pcb) != ERR_OK) tcp_abort(pcb);
}

void TcpSocket::StopListening() {
  state_ = State::kClosed;
  port_use_->listening = false;
  tcp_close(Detach());
  for (const auto& socket : std::exchange(accepted_, {})) socket->Abort();
}

// --- What lwIP tells -----------------------------------------------------------------------------

err_t TcpSocket::OnConnected(void* arg, tcp_pcb* pcb, err_t) {
  auto* self = static_cast<TcpSocket*>(arg);
  tcp_poll(pcb, nullptr, 0);
  self->state_ = State::kConnected;
  self->small_end_ = pcb->lastack;
  self->waiters().Notify(self->Poll());
  return ERR_OK;
}

err_t TcpSocket::OnAccepted(void* arg, tcp_pcb* pcb, err_t error) {
  auto* self = static_cast<TcpSocket*>(arg);
  // Without a connection, lwIP only says that it had no memory for one; the peer tries again.
  if (self == nullptr || error != ERR_OK || pcb == nullptr) return ERR_VAL;
  self->accepted_.push_back(std::shared_ptr<TcpSocket>(new TcpSocket(*self, pcb)));
  self->UpdateBacklog();
  self->waiters().Notify(kReadable);
  return ERR_OK;
}

err_t TcpSocket::OnReceived(void* arg, tcp_pcb* pcb, pbuf* packet, err_t) {
  auto* self = static_cast<TcpSocket*>(arg);
  if (packet == nullptr) {
    self->shutdown_ |= kShutRead;
    self->waiters().Notify(self->Poll());
    return ERR_OK;
  }
  // The sender has no more for now: an answer may wait for the acknowledgement (Nagle), so it must
  // not wait for lwIP's timer.
  if ((packet->flags & PBUF_FLAG_PUSH) != 0) tcp_ack_now(pcb);
  self->received_.Append(packet);
  self->waiters().Notify(kReadable);
  return ERR_OK;
}

err_t TcpSocket::OnSent(void* arg, tcp_pcb*, u16_t) {
  auto* self = static_cast<TcpSocket*>(arg);
  if (!self->waiters().empty() && (self->Poll() & POLLOUT) != 0) self->waiters().Notify(kWritable);
  return ERR_OK;
}

// Every slow tick while connecting: lwIP does not lengthen a SYN's timeout by itself.
err_t TcpSocket::OnTick(void* arg, tcp_pcb* pcb) {
  auto* self = static_cast<TcpSocket*>(arg);
  if (pcb->state == SYN_SENT && pcb->nrtx > self->syn_retransmits_) {
    self->syn_retransmits_ = pcb->nrtx;
    pcb->rto = static_cast<s16_t>(kSynTimeoutTicks << self->syn_retransmits_);
  }
  return ERR_OK;
}

void TcpSocket::OnError(void* arg, err_t error) {
  auto* self = static_cast<TcpSocket*>(arg);
  if (self == nullptr) return;
  switch (error) {
    case ERR_RST:
      if (self->state_ == State::kConnecting) {
        self->error_ = ECONNREFUSED;
      } else {
        self->error_ = (self->shutdown_ & kShutRead) != 0 ? EPIPE : ECONNRESET;
      }
      break;
    // Both ends have closed, in order.
    case ERR_CLSD:
      break;
    // lwIP gave up: no answer, or no memory for the connection.
    default:
      self->error_ = ETIMEDOUT;
  }
  self->OnClosed();
}

// The connection is over; lwIP has freed it or is about to.
void TcpSocket::OnClosed() {
  if (pcb_ != nullptr) tcp_ext_arg_set(pcb_, kSocketSlot, nullptr);
  pcb_ = nullptr;
  state_ = State::kClosed;
  shutdown_ = kShutBoth;
  waiters().Notify(kEverything);
}

void TcpSocket::OnPortFreed(u8_t, void* data) {
  if (data != nullptr) static_cast<PortUse*>(data)->Unref();
}

err_t TcpSocket::OnPassiveOpen(u8_t id, tcp_pcb_listen* listener, tcp_pcb* pcb) {
  const auto* parent =
      static_cast<PortUse*>(tcp_ext_arg_get(reinterpret_cast<tcp_pcb*>(listener), id));
  auto* use = new PortUse;
  use->address = pcb->local_ip;
  use->port = parent->port;
  use->reuse_address = parent->reuse_address;
  use->reuse_port = parent->reuse_port;
  NetStack::Get().tcp_ports().Add(use);
  tcp_ext_arg_set_callbacks(pcb, id, &kPortCallbacks);
  tcp_ext_arg_set(pcb, id, use);
  return ERR_OK;
}

// lwIP frees a connection without a word at the end of TIME_WAIT, and before it tells of an error.
void TcpSocket::OnPcbFreed(u8_t, void* data) {
  auto* self = static_cast<TcpSocket*>(data);
  if (self == nullptr) return;
  self->pcb_ = nullptr;
  if (self->state_ == State::kConnected && (self->shutdown_ & kShutBoth) == kShutBoth) {
    self->state_ = State::kClosed;
  }
}

// --- Addresses -----------------------------------------------------------------------------------

Errno TcpSocket::Bind(const SocketAddress& address) {
  SocketAddress given = address;
  // Linux: AF_UNSPEC with INADDR_ANY passes for AF_INET.
  auto& in = reinterpret_cast<sockaddr_in&>(given.storage);
  if (domain() == AF_INET && given.len >= sizeof in && in.sin_family == AF_UNSPEC &&
      in.sin_addr.s_addr == INADDR_ANY) {
    in.sin_family = AF_INET;
  }
  Result<InetAddress> parsed = ParseInetAddress(domain(), given);
  if (!parsed.ok()) return parsed.error();
  ip_addr_t ip = parsed->ip;
  if (ip_addr_isany_val(ip) && IP_IS_V6_VAL(ip)) ip = WildcardAddress(domain(), v6only());
  if (domain() == AF_INET6 && v6only() && IP_IS_V4_VAL(ip)) return Errno(EINVAL);
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

  Result<InetAddress> parsed = ParseInetAddress(domain(), address);
  if (!parsed.ok()) return parsed.error();
  InetAddress remote = *parsed;
  if (domain() == AF_INET6 && v6only() && IP_IS_V4_VAL(remote.ip)) return Errno(ENETUNREACH);
  // Linux: the wildcard as a destination is this host.
  if (ip_addr_isany_val(remote.ip)) ip_addr_set_loopback_val(IP_IS_V6_VAL(remote.ip), remote.ip);
  if (ip_addr_ismulticast(&remote.ip) ||
      (IP_IS_V4_VAL(remote.ip) && ip4_addr_get_u32(ip_2_ip4(&remote.ip)) == INADDR_BROADCAST)) {
    return Errno(ENETUNREACH);
  }
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
    for (const tcp_pcb* list : {tcp_active_pcbs, tcp_tw_pcbs}) {
      for (const tcp_pcb* pcb = list; pcb != nullptr; pcb = pcb->next) {
        if (pcb->local_port == port && pcb->remote_port == remote.port &&
            ip_addr_cmp(&pcb->local_ip, &*source) && ip_addr_cmp(&pcb->remote_ip, &remote.ip)) {
          return true;
        }
      }
    }
    return false;
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
  tcp_pcb* pcb = tcp_new_ip_type(IP_GET_TYPE(&remote.ip));
  if (pcb == nullptr) return Errno(ENOBUFS);
  ip_addr_copy(pcb->local_ip, *source);
  pcb->local_port = port_use_->port;
  pcb->rto = kSynTimeoutTicks;
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
  outcome_pending_ = true;
  return Errno(EINPROGRESS);
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
      break;
  }
  if ((directions & kShutWrite) != 0 && (shutdown_ & kShutWrite) == 0 && pcb_ != nullptr) {
    // Corked data goes out with the FIN, which lwIP sends later if it has no memory for it now.
    if (const err_t error = tcp_shutdown(pcb_, /*shut_rx=*/0, /*shut_tx=*/1); error != ERR_OK) {
      return ErrnoFromLwip(error);
    }
  }
  shutdown_ |= directions;
  waiters().Notify(Poll());
  return kOk;
}

void TcpSocket::Abort() {
  if (state_ == State::kListening) {
    StopListening();
    return;
  }
  Close(/*reset=*/true);
  OnClosed();
}

// --- Data ----------------------------------------------------------------------------------------

size_t TcpSocket::SendLimit() const {
  if (!options_.IsSet(SOL_SOCKET, SO_SNDBUF)) return TCP_SND_BUF;
  return std::min<size_t>(TCP_SND_BUF, static_cast<size_t>(options_.Int(SOL_SOCKET, SO_SNDBUF)));
}

size_t TcpSocket::SendSpace() const {
  if (state_ != State::kConnected || pcb_ == nullptr || (shutdown_ & kShutWrite) != 0) return 0;
  if (pcb_->snd_queuelen > kMaxQueuedBuffers) return 0;
  const size_t queued = TCP_SND_BUF - pcb_->snd_buf;
  const size_t limit = SendLimit();
  return queued < limit ? limit - queued : 0;
}

Result<size_t> TcpSocket::Send(std::span<const std::byte> data, const SocketAddress*, int flags) {
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (error_ != 0) return Errno(std::exchange(error_, 0));
  if (state_ == State::kConnecting) return Errno(EAGAIN);
  if (state_ != State::kConnected || pcb_ == nullptr || (shutdown_ & kShutWrite) != 0) {
    return Errno(EPIPE);
  }
  if (data.empty()) return size_t{0};
  const size_t space = SendSpace();
  if (space == 0) return Errno(EAGAIN);
  data = data.first(std::min(data.size(), space));
  const bool more = (flags & MSG_MORE) != 0 || options_.Flag(IPPROTO_TCP, TCP_CORK);
  size_t sent = 0;
  while (sent < data.size()) {
    const size_t n = std::min(data.size() - sent, kWriteBytes);
    u8_t write_flags = TCP_WRITE_FLAG_COPY;
    // Data behind other unsent data waits in any case: lwIP then leaves room for more in its
    // buffer, which keeps a run of small writes from becoming a chain of small buffers.
    if (more || pcb_->unsent != nullptr || sent + n < data.size()) {
      write_flags |= TCP_WRITE_FLAG_MORE;
    }
    if (tcp_write(pcb_, data.data() + sent, static_cast<u16_t>(n), write_flags) != ERR_OK) break;
    sent += n;
  }
  if (sent == 0) return Errno(pcb_->snd_queuelen == 0 ? ENOBUFS : EAGAIN);
  if (HoldsBack(more)) return sent;
  if (sent % pcb_->mss != 0) small_end_ = pcb_->snd_lbb;
  tcp_output(pcb_);
  return sent;
}

// lwIP's Nagle waits while anything is unacknowledged, which, with acknowledgements that are
// delayed too, stalls the last bytes of every large write. As Linux, wait only for the
// acknowledgement of a segment that was not full.
bool TcpSocket::HoldsBack(bool more) const {
  size_t unsent = 0;
  for (const tcp_seg* seg = pcb_->unsent; seg != nullptr; seg = seg->next) {
    unsent += seg->len;
    if (unsent >= pcb_->mss) return false;
  }
  if (more) return true;
  return !options_.Flag(IPPROTO_TCP, TCP_NODELAY) && TCP_SEQ_LT(pcb_->lastack, small_end_);
}

Result<Received> TcpSocket::Receive(std::span<std::byte> buffer, int flags) {
  if ((flags & MSG_OOB) != 0) return Errno(EINVAL);
  if ((flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  if (received_.empty()) {
    if (state_ == State::kListening) return Errno(ENOTCONN);
    if (error_ != 0) return Errno(std::exchange(error_, 0));
    if ((shutdown_ & kShutRead) != 0) return Received{};
    if (state_ == State::kClosed) return Errno(ENOTCONN);
    if (buffer.empty()) return Received{};
    return Errno(EAGAIN);
  }
  Received result;
  if ((flags & MSG_TRUNC) != 0) {
    // On TCP: take the bytes and throw them away.
    result.length = std::min(buffer.size(), received_.size());
  } else {
    result.length = result.copied = received_.Copy(buffer);
  }
  if ((flags & MSG_PEEK) == 0) ConsumeReceived(result.length);
  return result;
}

void TcpSocket::ConsumeReceived(size_t bytes) {
  received_.Consume(bytes);
  if (pcb_ == nullptr || pcb_->state == TIME_WAIT) return;
  for (size_t left = bytes; left > 0;) {
    const size_t n = std::min<size_t>(left, UINT16_MAX);
    tcp_recved(pcb_, static_cast<u16_t>(n));
    left -= n;
  }
}

uint32_t TcpSocket::Poll() const {
  if (state_ == State::kListening) return accepted_.empty() ? 0 : kReadable;
  uint32_t mask = 0;
  if (error_ != 0) mask |= POLLERR;
  if ((shutdown_ & kShutBoth) == kShutBoth || state_ == State::kClosed) mask |= POLLHUP;
  if ((shutdown_ & kShutRead) != 0) mask |= kReadable | POLLRDHUP;
  if (state_ == State::kConnecting) return mask;
  if (!received_.empty()) mask |= kReadable;
  // Writable also when a write would fail at once, and from a third of the buffer free on.
  if (state_ != State::kConnected || (shutdown_ & kShutWrite) != 0 ||
      SendSpace() >= (SendLimit() + 2) / 3) {
    mask |= kWritable;
  }
  return mask;
}

Errno TcpSocket::Ioctl(uint64_t request, std::span<std::byte> arg) {
  int value = 0;
  switch (request) {
    case FIONREAD:
      if (state_ == State::kListening) return Errno(EINVAL);
      value = static_cast<int>(received_.size());
      break;
    case TIOCOUTQ:
      if (state_ == State::kListening) return Errno(EINVAL);
      if (pcb_ != nullptr) value = static_cast<int>(TCP_SND_BUF - pcb_->snd_buf);
      break;
    case SIOCATMARK:
      break;
    default:
      return Errno(ENOTTY);
  }
  if (arg.size() < sizeof value) return Errno(EINVAL);
  memcpy(arg.data(), &value, sizeof value);
  return kOk;
}

// --- Options -------------------------------------------------------------------------------------

Errno TcpSocket::TakeError() {
  if (state_ != State::kConnecting && std::exchange(outcome_pending_, false) &&
      state_ == State::kClosed) {
    shutdown_ = 0;
    if (!explicitly_bound_) ReleasePort();
  }
  return Errno(std::exchange(error_, 0));
}

Errno TcpSocket::SetOption(int level, int name, std::span<const std::byte> value) {
  if (level == IPPROTO_TCP && name == TCP_CONGESTION) {
    const std::string_view wanted(
        reinterpret_cast<const char*>(value.data()),
        strnlen(reinterpret_cast<const char*>(value.data()), value.size()));
    if (wanted.empty()) return Errno(EINVAL);
    return wanted == kCongestionControl ? kOk : Errno(ENOENT);
  }
  if (level == IPPROTO_TCP && name == TCP_MAXSEG) {
    if (value.size() < sizeof(int)) return Errno(EINVAL);
    int segment;
    memcpy(&segment, value.data(), sizeof segment);
    constexpr int kMin = 88, kMax = 32767;
    if (segment != 0 && (segment < kMin || segment > kMax)) return Errno(EINVAL);
    if (pcb_ != nullptr && state_ == State::kConnected && pcb_->unsent == nullptr && segment != 0) {
      pcb_->mss = std::min<u16_t>(pcb_->mss, static_cast<u16_t>(segment));
    }
    return kOk;
  }
  if (Errno error = options_.Set(level, name, value, port_use_); !error.ok()) return error;
  ApplyOptions();
  // What Nagle or the cork held back goes out when the program says so.
  if (level == IPPROTO_TCP && (name == TCP_NODELAY || name == TCP_CORK) && pcb_ != nullptr &&
      state_ == State::kConnected) {
    tcp_output(pcb_);
  }
  return kOk;
}

uint8_t TcpSocket::LinuxState() const {
  enum : uint8_t {
    kEstablished = 1,
    kSynSent,
    kSynReceived,
    kFinWait1,
    kFinWait2,
    kTimeWait,
    kClose,
    kCloseWait,
    kLastAck,
    kListen,
    kClosing
  };
  if (pcb_ == nullptr) return kClose;
  switch (pcb_->state) {
    case LISTEN:
      return kListen;
    case SYN_SENT:
      return kSynSent;
    case SYN_RCVD:
      return kSynReceived;
    case ESTABLISHED:
      return kEstablished;
    case FIN_WAIT_1:
      return kFinWait1;
    case FIN_WAIT_2:
      return kFinWait2;
    case CLOSE_WAIT:
      return kCloseWait;
    case CLOSING:
      return kClosing;
    case LAST_ACK:
      return kLastAck;
    case TIME_WAIT:
      return kTimeWait;
    case CLOSED:
      break;
  }
  return kClose;
}

Result<size_t> TcpSocket::GetOption(int level, int name, std::span<std::byte> value) {
  const auto put = [&](int number) { return InetOptions::Put(value, &number, sizeof number); };
  if (level == SOL_SOCKET && name == SO_ACCEPTCONN) {
    return put(state_ == State::kListening ? 1 : 0);
  }
  if (level == SOL_SOCKET && name == SO_ERROR) return put(std::exchange(error_, 0));
  if (level == IPPROTO_TCP) {
    switch (name) {
      case TCP_MAXSEG: {
        constexpr int kUnknownPeer = 536;
        return put(pcb_ != nullptr && state_ == State::kConnected ? pcb_->mss : kUnknownPeer);
      }
      case TCP_CONGESTION: {
        char congestion[16] = {};  // TCP_CA_NAME_MAX
        memcpy(congestion, kCongestionControl, sizeof kCongestionControl);
        return InetOptions::Put(value, congestion, sizeof congestion);
      }
      case TCP_INFO: {
        tcp_info info = {};
        info.tcpi_state = LinuxState();
        if (pcb_ != nullptr && state_ == State::kConnected) {
          info.tcpi_snd_mss = info.tcpi_rcv_mss = pcb_->mss;
          info.tcpi_snd_cwnd = pcb_->cwnd / pcb_->mss;
          info.tcpi_snd_ssthresh = pcb_->ssthresh / pcb_->mss;
          info.tcpi_rcv_space = pcb_->rcv_wnd;
          info.tcpi_unacked = pcb_->snd_queuelen;
          info.tcpi_retransmits = pcb_->nrtx;
          constexpr u32_t kTickMicroseconds = TCP_SLOW_INTERVAL * 1000;
          info.tcpi_rto = static_cast<u32_t>(pcb_->rto) * kTickMicroseconds;
        }
        return InetOptions::Put(value, &info, sizeof info);
      }
      default:
        break;
    }
  }
  return options_.Get(level, name, value);
}

}  // namespace rump
