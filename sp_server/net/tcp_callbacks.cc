// What lwIP tells TCP sockets.
#include <errno.h>
#include <poll.h>

#include <algorithm>
#include <memory>

#include "lwip/priv/tcp_priv.h"
#include "sp_server/net/tcp_socket.h"

namespace rump {

const tcp_ext_arg_callbacks TcpSocket::kPortCallbacks = {&OnPortFreed, &OnPassiveOpen};
const tcp_ext_arg_callbacks TcpSocket::kSocketCallbacks = {&OnPcbFreed, nullptr};

err_t TcpSocket::OnConnected(void* arg, tcp_pcb* pcb, err_t) {
  auto* self = static_cast<TcpSocket*>(arg);
  tcp_poll(pcb, nullptr, 0);
  self->LimitStream(pcb);
  self->state_ = State::kConnected;
  self->BeginStream();
  self->waiters().Notify(self->Poll() & kEverything);
  return ERR_OK;
}

err_t TcpSocket::OnAccepted(void* arg, tcp_pcb* pcb, err_t error) {
  auto* self = static_cast<TcpSocket*>(arg);
  // Without a connection, lwIP only says that it had no memory for one; the peer tries again.
  if (self == nullptr || error != ERR_OK || pcb == nullptr) return ERR_VAL;
  self->accepted_.push_back(std::shared_ptr<TcpSocket>(new TcpSocket(*self, pcb)));
  if (self->accepts_directly_) self->accepted_.back()->FindDirectPeer();
  self->UpdateBacklog();
  self->waiters().Notify(kReadable);
  return ERR_OK;
}

err_t TcpSocket::OnReceived(void* arg, tcp_pcb* pcb, pbuf* packet, err_t) {
  auto* self = static_cast<TcpSocket*>(arg);
  if (packet == nullptr) {
    self->shutdown_ |= kShutRead;
    self->waiters().Notify(self->Poll() & kEverything);
    return ERR_OK;
  }
  // The sender has no more for now: an answer may wait for the acknowledgement (Nagle), so it must
  // not wait for lwIP's timer.
  if ((packet->flags & PBUF_FLAG_PUSH) != 0) tcp_ack_now(pcb);
  const bool urgent_before = self->UrgentArrived();
  self->received_.Append(packet);
  const bool urgent = self->urgent_ == Urgent::kAnnounced && self->UrgentArrived();
  self->waiters().Notify(urgent && !urgent_before ? kReadable | POLLPRI : kReadable);
  return ERR_OK;
}

// The connection stands, and has received nothing.
void TcpSocket::BeginStream() {
  small_end_ = pcb_->lastack;
  read_seq_ = pcb_->rcv_nxt;
  urgent_ = Urgent::kNone;
}

void TcpSocket::OnUrgent(tcp_pcb* pcb, const tcp_hdr* header) {
  if (pcb->state < ESTABLISHED || (TCPH_FLAGS(header) & (TCP_SYN | TCP_RST)) != 0) return;
  auto* self = static_cast<TcpSocket*>(tcp_ext_arg_get(pcb, kSocketSlot));
  if (self == nullptr || (self->shutdown_ & kShutRead) != 0) return;
  if (TCP_SEQ_GT(header->seqno, pcb->rcv_nxt + pcb->rcv_wnd)) return;
  // As all systems, not as RFC 1122: the pointer is to the byte behind the urgent one.
  const uint32_t pointer = lwip_ntohs(header->urgp);
  const uint32_t mark = header->seqno + (pointer == 0 ? 0 : pointer - 1);
  if (TCP_SEQ_LT(mark, pcb->rcv_nxt)) return;
  if (self->urgent_ != Urgent::kNone && TCP_SEQ_LEQ(mark, self->mark_)) return;
  self->urgent_ = Urgent::kAnnounced;
  self->mark_ = mark;
  // The byte may be far behind what there is room for, and is told of in any case.
  self->waiters().Notify(POLLPRI);
}

void TcpSocket::MarkUrgent(const tcp_pcb* pcb, tcp_hdr* header) {
  const auto sent = reinterpret_cast<uintptr_t>(tcp_ext_arg_get(pcb, kUrgentSlot));
  if (sent == 0) return;
  const uint32_t ahead = static_cast<uint32_t>(sent) - lwip_ntohl(header->seqno);
  const bool urgent = ahead > 0 && ahead <= UINT16_MAX;
  header->urgp = lwip_htons(urgent ? static_cast<u16_t>(ahead) : 0);
  if (urgent) {
    TCPH_SET_FLAG(header, TCP_URG);
  } else {
    TCPH_UNSET_FLAG(header, TCP_URG);
  }
}

void TcpSocket::LimitMssOption(const tcp_pcb* pcb, u32_t* option) {
  // An answer to a SYN may outlive the listener, of which lwIP then forgets no more than the pcb.
  void* const socket = pcb->state == SYN_SENT     ? pcb->callback_arg
                       : pcb->listener != nullptr ? pcb->listener->callback_arg
                                                  : nullptr;
  const auto* self = static_cast<TcpSocket*>(socket);
  if (self == nullptr || self->largest_segment_ == 0) return;
  const u32_t mss = lwip_ntohl(*option) & UINT16_MAX;
  *option = TCP_BUILD_MSS_OPTION(std::min<u32_t>(mss, self->largest_segment_));
}

err_t TcpSocket::OnSent(void* arg, tcp_pcb* pcb, u16_t) {
  auto* self = static_cast<TcpSocket*>(arg);
  const auto urgent = reinterpret_cast<uintptr_t>(tcp_ext_arg_get(pcb, kUrgentSlot));
  if (urgent != 0 && TCP_SEQ_GEQ(pcb->lastack, static_cast<uint32_t>(urgent))) {
    tcp_ext_arg_set(pcb, kUrgentSlot, nullptr);
  }
  if (!self->waiters().empty() && (self->Poll() & POLLOUT) != 0) self->waiters().Notify(kWritable);
  return ERR_OK;
}

s16_t TcpSocket::SynTimeout(uint8_t retransmits) {
  constexpr int kFirst = 1000 / TCP_SLOW_INTERVAL;
  return static_cast<s16_t>(kFirst << retransmits);
}

// Every slow tick while connecting: lwIP does not lengthen a SYN's timeout by itself.
err_t TcpSocket::OnTick(void* arg, tcp_pcb* pcb) {
  auto* self = static_cast<TcpSocket*>(arg);
  if (pcb->state == SYN_SENT && pcb->nrtx > self->syn_retransmits_) {
    self->syn_retransmits_ = pcb->nrtx;
    pcb->rto = SynTimeout(self->syn_retransmits_);
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
  StayInStack();
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
  if (const auto* self = static_cast<TcpSocket*>(listener->callback_arg); self != nullptr) {
    self->LimitStream(pcb);
  }
  tcp_ext_arg_set_callbacks(pcb, id, &kPortCallbacks);
  tcp_ext_arg_set(pcb, id, use);
  NetStack::Get().connections().Add(pcb);
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

}  // namespace rump
