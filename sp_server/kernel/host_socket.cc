#include "sp_server/kernel/host_socket.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "protocol/syscalls.h"
#include "sp_server/kernel/host_buffers.h"
#include "sp_server/kernel/host_objects.h"
#include "sp_server/loop/pass_fds.h"

namespace rump {
namespace {

// Connections handed to a program before it accepts them; the rest waits in the stack.
constexpr size_t kRecordsAhead = 64;
// A connection that moves as much in its turn moves bulk data.
constexpr size_t kBulkBytes = 16 * 1024;
// Far more than it takes to fill the smallest send buffer that the host has.
constexpr size_t kMaxJunk = 64 * 1024;
// How long to wait for descriptors or memory to be free again.
constexpr std::chrono::milliseconds kRetry{100};
// By then who has taken a readiness byte has asked for the datagram.
constexpr std::chrono::milliseconds kByteLook{100};

// What became of a send on S.
enum class Sent {
  kYes,
  kLater,  // there is no room, or the host is short of something
  kNever,  // the program's end takes nothing any more
};

Sent SendOnS(int s, std::span<const std::byte> bytes, std::span<const int> fds) {
  if (SendWithFds(s, bytes, fds, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return Sent::kYes;
  return errno == EPIPE || errno == ECONNRESET ? Sent::kNever : Sent::kLater;
}

Sent SendByte(int s, char byte) { return SendOnS(s, std::as_bytes(std::span(&byte, 1)), {}); }

// C has its own SO_OOBINLINE, and what a listener was given holds for its connections.
void InheritUrgentInline(Socket& accepted, int c) {
  int on = 0;
  const auto n =
      accepted.GetOption(SOL_SOCKET, SO_OOBINLINE, std::as_writable_bytes(std::span(&on, 1)));
  if (n.ok() && on != 0) setsockopt(c, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
}

Sent SendRecord(int s, const AcceptRecord& record, int c) {
  return SendOnS(s, std::as_bytes(std::span(&record, 1)), std::span(&c, 1));
}

}  // namespace

HostSocket::State HostSocket::InitialState(HostPair::Use use) {
  switch (use) {
    case HostPair::Use::kFresh:
      return State::kFresh;
    case HostPair::Use::kConnected:
      return State::kConnected;
    case HostPair::Use::kDirect:
      return State::kDirect;
    case HostPair::Use::kDatagram:
      return State::kDatagram;
  }
  return State::kDead;
}

HostSocket::HostSocket(HostObjects* objects, std::shared_ptr<Socket> socket, HostPair* pair)
    : objects_(objects),
      id_(pair->id),
      socket_(std::move(socket)),
      c_cookie_(pair->c_cookie),
      share_(std::move(pair->share)),
      s_(std::move(pair->s)),
      state_(InitialState(pair->use)),
      junk_(pair->junk) {
  if (socket_->type() == SOCK_STREAM) stream().set_host(this);
  if (state_ == State::kDirect) return;
  if (state_ == State::kConnected) BecomeConnected();
  socket_->waiters().Add(this);
  if (state_ == State::kFresh) return;
  // Only the events are new, so that this cannot fail.
  watched_ = true;
  (void)WatchS(/*writable=*/false);
}

// Edge-triggered: a pump that the stack has no room for must not spin on a readable S. Room in S is
// of interest only after there was none: else each read of the program's would wake the loop.
Errno HostSocket::WatchS(bool writable) {
  const uint32_t events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET | (writable ? EPOLLOUT : 0);
  EventLoop& loop = objects_->loop();
  const Errno error =
      watched_ ? loop.Rewatch(s_.get(), events, this) : loop.Watch(s_.get(), events, this);
  watched_ |= error.ok();
  watches_writable_ = writable;
  return error;
}

bool HostSocket::WatchSOrRetry() {
  if (watched_ || WatchS(/*writable=*/false).ok()) return true;
  RetryLater();
  return false;
}

HostSocket::~HostSocket() {
  if (socket_->type() == SOCK_STREAM) stream().set_host(nullptr);
  if (host_closed_ && pump_.host_done()) {
    // Nobody is left to see how it ends, and nothing but bytes can be in it.
    objects_->loop().Forget(s_.get(), this);
    return;
  }
  // Without the program's end nobody is to see a reset; a program that outlives the server is.
  if (state_ == State::kConnected && hangup_) {
    pump_.DropKeptBytes(s_.get(), objects_->loop().closer());
  }
  CloseS();
  // What is behind it is found closed, as any other.
  if (unsent_ != nullptr) objects_->loop().closer().CloseStream(std::move(unsent_->c));
}

void HostSocket::CloseS() {
  objects_->loop().Unwatch(s_.get(), this);
  // Of the junk, what the client has reported may be anything.
  objects_->loop().closer().CloseStream(std::move(s_), /*own=*/std::min<size_t>(junk_, 1));
}

void HostSocket::OnReady(uint32_t mask) {
  // Each acknowledgement tells of room; nobody has waited for it.
  if (state_ == State::kConnected && (mask & ~kWritable) == 0 && !pump_.host_readable() &&
      static_cast<StreamSocket&>(*socket_).SendSpace() > 0) {
    return;
  }
  Schedule();
}

void HostSocket::OnEvents(uint32_t events) {
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) hangup_ = true;
  // From a program that does not tell before.
  if ((events & EPOLLPRI) != 0) ExpectUrgent();
  constexpr uint32_t kEnd = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
  if ((events & ~EPOLLOUT) != 0) {
    pump_.HostReadable(/*ended=*/(events & kEnd) != 0, /*failed=*/(events & EPOLLERR) != 0);
  }
  Schedule();
}

void HostSocket::Schedule() {
  if (scheduled_) return;
  scheduled_ = true;
  objects_->Schedule(shared_from_this(), bulk_);
}

bool HostSocket::HostClosed() const {
  if (s_.valid() && !hangup_) {
    pollfd p{.fd = s_.get(), .events = 0, .revents = 0};
    if (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) == 0) return false;
    if (p.revents == 0) return false;
  }
  // S hangs up for shutdown(C, SHUT_RDWR) as well: whether C's name is free tells.
  return objects_->NameIsFree(id_);
}

bool HostSocket::Finished() const {
  // A connection's pump finds out by itself.
  if (state_ == State::kConnected && !pump_.host_eof()) return false;
  return HostClosed();
}

void HostSocket::Run() {
  scheduled_ = false;
  switch (state_) {
    case State::kFresh:
    case State::kDead:
      break;
    case State::kDirect:
      return;
    case State::kListening:
      // What nobody can accept any more is to be reset.
      if (!hangup_ || !HostClosed()) RunListening();
      break;
    case State::kConnecting:
      (void)WatchSOrRetry();
      RunConnecting();
      break;
    case State::kConnected:
      RunConnected();
      return;
    case State::kDatagram:
      MirrorReadiness();
      break;
  }
  if (hangup_ && HostClosed()) objects_->Remove(id_);
}

Errno HostSocket::Listen(int backlog) {
  if (state_ == State::kDead || state_ == State::kDirect) return Errno(EINVAL);
  if (objects_->direct() && state_ == State::kFresh) stream().set_accepts_directly(true);
  if (!watched_) {
    if (Errno error = WatchS(/*writable=*/false); !error.ok()) return error;
  }
  if (Errno error = socket_->Listen(backlog); !error.ok()) return error;
  state_ = State::kListening;
  backlog_ = static_cast<size_t>(backlog < 0 ? kMaxBacklog : std::min(backlog, kMaxBacklog));
  Schedule();
  return kOk;
}

size_t HostSocket::MostRecords() const {
  // As natively, a backlog of n admits n + 1.
  return std::min(backlog_ + 1, kRecordsAhead);
}

// Of a long backlog half is room enough until somebody looks.
bool HostSocket::MayHaveManyRecords() const {
  return records_ > 0 && (MostRecords() < kRecordsAhead || records_ >= kRecordsAhead / 2);
}

void HostSocket::CountRecords() {
  int queued = 0;
  if (record_cost_ != 0 && !MayHaveManyRecords()) return;
  if (records_ == 0 || ioctl(s_.get(), SIOCOUTQ, &queued) != 0) return;
  // The first one that is seen tells what one costs.
  if (record_cost_ == 0) record_cost_ = static_cast<size_t>(queued) / records_;
  records_ = record_cost_ == 0 ? 0 : static_cast<size_t>(queued) / record_cost_;
}

bool HostSocket::AcceptNext() {
  if (unsent_ == nullptr) {
    SocketAddress peer;
    Result<std::shared_ptr<Socket>> accepted = socket_->Accept(&peer);
    if (!accepted.ok()) return false;
    unsent_ = std::make_unique<Unsent>();
    unsent_->socket = *std::move(accepted);
    unsent_->record.peer_len = peer.len;
    memcpy(unsent_->record.peer, &peer.storage,
           std::min<size_t>(peer.len, sizeof unsent_->record.peer));
  }
  if (unsent_->object != nullptr || MakeUnsentObject()) return true;
  RetryLater();
  return false;
}

bool HostSocket::MakeUnsentObject() {
  auto& accepted = static_cast<StreamSocket&>(*unsent_->socket);
  StreamSocket* const other = accepted.DirectPeer();
  Result<HostPair> pair = Errno(ENOTCONN);
  if (other != nullptr && other->host() != nullptr) {
    pair = objects_->MakeDirectPair(other->host(), share_.budget());
    if (pair.ok()) accepted.LeaveStack();
    if (!pair.ok() && accepted.OnlyDirect()) return false;
  }
  if (!pair.ok()) {
    pair = objects_->MakePair(HostPair::Use::kConnected, share_.budget(), /*sends_byte=*/true);
    if (!pair.ok()) return false;
    accepted.StayInStack();
    if (other != nullptr && other->host() != nullptr) other->host()->Schedule();
  }
  unsent_->object = objects_->Adopt(unsent_->socket, &*pair);
  unsent_->c = std::move(pair->c);
  if (const int size = SendBufferOfC(unsent_->object->stream()); size != kHostSendBuffer) {
    SetSendBuffer(unsent_->c.get(), size);
  }
  InheritUrgentInline(unsent_->object->socket(), unsent_->c.get());
  unsent_->record.object = unsent_->object->id();
  return true;
}

void HostSocket::DropUnsent() {
  if (unsent_ == nullptr) return;
  if (unsent_->object != nullptr) objects_->Remove(unsent_->object->id());
  // The end of a direct pair, which its program has sent what it liked.
  objects_->loop().closer().CloseStream(std::move(unsent_->c));
  unsent_ = nullptr;
}

UniqueFd HostSocket::ConnectDirectly(uint64_t* peer) {
  // The outcome of the connection may be known and not told yet.
  if (state_ == State::kConnecting) RunConnecting();
  if (state_ != State::kConnected) return UniqueFd();
  if (!objects_->GiveName(s_.get(), peer).ok()) return UniqueFd();
  pump_.DropKeptBytes(s_.get(), objects_->loop().closer());
  pump_.ForgetUrgent(s_.get());
  // The open file lives on, and with it what watches it.
  objects_->loop().Unwatch(s_.get(), this);
  state_ = State::kDirect;
  return std::move(s_);
}

void HostSocket::RunListening() {
  CountRecords();
  while (records_ < MostRecords() && AcceptNext()) {
    const Sent sent = SendRecord(s_.get(), unsent_->record, unsent_->c.get());
    if (sent == Sent::kLater) {
      RetryLater();
      break;
    }
    if (sent == Sent::kNever) {
      DropUnsent();
      break;
    }
    ++records_;
    CountRecords();
    // The peer's first bytes may be there already.
    unsent_->object->Schedule();
    unsent_ = nullptr;
  }
  socket_->SetAcceptDebt(records_ + (unsent_ != nullptr ? 1 : 0));
  // Room in S tells of records that were accepted.
  if (MayHaveManyRecords() != watches_writable_) (void)WatchS(!watches_writable_);
  if ((socket_->Poll() & POLLHUP) == 0) return;
  // Shut down: whoever waits in accept is to see an end of file, and nothing can follow that.
  DropUnsent();
  shutdown(s_.get(), SHUT_WR);
  state_ = State::kDead;
}

void HostSocket::RetryLater() {
  if (retry_pending_) return;
  retry_pending_ = true;
  objects_->loop().After(kRetry, [weak = weak_from_this()] {
    const std::shared_ptr<HostSocket> self = weak.lock();
    if (self == nullptr) return;
    self->retry_pending_ = false;
    self->Schedule();
  });
}

Result<uint64_t> HostSocket::Connect(const SocketAddress& address, uint64_t flags) {
  const auto result = [](Errno error, uint64_t value) -> Result<uint64_t> {
    if (!error.ok()) return error;
    return value;
  };
  if (state_ == State::kDatagram) return result(socket_->Connect(address), kHostConnectedAtOnce);
  const bool sent_byte = (flags & kHostConnectByte) != 0 && junk_ < kMaxJunk;
  if (state_ == State::kConnecting) {
    if (sent_byte) ++junk_;
    return Errno(EALREADY);
  }
  if (state_ == State::kDead) {
    // Without S a connection would have nobody to serve.
    const Errno pending = socket_->TakeError();
    return pending.ok() ? Errno(ECONNABORTED) : pending;
  }
  // Its two programs have nobody between them who could part them.
  if (state_ == State::kDirect && address.family() == AF_UNSPEC) return Errno(EOPNOTSUPP);
  if (state_ == State::kFresh) {
    // What those that failed have been sent, but for one.
    if (junk_ > 1) junk_ = 1 + TakeJunk(junk_ - 1);
    if (sent_byte) ++junk_;
    if (junk_ == 0 && stream().PassesStack(address)) return uint64_t{kHostConnectNeedsByte};
  }
  const Errno error = socket_->Connect(address);
  if (state_ == State::kConnected && error == Errno(EINPROGRESS)) {
    // It was dissolved before, and the pair cannot serve another.
    stream().Abort();
    return Errno(ECONNABORTED);
  }
  if (state_ != State::kFresh) return result(error, kHostConnectedBefore);
  if (!error.ok() && error != Errno(EINPROGRESS)) return error;
  if (address.family() == AF_UNSPEC) return uint64_t{kHostUnconnected};
  objects_->Settle();
  const bool notify = (flags & kHostConnectNotify) != 0;
  const uint32_t ready = socket_->Poll();
  if (ready != 0 && (notify || (ready & POLLERR) == 0)) {
    // Who does not wait asks for the outcome again.
    const Errno outcome = notify || (flags & kHostConnectUntold) != 0 ? socket_->TakeError() : kOk;
    if (!outcome.ok()) return outcome;
    BecomeConnected();
    Schedule();
    return uint64_t{kHostConnectedAtOnce};
  }
  state_ = State::kConnecting;
  (void)WatchSOrRetry();
  notify_ = notify;
  notified_ = false;
  to_be_filled_ = !notify;
  // A refusal shows on C when the program has been told to wait for it.
  if (ready != 0) Schedule();
  return Errno(EINPROGRESS);
}

bool HostSocket::AbandonConnect() {
  if (state_ == State::kConnecting) to_be_filled_ = true;
  notify_ = false;
  return std::exchange(notified_, false);
}

Errno HostSocket::FillConnect(size_t bytes) {
  if (junk_ > kMaxJunk || bytes > kMaxJunk - junk_) return Errno(EINVAL);
  if (state_ != State::kConnecting || notify_ || !to_be_filled_) return Errno(ENOTCONN);
  junk_ += bytes;
  to_be_filled_ = false;
  Schedule();
  return kOk;
}

void HostSocket::RunConnecting() {
  if (!outcome_) {
    const uint32_t ready = socket_->Poll();
    if (ready == 0) return;
    // The junk is still unread: the program sees ERR and HUP on C, and SO_ERROR has the reason.
    if (!notify_ && (ready & POLLERR) != 0) return Die();
    if (to_be_filled_) return;
    outcome_ = notify_ ? socket_->TakeError() : kOk;
  }
  if (notify_) {
    const Sent sent = SendByte(s_.get(), static_cast<char>(outcome_->value()));
    if (sent == Sent::kLater) return RetryLater();
    notified_ = sent == Sent::kYes;
    notify_ = false;
  }
  const bool failed = !outcome_->ok();
  outcome_.reset();
  if (failed) {
    state_ = State::kFresh;
  } else {
    BecomeConnected();
    Schedule();
  }
}

size_t HostSocket::TakeJunk(size_t junk) {
  while (junk > 0) {
    const std::span<std::byte> buffer = objects_->buffer();
    std::vector<UniqueFd> fds;
    const size_t size = std::min(buffer.size(), junk);
    const ssize_t n = ReceiveWithFds(s_.get(), buffer.first(size), &fds);
    for (UniqueFd& fd : fds) objects_->loop().closer().Close(std::move(fd));
    if (n <= 0) break;
    junk -= static_cast<size_t>(n);
  }
  return junk;
}

void HostSocket::BecomeConnected() {
  if (junk_ > 1) junk_ = 1 + TakeJunk(junk_ - 1);
  if (junk_ == 1) pump_.KeepFirstByte();
  junk_ = 0;
  state_ = State::kConnected;
  if (SendBufferOfS(stream()) != kHostSendBuffer) ReceiveBufferSet();
}

void HostSocket::ReceiveBufferSet() {
  if (state_ == State::kConnected) SetSendBuffer(s_.get(), SendBufferOfS(stream()));
}

void HostSocket::Trim() {
  trim_pending_ = false;
  if (state_ == State::kConnected) pump_.Trim(s_.get(), objects_->loop().closer());
}

bool HostSocket::ResetsOnClose() const {
  linger linger = {};
  const auto n =
      socket_->GetOption(SOL_SOCKET, SO_LINGER, std::as_writable_bytes(std::span(&linger, 1)));
  return n.ok() && linger.l_onoff != 0 && linger.l_linger == 0;
}

void HostSocket::RunConnected() {
  StreamSocket& stream = this->stream();
  // An end of file, which the pump would pass on, must not come first; what was written must.
  if (hangup_ && ResetsOnClose() && HostClosed()) {
    pump_.SendLeftBehind(s_.get(), stream, objects_->buffer(), objects_->loop().closer());
    stream.Abort();
    return objects_->Remove(id_);
  }
  // Who accepts gets what C sends from C itself.
  if (AwaitsDirectPeer() || !WatchSOrRetry()) return;
  const StreamPump::Outcome outcome = pump_.Run(s_.get(), stream, objects_->buffer(),
                                                objects_->budget(), objects_->loop().closer());
  bulk_ = pump_.moved() >= kBulkBytes;
  objects_->CountMoved(pump_.moved());
  switch (outcome) {
    case StreamPump::Outcome::kMore:
      return Schedule();
    case StreamPump::Outcome::kHostGone:
      stream.Abort();
      return objects_->Remove(id_);
    case StreamPump::Outcome::kStreamGone:
      if (HostClosed()) return objects_->Remove(id_);
      return DieOf(stream);
    case StreamPump::Outcome::kRetry:
      RetryLater();
      break;
    case StreamPump::Outcome::kIdle:
      break;
  }
  if (pump_.keeps_much() && !std::exchange(trim_pending_, true)) {
    objects_->TrimLater(id_);
  }
  if (pump_.host_full() != watches_writable_) (void)WatchS(pump_.host_full());
  // Bytes that C left behind are sent first.
  if (hangup_ && pump_.host_eof() && HostClosed()) {
    host_closed_ = true;
    objects_->Remove(id_);
  }
}

void HostSocket::DieOf(StreamSocket& stream) {
  // A reset is C's to tell; SO_ERROR has what it cannot say. One that comes behind the peer's end
  // of file is seen by who writes only.
  if (stream.pending_error() == Errno(ECONNRESET)) (void)stream.TakeError();
  if (stream.pending_error() == Errno(EPIPE)) {
    pump_.DropKeptBytes(s_.get(), objects_->loop().closer());
  }
  Die();
}

void HostSocket::Die() {
  CloseS();
  state_ = State::kDead;
  objects_->WatchDead(id_);
}

void HostSocket::ExpectUrgent() {
  if (state_ == State::kConnecting || state_ == State::kConnected) pump_.ExpectUrgent(s_.get());
}

void HostSocket::DatagramTaken() {
  byte_out_ = false;
  MirrorReadiness();
}

// Not at once: another process may have the byte, and be about to ask. One byte too many does no
// more than wake somebody for nothing.
void HostSocket::LookForByte() {
  if (!byte_out_ || std::exchange(look_pending_, true)) return;
  objects_->loop().After(kByteLook, [weak = weak_from_this(), sent = bytes_sent_] {
    const std::shared_ptr<HostSocket> self = weak.lock();
    if (self == nullptr) return;
    self->look_pending_ = false;
    if (self->bytes_sent_ != sent) return self->LookForByte();
    int unread = 0;
    if (ioctl(self->s_.get(), SIOCOUTQ, &unread) != 0 || unread > 0) return;
    self->byte_out_ = false;
    self->Schedule();
  });
}

void HostSocket::MirrorReadiness() {
  // Of a process that the server does not know to have C, it does not know the end.
  if (byte_out_) return LookForByte();
  if ((socket_->Poll() & (POLLIN | POLLERR)) == 0) return;
  const Sent sent = SendByte(s_.get(), 0);
  byte_out_ = sent == Sent::kYes;
  if (byte_out_) ++bytes_sent_;
  if (sent == Sent::kLater) RetryLater();
}

}  // namespace rump
