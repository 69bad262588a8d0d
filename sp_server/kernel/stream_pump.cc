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
// The stack's buffers that one read fills.
constexpr size_t kBlocks = 8;
// Messages up to this size are peeked at; copying a larger one twice costs more than the system
// calls that are saved.
constexpr size_t kSmallBytes = 4096;
// Kept bytes and messages from which on S is cleared of them, which frees what C's kernel holds.
constexpr size_t kMaxKeptBytes = 4096;
constexpr size_t kMaxKeptMessages = 16;

// Cuts `iov` off behind `bytes`. Returns how many entries are left.
size_t Limit(std::span<iovec> iov, size_t bytes) {
  for (size_t i = 0; i < iov.size(); ++i) {
    iov[i].iov_len = std::min(iov[i].iov_len, bytes);
    bytes -= iov[i].iov_len;
    if (bytes == 0) return i + 1;
  }
  return iov.size();
}
}  // namespace

StreamPump::Outcome StreamPump::Run(int host, StreamSocket& stream, std::span<std::byte> buffer,
                                    size_t budget, FdCloser& closer) {
  moved_ = 0;
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
    const size_t room = std::min(stream.SendSpace(), budget);
    if (room == 0 && budget > 0) return Outcome::kIdle;
    size_t fresh = 0;
    size_t moved = 0;
    if (budget == 0 || bulk_ || !PassOnPeeked(host, stream, buffer, room, closer, &fresh, &moved)) {
      if (!CountFresh(host, &fresh)) return Outcome::kRetry;
      if (fresh > 0 && budget == 0) return Outcome::kMore;
      bulk_ = fresh > kSmallBytes;
      if (fresh > 0) {
        const Outcome read = PassOnRead(host, stream, buffer, fresh, room, closer, &moved);
        if (read != Outcome::kIdle) return read;
      }
    }
    // An urgent byte that was not expected counts in the queue, and cannot be read.
    if (moved == 0) {
      // What comes after the look is told.
      host_readable_ = false;
      return ended_ ? EndOfHost(host, stream) : Outcome::kIdle;
    }
    moved_ += moved;
    budget -= moved;
    if (moved == fresh && !ended_) host_readable_ = false;
  }
  return Outcome::kIdle;
}

void StreamPump::SendLeftBehind(int host, StreamSocket& stream, std::span<std::byte> buffer,
                                FdCloser& closer) {
  ended_ = false;
  host_readable_ = true;
  (void)MoveToStream(host, stream, buffer, SIZE_MAX, closer);
}

bool StreamPump::PassOnPeeked(int host, StreamSocket& stream, std::span<std::byte> buffer,
                              size_t room, FdCloser& closer, size_t* fresh, size_t* moved) {
  // With a kept byte there is something to look at, and no error that a look would take.
  if (expects_urgent_ || kept_ == 0) return false;
  if (kept_ > kMaxKeptBytes || kept_messages_ >= kMaxKeptMessages) TrimKept(host, 1, closer);
  buffer = buffer.first(std::min(buffer.size(), kept_ + kSmallBytes));
  iovec iov{buffer.data(), buffer.size()};
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  const ssize_t n = recvmsg(host, &msg, MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 || static_cast<size_t>(n) < kept_ || static_cast<size_t>(n) == buffer.size()) {
    return false;
  }
  // Descriptors end a look, as they end a read.
  if ((msg.msg_flags & MSG_CTRUNC) != 0) return false;
  *fresh = static_cast<size_t>(n) - kept_;
  // An urgent byte that was not expected ends a look, and would end each that follows.
  if (*fresh == 0 && !ended_) return false;
  *moved = std::min(*fresh, room);
  host_done_ = ended_ && *fresh == 0;
  if (*moved == 0) return true;
  Send(stream, buffer.subspan(kept_, *moved), /*flags=*/0);
  kept_ += *moved;
  ++kept_messages_;
  return true;
}

// Space was asked for first, so all of it goes in, unless the stack has no memory: a connection is
// better lost than continued with a hole.
void StreamPump::Send(StreamSocket& stream, std::span<const std::byte> data, int flags) {
  const Result<size_t> sent = stream.Send(data, nullptr, MSG_NOSIGNAL | flags);
  if (!sent.ok() || *sent < data.size()) stream.Abort();
}

