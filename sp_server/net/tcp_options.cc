// Options of TCP sockets, and requests of ioctl(2).
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "lwip/priv/tcp_priv.h"
#include "protocol/syscalls.h"
#include "sp_server/net/interfaces.h"
#include "sp_server/net/tcp_socket.h"

namespace rump {
namespace {

constexpr char kCongestionControl[] = "reno";

}  // namespace

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
    largest_segment_ = static_cast<u16_t>(segment);
    if (pcb_ != nullptr && state_ == State::kConnected && pcb_->unsent == nullptr && segment != 0) {
      pcb_->mss = std::min<u16_t>(pcb_->mss, static_cast<u16_t>(segment));
    }
    return kOk;
  }
  const bool connected = state_ == State::kConnected && pcb_ != nullptr;
  const size_t window = connected ? ReceiveLimit() : 0;
  if (Errno error = options_.Set(level, name, value, port_use_); !error.ok()) return error;
  if (connected && level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_RCVBUFFORCE)) {
    least_window_ = std::min(window, 2 * size_t{pcb_->mss});
    if (pcb_->state != TIME_WAIT) OpenWindow();
  }
  ApplyOptions();
  // What Nagle or the cork held back goes out when the program says so.
  if (level == IPPROTO_TCP && (name == TCP_NODELAY || name == TCP_CORK) && pcb_ != nullptr &&
      state_ == State::kConnected) {
    tcp_output(pcb_);
  }
  return kOk;
}

size_t TcpSocket::BufferAskedFor(int option) const {
  if (!options_.IsSet(SOL_SOCKET, option)) return 0;
  return static_cast<size_t>(options_.Int(SOL_SOCKET, option)) / 2;
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
  if (direct_) return kEstablished;
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
      case kTcpDirect:
        if (state_ == State::kConnected) return put(direct_ ? 1 : 0);
        break;
      case TCP_MAXSEG: {
        constexpr int kUnknownPeer = 536;
        if (direct_) return put(direct_->segment);
        if (pcb_ != nullptr && state_ == State::kConnected) return put(pcb_->mss);
        return put(largest_segment_ != 0 ? largest_segment_ : kUnknownPeer);
      }
      case TCP_CONGESTION: {
        char congestion[16] = {};  // TCP_CA_NAME_MAX
        memcpy(congestion, kCongestionControl, sizeof kCongestionControl);
        return InetOptions::Put(value, congestion, sizeof congestion);
      }
      case TCP_INFO: {
        tcp_info info = {};
        info.tcpi_state = LinuxState();
        if (direct_) info.tcpi_snd_mss = info.tcpi_rcv_mss = direct_->segment;
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

Errno TcpSocket::Ioctl(uint64_t request, std::span<std::byte> arg) {
  int value = 0;
  switch (request) {
    case FIONREAD:
      if (state_ == State::kListening) return Errno(EINVAL);
      value =
          static_cast<int>(UrgentArrived() && !UrgentInline() ? BytesToMark() : received_.size());
      break;
    case TIOCOUTQ:
      if (state_ == State::kListening) return Errno(EINVAL);
      if (pcb_ != nullptr) value = static_cast<int>(TCP_SND_BUF - pcb_->snd_buf);
      break;
    case SIOCATMARK:
      value = AtMark() ? 1 : 0;
      break;
    default:
      return InterfaceIoctl(domain(), request, arg);
  }
  if (arg.size() < sizeof value) return Errno(EINVAL);
  memcpy(arg.data(), &value, sizeof value);
  return kOk;
}

}  // namespace rump
