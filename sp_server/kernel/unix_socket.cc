#include "sp_server/kernel/unix_socket.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/un.h>

#include <algorithm>

namespace rump {
namespace {

// Linux's net.core.wmem_default, twice its wmem_max, and the smallest SO_SNDBUF there is.
constexpr int kDefaultBuffer = 212'992;
constexpr int kMaxBuffer = 425'984;
constexpr int kMinBuffer = 4608;
// What a record costs beyond its bytes, so that empty ones are bounded as well.
constexpr size_t kRecordCost = 256;
// What a connection costs that nobody has accepted: a socket without a descriptor.
constexpr size_t kConnectionCost = 2048;
// A stream's pieces are filled up to this.
constexpr size_t kPiece = 64 * 1024;

SocketAddress Unnamed() {
  SocketAddress address;
  address.storage.ss_family = AF_UNIX;
  address.len = sizeof(sa_family_t);
  return address;
}

size_t Put(std::span<std::byte> value, const void* data, size_t size) {
  const size_t n = std::min(value.size(), size);
  if (n > 0) memcpy(value.data(), data, n);
  return n;
}

}  // namespace

UnixSocket::UnixSocket(std::shared_ptr<UnixNames> names, int type, int flags)
    : Socket(AF_UNIX, type, 0, flags),
      names_(std::move(names)),
      received_cost_(names_->memory()),
      accepted_cost_(names_->memory()),
      send_buffer_(kDefaultBuffer) {}

UnixSocket::~UnixSocket() {
  if (bound_) names_->Unbind(bound_name_);
  if (!has_connections()) return;
  if (const std::shared_ptr<UnixSocket> peer = peer_.lock(); peer != nullptr) {
    peer->OnPeerClosed(/*reset=*/!received_.empty() || !accepted_by_program_);
  }
}

void UnixSocket::OnPeerClosed(bool reset) {
  shutdown_ = kShutBoth;
  if (reset) error_ = ECONNRESET;
  waiters().Notify(kEverything);
}

uint32_t UnixSocket::Poll() const {
  uint32_t mask = 0;
  if (error_ != 0) mask |= POLLERR;
  if ((shutdown_ & kShutRead) != 0) mask |= kReadable | POLLRDHUP;
  if (shutdown_ == kShutBoth) mask |= POLLHUP;
  if (!received_.empty() || !accepted_.empty()) mask |= kReadable;
  if (has_connections() && state_ == State::kFresh) mask |= POLLHUP;
  if (state_ != State::kListening) {
    const std::shared_ptr<UnixSocket> peer = type() == SOCK_STREAM ? peer_.lock() : nullptr;
    // Linux: a stream with a quarter of its buffer free.
    const bool full = peer != nullptr && (shutdown_ & kShutWrite) == 0 &&
                      StreamRoom(*peer) < static_cast<size_t>(send_buffer_) / 4;
    if (!full) mask |= kWritable;
  }
  // Whoever waits to send or to connect sleeps until there is room.
  if (!blocked_.empty()) mask &= ~(kWritable | POLLHUP);
  return mask;
}

Errno UnixSocket::Ioctl(uint64_t request, std::span<std::byte> arg) {
  size_t bytes = 0;
  switch (request) {
    case FIONREAD:
      if (type() == SOCK_DGRAM) {
        bytes = received_.empty() ? 0 : received_.front().data.size();
      } else {
        for (const Message& message : received_) bytes += message.data.size() - message.begin;
      }
      break;
    case SIOCOUTQ:
      if (const std::shared_ptr<UnixSocket> peer = peer_.lock(); peer != nullptr) {
        bytes = peer->received_cost_.size();
      }
      break;
    default:
      return Errno(ENOTTY);
  }
  const int value = static_cast<int>(bytes);
  if (arg.size() < sizeof value) return Errno(EINVAL);
  memcpy(arg.data(), &value, sizeof value);
  return kOk;
}

Result<std::shared_ptr<UnixSocket>> UnixSocket::FindOther(const SocketAddress& address) const {
  const Result<UnixNames::Name> name = UnixNames::Parse(type(), address);
  if (!name.ok()) return name.error();
  std::shared_ptr<UnixSocket> other = names_->Find(*name);
  if (other == nullptr) return Errno(name->first == 0 ? ENOENT : ECONNREFUSED);
  if (other->type() != type()) return Errno(EPROTOTYPE);
  return other;
}

Errno UnixSocket::Bind(const SocketAddress& address) {
  if (address.len == sizeof(sa_family_t) && address.family() == AF_UNIX) {
    if (name_ != nullptr) return kOk;
    const Result<UnixNames::Name> name = names_->BindAny(type(), this);
    if (!name.ok()) return name.error();
    bound_name_ = *name;
  } else {
    const Result<UnixNames::Name> name = UnixNames::Parse(type(), address);
    if (!name.ok()) return name.error();
    if (name_ != nullptr) return Errno(EINVAL);
    if (const Errno error = names_->Bind(*name, this); !error.ok()) return error;
    bound_name_ = *name;
  }
  bound_ = true;
  name_ = std::make_shared<const SocketAddress>(UnixNames::AddressOf(bound_name_));
  return kOk;
}

Result<SocketAddress> UnixSocket::LocalAddress() { return name_ != nullptr ? *name_ : Unnamed(); }

Result<SocketAddress> UnixSocket::PeerAddress() {
  if (state_ != State::kConnected) return Errno(ENOTCONN);
  return peer_name_ != nullptr ? *peer_name_ : Unnamed();
}

// --- Connections ---------------------------------------------------------------------------------

Errno UnixSocket::Listen(int backlog) {
  if (!has_connections()) return Errno(EOPNOTSUPP);
  if (!bound_ || state_ == State::kConnected) return Errno(EINVAL);
  backlog_ = static_cast<size_t>(backlog < 0 ? kMaxBacklog : std::min(backlog, kMaxBacklog));
  state_ = State::kListening;
  room_.Notify(kWritable);
  return kOk;
}

Result<std::shared_ptr<Socket>> UnixSocket::Accept(SocketAddress* peer) {
  if (!has_connections()) return Errno(EOPNOTSUPP);
  if (state_ != State::kListening || (shutdown_ & kShutRead) != 0) return Errno(EINVAL);
  if (accepted_.empty()) return Errno(EAGAIN);
  std::shared_ptr<UnixSocket> socket = std::move(accepted_.front());
  accepted_.pop_front();
  accepted_cost_.Shrink(kConnectionCost);
  socket->accepted_by_program_ = true;
  if (peer != nullptr) *peer = *socket->PeerAddress();
  room_.Notify(kWritable);
  return std::shared_ptr<Socket>(std::move(socket));
}

bool UnixSocket::TakesFrom(const UnixSocket* sender) const {
  return state_ != State::kConnected || peer_.lock().get() == sender;
}

void UnixSocket::SetPeer(UnixSocket& peer) {
  peer_ = peer.weak_from_this();
  peer_name_ = peer.name_;
  peer_user_ = peer.user();
  state_ = State::kConnected;
  waiters().Notify(kWritable);
}

Errno UnixSocket::Connect(const SocketAddress& address) {
  if (!has_connections()) {
    if (address.len >= sizeof(sa_family_t) && address.family() == AF_UNSPEC) {
      peer_.reset();
      state_ = State::kFresh;
      return kOk;
    }
    const Result<std::shared_ptr<UnixSocket>> other = FindOther(address);
    if (!other.ok()) return other.error();
    if (!(*other)->TakesFrom(this)) return Errno(EPERM);
    SetPeer(**other);
    return kOk;
  }
  const Result<std::shared_ptr<UnixSocket>> other = FindOther(address);
  if (!other.ok()) return other.error();
  UnixSocket& listener = **other;
  if (listener.state_ != State::kListening || (listener.shutdown_ & kShutRead) != 0) {
    return Errno(ECONNREFUSED);
  }
  if (state_ == State::kConnected) return Errno(EISCONN);
  if (state_ == State::kListening) return Errno(EINVAL);
  // A backlog of n lets n + 1 in.
  if (listener.accepted_.size() > listener.backlog_) return BlockOn(&listener);
  if (!listener.accepted_cost_.Grow(kConnectionCost)) return Errno(ENOBUFS);
  auto end = std::make_shared<UnixSocket>(names_, type(), O_RDWR);
  end->accepted_by_program_ = false;
  end->name_ = listener.name_;
  end->set_user(listener.user());
  end->SetPeer(*this);
  SetPeer(*end);
  listener.accepted_.push_back(std::move(end));
  listener.waiters().Notify(kReadable);
  return kOk;
}

Errno UnixSocket::ConnectPair(Socket& other) {
  auto& end = static_cast<UnixSocket&>(other);
  SetPeer(end);
  end.SetPeer(*this);
  return kOk;
}

Errno UnixSocket::Shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  const auto ours = static_cast<uint8_t>(how + 1);
  shutdown_ |= ours;
  waiters().Notify(kEverything);
  room_.Notify(kWritable);
  const std::shared_ptr<UnixSocket> peer = has_connections() ? peer_.lock() : nullptr;
  if (peer == nullptr) return kOk;
  if ((ours & kShutRead) != 0) peer->shutdown_ |= kShutWrite;
  if ((ours & kShutWrite) != 0) peer->shutdown_ |= kShutRead;
  peer->waiters().Notify(kEverything);
  return kOk;
}

