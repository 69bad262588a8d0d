// The bytes of TCP sockets, and their readiness.
#include <errno.h>
#include <linux/tcp.h>
#include <poll.h>
#include <string.h>

#include <algorithm>
#include <utility>

#include "lwip/priv/tcp_priv.h"
#include "sp_server/net/tcp_socket.h"

namespace rump {
namespace {

// Bytes per tcp_write, which counts in 16 bits.
constexpr size_t kWriteBytes = TCP_MSS;
// From this size on bytes are put into a SendBlock of their own.
constexpr size_t kMinBlockBytes = 4096;
// Buffers queued at lwIP above which a socket counts as full, far enough from lwIP's own limit that
// a write cannot fail on it.
constexpr u16_t kMaxQueuedBuffers = TCP_SND_QUEUELEN / 2;

}  // namespace

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
  return SendFrom(nullptr, data, flags);
}

Result<size_t> TcpSocket::SendKept(std::span<const std::byte> data,
                                   const std::shared_ptr<const void>& keeper, int flags) {
  if (keeper == nullptr) return Send(data, nullptr, flags);
  SendBlock* const block = SendBlock::Lend(data, keeper);
  const Result<size_t> sent = SendFrom(block, data, flags);
  block->Unref();
  return sent;
}

Result<size_t> TcpSocket::SendFrom(SendBlock* block, std::span<const std::byte> data, int flags) {
  if (error_ != 0) return Errno(std::exchange(error_, 0));
  if (state_ == State::kConnecting) return Errno(EAGAIN);
  if (state_ != State::kConnected || pcb_ == nullptr || (shutdown_ & kShutWrite) != 0) {
    return Errno(EPIPE);
  }
  if (data.empty()) return size_t{0};
  const size_t space = SendSpace();
  if (space == 0) return Errno(EAGAIN);
  // Bytes that are left say themselves whether they end in an urgent one.
  const bool urgent = (flags & MSG_OOB) != 0 && data.size() <= space;
  data = data.first(std::min(data.size(), space));
  const bool more = (flags & MSG_MORE) != 0 || options_.Flag(IPPROTO_TCP, TCP_CORK);
  const size_t sent = Queue(data, more, block);
  if (sent == 0) return Errno(pcb_->snd_queuelen == 0 ? ENOBUFS : EAGAIN);
  const bool at_once = urgent && sent == data.size();
  if (at_once) {
    tcp_ext_arg_set(pcb_, kUrgentSlot, reinterpret_cast<void*>(kUrgentSent | pcb_->snd_lbb));
  }
  Output(sent, more, at_once);
  return sent;
}

size_t TcpSocket::Queue(std::span<const std::byte> data, bool more, SendBlock* block) {
  size_t sent = 0;
  while (sent < data.size()) {
    const size_t n = std::min(data.size() - sent, kWriteBytes);
    const std::span<const std::byte> piece = data.subspan(sent, n);
    SendBlock* const fresh = block == nullptr && BlocksPay(n) ? SendBlock::Make(n) : nullptr;
    if (fresh != nullptr) memcpy(fresh->bytes().data(), piece.data(), n);
    SendBlock* const lent = block != nullptr ? block : fresh;
    u8_t flags = lent == nullptr ? TCP_WRITE_FLAG_COPY : 0;
    // Data behind other unsent data waits in any case: lwIP then leaves room for more in its
    // buffer, which keeps a run of small writes from becoming a chain of small buffers.
    if (more || pcb_->unsent != nullptr || sent + n < data.size()) flags |= TCP_WRITE_FLAG_MORE;
    const void* const bytes = fresh != nullptr ? fresh->bytes().data() : piece.data();
    const err_t error = tcp_write(pcb_, bytes, static_cast<u16_t>(n), flags);
    if (error == ERR_OK && lent != nullptr) HoldBlock(pcb_->unsent, lent);
    if (fresh != nullptr) fresh->Unref();
    if (error != ERR_OK) break;
    sent += n;
  }
  return sent;
}

// A buffer each for a few bytes, or for each of many small segments, costs more than copies.
bool TcpSocket::BlocksPay(size_t bytes) const {
  return bytes >= kMinBlockBytes && pcb_->mss >= kMinBlockBytes;
}

void TcpSocket::Output(size_t queued, bool more, bool at_once) {
  if (!at_once && HoldsBack(more)) return;
  if (queued % pcb_->mss != 0) small_end_ = pcb_->snd_lbb;
  tcp_output(pcb_);
}

size_t TcpSocket::PrepareSend(size_t bytes, std::span<iovec> iov) {
  std::vector<SendBlock*>& blocks = stack_->prepared();
  if (pcb_ == nullptr || !BlocksPay(bytes)) return 0;
  while (bytes > 0 && blocks.size() < iov.size()) {
    SendBlock* const block = SendBlock::Make(std::min(bytes, SendBlock::kMaxBytes));
    iov[blocks.size()] = {block->bytes().data(), block->bytes().size()};
    bytes -= block->bytes().size();
    blocks.push_back(block);
  }
  return blocks.size();
}

