#include "sp_server/kernel/stream_pump.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
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
    shutdown(host, SHUT_RD);
    if (const Outcome dropped = DropHost(host, buffer, closer); dropped != Outcome::kIdle) {
      return dropped;
    }
    host_eof_ = true;
  }
  while (host_readable_ && !host_eof_) {
    const size_t room = std::min(stream.SendSpace(), buffer.size() - 1);
    if (room == 0) return Outcome::kIdle;
    size_t fresh = 0;
    if (!CountFresh(host, &fresh)) return Outcome::kRetry;
    if (fresh > 0 && budget == 0) return Outcome::kMore;
    std::span<std::byte> data;
    bool urgent = false;
    if (fresh > 0) {
      size_t limit = std::min(room, budget);
      if (expects_urgent_) {
        // The mark shows when nothing kept is before it.
        const Outcome taken = ReadHost(host, buffer, fresh, /*room=*/0, closer, &data);
        if (taken != Outcome::kIdle) return taken;
        limit = RoomToMark(host, fresh, limit, &urgent);
      }
      const Outcome read = ReadHost(host, buffer, fresh, limit, closer, &data);
      if (read != Outcome::kIdle) return read;
    }
    // An urgent byte that was not expected counts in the queue, and cannot be read.
    if (data.empty()) {
      // What comes after the look is told.
      host_readable_ = false;
      return ended_ ? EndOfHost(host, stream) : Outcome::kIdle;
    }
    // Space was asked for first, so all of it goes in, unless the stack has no memory: a connection
    // is better lost than continued with a hole.
    const Result<size_t> sent = stream.Send(data, nullptr, MSG_NOSIGNAL | (urgent ? MSG_OOB : 0));
    if (!sent.ok() || *sent < data.size()) stream.Abort();
    budget -= data.size();
    if (data.size() == fresh && !ended_) host_readable_ = false;
  }
  return Outcome::kIdle;
}

void StreamPump::SendLeftBehind(int host, StreamSocket& stream, std::span<std::byte> buffer,
                                FdCloser& closer) {
  ended_ = false;
  host_readable_ = true;
  (void)MoveToStream(host, stream, buffer, SIZE_MAX, closer);
}

bool StreamPump::CountFresh(int host, size_t* fresh) const {
  int queued = 0;
  if (ioctl(host, FIONREAD, &queued) != 0) return false;
  *fresh = static_cast<size_t>(queued) - std::min<size_t>(queued, kept_);
  return true;
}

StreamPump::Outcome StreamPump::ReadHost(int host, std::span<std::byte> buffer, size_t fresh,
                                         size_t room, FdCloser& closer,
                                         std::span<std::byte>* data) {
  const size_t wanted = std::min(fresh, room);
  const bool all = wanted == fresh;
  const size_t taken = kept_ + wanted - (all ? 1 : 0);
  size_t got = 0;
  if (taken > 0) {
    std::vector<UniqueFd> fds;
    ssize_t n;
    do {
      n = ReceiveWithFds(host, buffer.first(taken), &fds);
    } while (n < 0 && errno == EINTR);
    for (UniqueFd& fd : fds) closer.Close(std::move(fd));
    // Bytes are all that a stream carries; whoever sends these in masses has lost it.
    if (!fds.empty() && closer.full()) return Outcome::kHostGone;
    if (n < 0 && errno == ECONNRESET) return Outcome::kHostGone;
    if (n < 0 && errno != EAGAIN) return Outcome::kRetry;
    got = static_cast<size_t>(std::max<ssize_t>(n, 0));
  }
  const size_t old = std::min(kept_, got);
  kept_ -= old;
  if (all && got == taken && recv(host, buffer.data() + got, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
    ++got;
    kept_ = 1;
  }
  *data = buffer.subspan(old, got - old);
  return Outcome::kIdle;
}

void StreamPump::ExpectUrgent(int host) {
  // In line, an urgent byte is read as others are, and kept as others are. A read that begins
  // before it ends before it.
  const int on = 1;
  expects_urgent_ =
      expects_urgent_ || setsockopt(host, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on) == 0;
}

void StreamPump::ForgetUrgent(int host) {
  const int off = 0;
  if (std::exchange(expects_urgent_, false)) {
    setsockopt(host, SOL_SOCKET, SO_OOBINLINE, &off, sizeof off);
  }
}

size_t StreamPump::RoomToMark(int host, size_t fresh, size_t room, bool* urgent) {
  int at_mark = 0;
  *urgent = ioctl(host, SIOCATMARK, &at_mark) == 0 && at_mark != 0;
  // The last byte, which is kept, is not asked about with others.
  return *urgent || fresh == 1 ? 1 : std::min(room, fresh - 1);
}

// Who polls C to write is told when there is room, not when all writing is in vain.
StreamPump::Outcome StreamPump::DropHost(int host, std::span<std::byte> buffer, FdCloser& closer) {
  for (;;) {
    size_t fresh = 0;
    if (!CountFresh(host, &fresh)) return Outcome::kRetry;
    if (fresh == 0) return Outcome::kIdle;
    std::span<std::byte> data;
    const Outcome read = ReadHost(host, buffer, fresh, buffer.size() - 1, closer, &data);
    if (read != Outcome::kIdle || data.empty()) return read;
  }
}

StreamPump::Outcome StreamPump::EndOfHost(int host, StreamSocket& stream) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(host, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error == ECONNRESET) return Outcome::kHostGone;
  host_eof_ = true;
  // A connection that is gone already has nothing to shut down.
  (void)stream.Shutdown(SHUT_WR);
  return Outcome::kIdle;
}

void StreamPump::DropKeptByte(int host, FdCloser& closer) {
  if (kept_ == 0) return;
  std::byte byte;
  std::vector<UniqueFd> fds;
  if (ReceiveWithFds(host, std::span(&byte, 1), &fds) == 1) kept_ = 0;
  for (UniqueFd& fd : fds) closer.Close(std::move(fd));
}

StreamPump::Outcome StreamPump::MoveToHost(int host, StreamSocket& stream, size_t budget) {
  int urgent = MSG_OOB;
  for (;;) {
    iovec iov[kIovecs];
    const size_t count = stream.PeekReceived(iov);
    if (count == 0) break;
    if (budget == 0) return Outcome::kMore;
    msghdr msg{};
    msg.msg_iov = iov;
    msg.msg_iovlen = count;
    const ssize_t n =
        sendmsg(host, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | (stream.AtMark() ? urgent : 0));
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return Outcome::kIdle;
      if (errno == ECONNRESET) return Outcome::kHostGone;
      if (errno == EOPNOTSUPP && urgent != 0) {
        // The host's kernel is built without urgent data on AF_UNIX.
        urgent = 0;
        continue;
      }
      if (errno != EPIPE) return Outcome::kRetry;
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