// --- Data ----------------------------------------------------------------------------------------

Errno UnixSocket::BlockOn(UnixSocket* target) {
  auto [it, fresh] = blocked_.try_emplace(target, this, target);
  if (fresh) target->room_.Add(&it->second);
  return Errno(EAGAIN);
}

void UnixSocket::Unblock(UnixSocket* target) {
  blocked_.erase(target);
  waiters().Notify(kWritable);
}

size_t UnixSocket::StreamRoom(const UnixSocket& peer) const {
  const auto limit = static_cast<size_t>(send_buffer_);
  return limit - std::min(limit, peer.received_cost_.size());
}

Result<size_t> UnixSocket::Send(std::span<const std::byte> data, const SocketAddress* to,
                                int flags) {
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (to != nullptr && to->len == 0) to = nullptr;
  if (type() == SOCK_DGRAM) return SendRecord(data, to);
  if (to != nullptr && type() == SOCK_STREAM) {
    return Errno(state_ == State::kConnected ? EISCONN : EOPNOTSUPP);
  }
  if (state_ != State::kConnected) return Errno(ENOTCONN);
  return type() == SOCK_STREAM ? SendStream(data) : SendRecord(data, nullptr);
}

Result<size_t> UnixSocket::SendStream(std::span<const std::byte> data) {
  const std::shared_ptr<UnixSocket> peer = peer_.lock();
  if (peer == nullptr || (shutdown_ & kShutWrite) != 0) return Errno(EPIPE);
  if (data.empty()) return size_t{0};
  const size_t room = std::min(StreamRoom(*peer), data.size());
  if (room == 0) return Errno(EAGAIN);
  if (!peer->received_cost_.Grow(room)) return Errno(ENOBUFS);
  std::deque<Message>& queue = peer->received_;
  for (std::span<const std::byte> left = data.first(room); !left.empty();) {
    if (queue.empty() || queue.back().data.size() >= kPiece) queue.emplace_back();
    std::vector<std::byte>& piece = queue.back().data;
    const size_t n = std::min(left.size(), kPiece - piece.size());
    piece.insert(piece.end(), left.begin(), left.begin() + static_cast<ptrdiff_t>(n));
    left = left.subspan(n);
  }
  peer->waiters().Notify(kReadable);
  return room;
}

