#include "sp_server/kernel/stream_pump.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "sp_server/loop/pass_fds.h"

namespace rump {
namespace {
// Pieces of received data given to one sendmsg.
constexpr size_t kIovecs = 64;
}  // namespace

StreamPump::Outcome StreamPump::Run(int host, StreamSocket& stream, std::span<std::byte> buffer,
                                    size_t budget, FdCloser& closer) {
  const Outcome out = MoveToStream(host, stream, buffer, budget, closer);
  if (out == Outcome::kHostGone) return out;
  const Outcome in = MoveToHost(host, stream, budget);
  if (in != Outcome::kIdle) return in;
  return out;
}

StreamPump::Outcome StreamPump::MoveToStream(int host, StreamSocket& stream,
                                             std::span<std::byte> buffer, size_t budget,
                                             FdCloser& closer) {
  // Writable without room: it takes nothing ever again, and what C has to give must not be waited
  // for.
  if (!host_eof_ && stream.SendSpace() == 0 && (stream.Poll() & POLLOUT) != 0) {
    host_eof_ = true;
    shutdown(host, SHUT_RD);
  }
  while (host_readable_ && !host_eof_) {
    const size_t room = std::min(stream.SendSpace(), buffer.size());
    if (room == 0) return Outcome::kIdle;
    if (budget == 0) return Outcome::kMore;
    std::vector<UniqueFd> fds;
    const ssize_t n = ReceiveWithFds(host, buffer.first(std::min(room, budget)), &fds);
    for (UniqueFd& fd : fds) closer.Close(std::move(fd));
    // Bytes are all that a stream carries; whoever sends these in masses has lost it.
    if (!fds.empty() && closer.full()) return Outcome::kHostGone;
    if (n < 0) {
      if (errno == ECONNRESET) return Outcome::kHostGone;
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return Outcome::kRetry;
      host_readable_ = false;
      break;
    }
    if (n == 0) {
      host_eof_ = true;
      // A connection that is gone already has nothing to shut down.
      (void)stream.Shutdown(SHUT_WR);
      return Outcome::kIdle;
    }
    // Space was asked for first, so all of it goes in, unless the stack has no memory: a connection
    // is better lost than continued with a hole.
    const Result<size_t> sent = stream.Send(buffer.first(n), nullptr, MSG_NOSIGNAL);
    if (!sent.ok() || *sent < static_cast<size_t>(n)) stream.Abort();
    budget -= n;
  }
  return Outcome::kIdle;
}

StreamPump::Outcome StreamPump::MoveToHost(int host, StreamSocket& stream, size_t budget) {
  for (;;) {
    iovec iov[kIovecs];
    const size_t count = stream.PeekReceived(iov);
    if (count == 0) break;
    if (budget == 0) return Outcome::kMore;
    msghdr msg{};
    msg.msg_iov = iov;
    msg.msg_iovlen = count;
    const ssize_t n = sendmsg(host, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return Outcome::kIdle;
      if (errno != EPIPE && errno != ECONNRESET) return Outcome::kRetry;
      // Nobody reads any more: what arrives is dropped, so that the peer is not stuck.
      for (size_t i = 0; i < count; ++i) stream.ConsumeReceived(iov[i].iov_len);
      continue;
    }
    stream.ConsumeReceived(n);
    budget -= std::min(budget, static_cast<size_t>(n));
  }
  // A reset is not to be seen as an end of file first.
  if ((stream.Poll() & POLLERR) != 0) return Outcome::kStreamGone;
  if (stream.receive_eof() && !stream_eof_passed_on_) {
    stream_eof_passed_on_ = true;
    shutdown(host, SHUT_WR);
  }
  return Outcome::kIdle;
}

}  // namespace rump