StreamPump::Outcome StreamPump::PassOnRead(int host, StreamSocket& stream,
                                           std::span<std::byte> buffer, size_t fresh, size_t room,
                                           FdCloser& closer, size_t* moved) {
  bool urgent = false;
  if (expects_urgent_) {
    // The mark shows when nothing kept is before it.
    const Outcome taken = ReadHost(host, {}, fresh, closer, moved);
    if (taken != Outcome::kIdle) return taken;
    room = RoomToMark(host, fresh, room, &urgent);
  }
  iovec iov[kBlocks];
  const size_t blocks = urgent ? 0 : stream.PrepareSend(std::min(fresh, room), iov);
  if (blocks > 0) {
    const Outcome read = ReadHost(host, std::span(iov, blocks), fresh, closer, moved);
    if (!stream.SendPrepared(*moved)) stream.Abort();
    return read;
  }
  const std::span<std::byte> part = buffer.first(std::min({fresh, room, buffer.size()}));
  iov[0] = {part.data(), part.size()};
  const Outcome read = ReadHost(host, std::span(iov, 1), fresh, closer, moved);
  if (*moved > 0) Send(stream, part.first(*moved), urgent ? MSG_OOB : 0);
  return read;
}

void StreamPump::TrimKept(int host, size_t left, FdCloser& closer) {
  std::byte scratch[kMaxKeptBytes];
  while (kept_ > left) {
    std::vector<UniqueFd> fds;
    const size_t wanted = std::min(kept_ - left, sizeof scratch);
    const ssize_t n = ReceiveWithFds(host, std::span(scratch, wanted), &fds);
    for (UniqueFd& fd : fds) closer.Close(std::move(fd));
    if (n <= 0) break;
    kept_ -= static_cast<size_t>(n);
  }
  kept_messages_ = 1;
}

bool StreamPump::CountFresh(int host, size_t* fresh) const {
  int queued = 0;
  if (ioctl(host, FIONREAD, &queued) != 0) return false;
  *fresh = static_cast<size_t>(queued) - std::min<size_t>(queued, kept_);
  return true;
}

StreamPump::Outcome StreamPump::ReadHost(int host, std::span<const iovec> room, size_t fresh,
                                         FdCloser& closer, size_t* got) {
  if (kept_ > 1) TrimKept(host, 1, closer);
  std::byte old_byte[1];
  iovec iov[1 + kBlocks];
  iov[0] = {old_byte, kept_};
  size_t wanted = 0;
  for (size_t i = 0; i < room.size(); ++i) {
    iov[1 + i] = room[i];
    wanted += room[i].iov_len;
  }
  const bool all = wanted == fresh;
  if (all) --iov[room.size()].iov_len;
  const size_t taken = kept_ + wanted - (all ? 1 : 0);
  size_t n = 0;
  if (taken > 0) {
    std::vector<UniqueFd> fds;
    ssize_t result;
    do {
      result = ReceiveWithFds(host, std::span(iov, 1 + room.size()), &fds);
    } while (result < 0 && errno == EINTR);
    for (UniqueFd& fd : fds) closer.Close(std::move(fd));
    // Bytes are all that a stream carries; whoever sends these in masses has lost it.
    if (!fds.empty() && closer.full()) return Outcome::kHostGone;
    if (result < 0 && errno == ECONNRESET) return Outcome::kHostGone;
    if (result < 0 && errno != EAGAIN) return Outcome::kRetry;
    n = static_cast<size_t>(std::max<ssize_t>(result, 0));
  }
  const size_t old = std::min(kept_, n);
  kept_ -= old;
  kept_messages_ = 1;
  *got = n - old;
  const iovec& last = iov[room.size()];
  if (all && n == taken &&
      recv(host, static_cast<std::byte*>(last.iov_base) + last.iov_len, 1,
           MSG_PEEK | MSG_DONTWAIT) == 1) {
    ++*got;
    kept_ = 1;
  }
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
    const iovec iov{buffer.data(), std::min(fresh, buffer.size())};
    size_t got = 0;
    const Outcome read = ReadHost(host, std::span(&iov, 1), fresh, closer, &got);
    if (read != Outcome::kIdle || got == 0) return read;
  }
}

StreamPump::Outcome StreamPump::EndOfHost(int host, StreamSocket& stream) {
  int error = 0;
  socklen_t size = sizeof error;
  if (failed_) getsockopt(host, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error == ECONNRESET) return Outcome::kHostGone;
  host_eof_ = true;
  // A connection that is gone already has nothing to shut down.
  (void)stream.Shutdown(SHUT_WR);
  return Outcome::kIdle;
}

StreamPump::Outcome StreamPump::MoveToHost(int host, StreamSocket& stream, size_t budget) {
  int urgent = MSG_OOB;
  host_full_ = false;
  for (;;) {
    iovec iov[kIovecs];
    size_t count = stream.PeekReceived(iov);
    if (count == 0) break;
    if (budget == 0) return Outcome::kMore;
    count = Limit(std::span(iov, count), budget);
    msghdr msg{};
    msg.msg_iov = iov;
    msg.msg_iovlen = count;
    const ssize_t n =
        sendmsg(host, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | (stream.AtMark() ? urgent : 0));
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        host_full_ = true;
        return Outcome::kIdle;
      }
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
    moved_ += static_cast<size_t>(n);
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