Result<size_t> UnixSocket::SendRecord(std::span<const std::byte> data, const SocketAddress* to) {
  std::shared_ptr<UnixSocket> target;
  if (to != nullptr) {
    Result<std::shared_ptr<UnixSocket>> other = FindOther(*to);
    if (!other.ok()) return other.error();
    target = *std::move(other);
    if (!target->TakesFrom(this)) return Errno(EPERM);
  } else {
    if (state_ != State::kConnected) return Errno(ENOTCONN);
    target = peer_.lock();
    if (target == nullptr && has_connections()) return Errno(EPIPE);
    if (target == nullptr) {
      state_ = State::kFresh;
      return Errno(ECONNREFUSED);
    }
  }
  if ((shutdown_ & kShutWrite) != 0 || (target->shutdown_ & kShutRead) != 0) return Errno(EPIPE);
  const size_t cost = data.size() + kRecordCost;
  const auto limit = static_cast<size_t>(send_buffer_);
  if (cost > limit) return Errno(EMSGSIZE);
  if (!target->received_.empty() && target->received_cost_.size() + cost > limit) {
    return BlockOn(target.get());
  }
  if (!target->received_cost_.Grow(cost)) return Errno(ENOBUFS);
  target->received_.push_back(
      {.data = std::vector<std::byte>(data.begin(), data.end()), .begin = 0, .from = name_});
  target->waiters().Notify(kReadable);
  return data.size();
}

Result<Received> UnixSocket::Receive(std::span<std::byte> buffer, int flags) {
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (has_connections() && state_ != State::kConnected) {
    return Errno(type() == SOCK_STREAM ? EINVAL : ENOTCONN);
  }
  if (received_.empty()) {
    if (error_ != 0) return TakeError();
    if ((shutdown_ & kShutRead) != 0) return Received{};
    return Errno(EAGAIN);
  }
  const bool peek = (flags & MSG_PEEK) != 0;
  return type() == SOCK_STREAM ? ReceiveStream(buffer, peek) : ReceiveRecord(buffer, peek);
}

Result<Received> UnixSocket::ReceiveStream(std::span<std::byte> buffer, bool peek) {
  Received result;
  for (size_t i = 0; i < received_.size() && result.copied < buffer.size();) {
    Message& piece = received_[i];
    const size_t n = std::min(piece.data.size() - piece.begin, buffer.size() - result.copied);
    memcpy(buffer.data() + result.copied, piece.data.data() + piece.begin, n);
    result.copied += n;
    if (peek) {
      ++i;
      continue;
    }
    piece.begin += n;
    received_cost_.Shrink(n);
    if (piece.begin == piece.data.size()) received_.pop_front();
  }
  result.length = result.copied;
  if (peek) return result;
  const std::shared_ptr<UnixSocket> peer = peer_.lock();
  if (peer != nullptr && (peer->Poll() & POLLOUT) != 0) peer->waiters().Notify(kWritable);
  return result;
}