bool TcpSocket::SendPrepared(size_t bytes) {
  std::vector<SendBlock*>& blocks = stack_->prepared();
  const bool more = options_.Flag(IPPROTO_TCP, TCP_CORK);
  size_t sent = 0;
  for (SendBlock* const block : blocks) {
    const size_t n = std::min(block->bytes().size(), bytes - sent);
    // Much of a block must not wait in the stack for the sake of few bytes.
    SendBlock* const kept = n >= block->bytes().size() / 2 ? block : nullptr;
    const size_t queued = Queue(block->bytes().first(n), more || sent + n < bytes, kept);
    sent += queued;
    if (queued < n) break;
  }
  for (SendBlock* const block : blocks) block->Unref();
  blocks.clear();
  if (sent > 0) Output(sent, more, /*at_once=*/false);
  return sent == bytes;
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
  if ((flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  const bool peek = (flags & MSG_PEEK) != 0;
  if ((flags & MSG_OOB) != 0 && state_ != State::kListening) return ReceiveUrgent(buffer, flags);
  if (SkipsFirst() && !peek) ConsumeReceived(1);
  const size_t skipped = SkipsFirst() ? 1 : 0;
  size_t available = received_.size() - skipped;
  if (UrgentArrived() && !AtMark()) available = BytesToMark();
  if (available == 0) {
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
    result.length = std::min(buffer.size(), available);
  } else {
    result.length = result.copied =
        received_.Copy(buffer.first(std::min(buffer.size(), available)), skipped);
  }
  if (!peek) ConsumeReceived(result.length);
  result.at_mark = AtMark();
  return result;
}

Result<Received> TcpSocket::ReceiveUrgent(std::span<std::byte> buffer, int flags) {
  if (UrgentInline() || urgent_ != Urgent::kAnnounced) return Errno(EINVAL);
  if (!UrgentArrived()) {
    if ((shutdown_ & kShutRead) != 0) return Received{};
    return Errno(EAGAIN);
  }
  Received result;
  result.flags = MSG_OOB;
  result.length = std::min<size_t>(buffer.size(), 1);
  if ((flags & MSG_TRUNC) == 0) {
    result.copied = received_.Copy(buffer.first(result.length), BytesToMark());
  }
  if ((flags & MSG_PEEK) == 0) urgent_ = Urgent::kTaken;
  return result;
}

size_t TcpSocket::PeekReceived(std::span<iovec> iov) const {
  const size_t count = received_.Peek(iov);
  if (!UrgentArrived()) return count;
  size_t left = AtMark() ? 1 : BytesToMark();
  for (size_t i = 0; i < count; ++i) {
    if (iov[i].iov_len >= left) {
      iov[i].iov_len = left;
      return i + 1;
    }
    left -= iov[i].iov_len;
  }
  return count;
}

void TcpSocket::ConsumeReceived(size_t bytes) {
  if (urgent_ != Urgent::kNone && bytes > BytesToMark()) urgent_ = Urgent::kNone;
  read_seq_ += static_cast<uint32_t>(bytes);
  received_.Consume(bytes);
  if (pcb_ != nullptr && pcb_->state != TIME_WAIT) OpenWindow();
}

size_t TcpSocket::ReceiveLimit() const {
  const size_t most = TCP_WND_MAX(pcb_);
  if (!options_.IsSet(SOL_SOCKET, SO_RCVBUF)) return most;
  const auto asked = static_cast<size_t>(options_.Int(SOL_SOCKET, SO_RCVBUF));
  return std::min(most, std::max(asked, least_window_));
}

void TcpSocket::LimitStream(tcp_pcb* pcb) const {
  if (largest_segment_ != 0) pcb->mss = std::min(pcb->mss, largest_segment_);
  if (!options_.IsSet(SOL_SOCKET, SO_RCVBUF)) return;
  const auto asked = static_cast<size_t>(options_.Int(SOL_SOCKET, SO_RCVBUF));
  pcb->rcv_wnd = pcb->rcv_ann_wnd =
      static_cast<tcpwnd_size_t>(std::min<size_t>(pcb->rcv_wnd, asked));
}

void TcpSocket::OpenWindow() {
  const size_t limit = ReceiveLimit();
  // What was promised once stays so.
  const size_t window = limit - std::min(limit, received_.size());
  for (size_t left = window - std::min<size_t>(window, pcb_->rcv_wnd); left > 0;) {
    const size_t n = std::min<size_t>(left, UINT16_MAX);
    tcp_recved(pcb_, static_cast<u16_t>(n));
    left -= n;
  }
  // lwIP tells the peer when there is room for a few full segments more, which may be more than all
  // of the window. The peer's segments are up to half the window that it was told of, which is
  // rounded down. A probe of a closed window may have come from behind its right edge, and one that
  // was promised may still be ahead of what there is room for.
  const auto growth = static_cast<s32_t>(pcb_->rcv_nxt + pcb_->rcv_wnd - pcb_->rcv_ann_right_edge);
  constexpr s32_t kRounding = 1 << TCP_RCV_SCALE;
  if (growth > 0 && growth + kRounding >= static_cast<s32_t>(limit / 2)) {
    pcb_->rcv_ann_wnd = pcb_->rcv_wnd;
    tcp_ack_now(pcb_);
    tcp_output(pcb_);
  }
}

uint32_t TcpSocket::Poll() const {
  if (state_ == State::kListening) return accepted_.empty() ? 0 : kReadable;
  uint32_t mask = 0;
  if (error_ != 0) mask |= POLLERR;
  if ((shutdown_ & kShutBoth) == kShutBoth || state_ == State::kClosed) mask |= POLLHUP;
  if ((shutdown_ & kShutRead) != 0) mask |= kReadable | POLLRDHUP;
  if (state_ == State::kConnecting) return mask;
  if (received_.size() > (SkipsFirst() ? 1 : 0)) mask |= kReadable;
  if (urgent_ == Urgent::kAnnounced && UrgentArrived()) mask |= POLLPRI;
  // Writable also when a write would fail at once, and from a third of the buffer free on.
  if (state_ != State::kConnected || (shutdown_ & kShutWrite) != 0 || direct_ ||
      SendSpace() >= (SendLimit() + 2) / 3) {
    mask |= kWritable;
  }
  return mask;
}

}  // namespace rump