Result<Received> UnixSocket::ReceiveRecord(std::span<std::byte> buffer, bool peek) {
  const Message& message = received_.front();
  Received result;
  result.length = message.data.size();
  result.copied = Put(buffer, message.data.data(), message.data.size());
  if (result.copied < result.length) result.flags |= MSG_TRUNC;
  if (message.from != nullptr) result.from = *message.from;
  if (peek) return result;
  received_cost_.Shrink(message.data.size() + kRecordCost);
  received_.pop_front();
  room_.Notify(kWritable);
  return result;
}

// --- Options -------------------------------------------------------------------------------------

Errno UnixSocket::SetOption(int level, int name, std::span<const std::byte> value) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  if (name == SO_RCVTIMEO || name == SO_SNDTIMEO) {
    timeval timeout;
    if (value.size() < sizeof timeout) return Errno(EINVAL);
    memcpy(&timeout, value.data(), sizeof timeout);
    if (timeout.tv_usec < 0 || timeout.tv_usec >= 1'000'000) return Errno(EDOM);
    (name == SO_RCVTIMEO ? receive_timeout_ : send_timeout_) = timeout;
    return kOk;
  }
  int number = 0;
  if (value.size() < sizeof number) return Errno(EINVAL);
  memcpy(&number, value.data(), sizeof number);
  switch (name) {
    case SO_SNDBUF:
    case SO_RCVBUF: {
      // Linux doubles it, and takes a negative size for a large unsigned one.
      const bool large = number < 0 || number > kMaxBuffer / 2;
      const int size = large ? kMaxBuffer : std::max(kMinBuffer, number * 2);
      (name == SO_SNDBUF ? send_buffer_ : options_[name]) = size;
      if (name == SO_SNDBUF) waiters().Notify(Poll());
      return kOk;
    }
    case SO_REUSEADDR:
    case SO_KEEPALIVE:
    case SO_BROADCAST:
    case SO_DONTROUTE:
    case SO_OOBINLINE:
      options_[name] = number != 0 ? 1 : 0;
      return kOk;
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<size_t> UnixSocket::GetOption(int level, int name, std::span<std::byte> value) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  const auto put = [&](int number) { return Put(value, &number, sizeof number); };
  const auto set = [&](int initial) {
    auto it = options_.find(name);
    return put(it == options_.end() ? initial : it->second);
  };
  switch (name) {
    case SO_TYPE:
      return put(type());
    case SO_DOMAIN:
      return put(AF_UNIX);
    case SO_PROTOCOL:
      return put(0);
    case SO_ERROR:
      return put(std::exchange(error_, 0));
    case SO_ACCEPTCONN:
      return put(state_ == State::kListening ? 1 : 0);
    case SO_PEERCRED: {
      // There are no users in the kernel: everybody is its root.
      ucred peer{.pid = peer_user_, .uid = 0, .gid = 0};
      if (state_ != State::kConnected) peer = {.pid = 0, .uid = uid_t(-1), .gid = gid_t(-1)};
      return Put(value, &peer, sizeof peer);
    }
    case SO_RCVTIMEO:
      return Put(value, &receive_timeout_, sizeof receive_timeout_);
    case SO_SNDTIMEO:
      return Put(value, &send_timeout_, sizeof send_timeout_);
    case SO_SNDBUF:
      return put(send_buffer_);
    case SO_RCVBUF:
      return set(kDefaultBuffer);
    case SO_REUSEADDR:
    case SO_KEEPALIVE:
    case SO_BROADCAST:
    case SO_DONTROUTE:
    case SO_OOBINLINE:
      return set(0);
    default:
      return Errno(ENOPROTOOPT);
  }
}

void RegisterUnix(SocketFamilies* families, std::shared_ptr<Budget> memory) {
  families->Register(
      AF_UNIX,
      [names = std::make_shared<UnixNames>(std::move(memory))](
          int, int type, int protocol, int flags) -> Result<std::shared_ptr<Socket>> {
        if (protocol != 0 && protocol != PF_UNIX) return Errno(EPROTONOSUPPORT);
        // Linux: a raw one is for datagrams.
        if (type == SOCK_RAW) type = SOCK_DGRAM;
        if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) {
          return Errno(ESOCKTNOSUPPORT);
        }
        return std::shared_ptr<Socket>(std::make_shared<UnixSocket>(names, type, flags));
      });
}

}  // namespace rump
