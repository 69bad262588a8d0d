// Moves the bytes of one connected stream between the server's end S of a socketpair and the stack.
#ifndef SP_SERVER_KERNEL_STREAM_PUMP_H_
#define SP_SERVER_KERNEL_STREAM_PUMP_H_

#include <stddef.h>

#include <span>

#include "sp_server/kernel/socket.h"
#include "sp_server/loop/fd_closer.h"

namespace rump {

// S always keeps the last bytes of what C has sent, already passed on: closing S then shows on C as
// a reset, which is how the host's kernel says that something was left unread. So there has to be
// one before C has sent any. Small messages are only peeked at, and what has been passed on is
// taken out of S for many at once: one system call for a message. Of bulk data one byte is kept.
class StreamPump {
 public:
  enum class Outcome {
    kIdle,        // nothing to move until S or the stream becomes ready
    kMore,        // the budget is used up, and there was more
    kRetry,       // the host is short of memory: nothing will tell when to go on
    kHostGone,    // the program's end was closed with bytes unread: the peer is owed a reset
    kStreamGone,  // the connection was reset or timed out, and what it had brought is delivered
  };

  // Moves at most `budget` bytes each way, through `buffer`. Bytes wait in S or in the stack, never
  // here: that is the back-pressure. `host` is S; MSG_DONTWAIT is used, since O_NONBLOCK would
  // belong to whoever else has the open file. Descriptors that a program sends on its stream go to
  // `closer`.
  Outcome Run(int host, StreamSocket& stream, std::span<std::byte> buffer, size_t budget,
              FdCloser& closer);

  // S has got bytes since it was found empty, or `ended`: C sends no more, perhaps because of
  // an error if `failed`. It is not looked at before that.
  void HostReadable(bool ended, bool failed = true) {
    host_readable_ = true;
    ended_ |= ended;
    failed_ |= failed;
  }

  // C may be sent urgent data from now on: it is looked for, which takes some calls for each read,
  // and passed on as such.
  void ExpectUrgent(int host);
  // S is to be read by a program.
  void ForgetUrgent(int host);

  // Sends what C has left behind, as far as the stream takes it now, and no end of file.
  void SendLeftBehind(int host, StreamSocket& stream, std::span<std::byte> buffer,
                      FdCloser& closer);

  // The first byte in S is none of the program's.
  void KeepFirstByte() { kept_ = kept_messages_ = 1; }
  // Takes the bytes that were kept, so that closing S is the end of the stream and no more.
  void DropKeptBytes(int host, FdCloser& closer) { TrimKept(host, 0, closer); }

  // How many bytes the last Run moved.
  size_t moved() const { return moved_; }
  // Whether S keeps more than it has to, which takes room that C may need.
  bool keeps_much() const { return kept_messages_ > 1; }
  // Takes that out of S.
  void Trim(int host, FdCloser& closer) { TrimKept(host, 1, closer); }
  // Whether there may be bytes of C's to pass on.
  bool host_readable() const { return host_readable_; }
  // Whether S took less than there was for it: POLLOUT on S tells when to go on.
  bool host_full() const { return host_full_; }

  // Whether the program's end has no more bytes to give: it was shut down or closed, or the stream
  // takes none any more.
  bool host_eof() const { return host_eof_; }
  // Whether nothing is left in S but bytes that have been passed on and brought no descriptors.
  bool host_done() const { return host_done_; }

 private:
  Outcome MoveToStream(int host, StreamSocket& stream, std::span<std::byte> buffer, size_t budget,
                       FdCloser& closer);
  Outcome MoveToHost(int host, StreamSocket& stream, size_t budget);
  // Passes on what C has sent without taking it, if that is little: at most `room` bytes. *fresh:
  // how many had not been passed on; *moved: how many now have. False: nothing has, and it takes
  // CountFresh to find out what is there.
  bool PassOnPeeked(int host, StreamSocket& stream, std::span<std::byte> buffer, size_t room,
                    FdCloser& closer, size_t* fresh, size_t* moved);
  // Passes on at most `room` bytes of `fresh`, keeping one.
  Outcome PassOnRead(int host, StreamSocket& stream, std::span<std::byte> buffer, size_t fresh,
                     size_t room, FdCloser& closer, size_t* moved);
  static void Send(StreamSocket& stream, std::span<const std::byte> data, int flags);
  // Takes kept bytes out of S, but for `left`.
  void TrimKept(int host, size_t left, FdCloser& closer);
  // Counts the bytes in S that have not been passed on. False if the host does not tell.
  bool CountFresh(int host, size_t* fresh) const;
  // Reads what goes into `room`, which has no more than `fresh` bytes, keeping one; without room,
  // only takes what was kept. *got: how many bytes that were.
  Outcome ReadHost(int host, std::span<const iovec> room, size_t fresh, FdCloser& closer,
                   size_t* got);
  // How many of `fresh` bytes, at most `room`, to read at once so that they are all of one kind: an
  // urgent one alone, which *urgent tells, or others. Only without a kept byte.
  static size_t RoomToMark(int host, size_t fresh, size_t room, bool* urgent);
  // Takes all that is in S, but for a kept byte.
  Outcome DropHost(int host, std::span<std::byte> buffer, FdCloser& closer);
  Outcome EndOfHost(int host, StreamSocket& stream);

  size_t kept_ = 0;           // bytes at the head of S that have been passed on
  size_t kept_messages_ = 0;  // in how many pieces they came, at most
  size_t moved_ = 0;
  bool bulk_ = false;  // C has lately sent much at once
  bool expects_urgent_ = false;
  bool host_full_ = false;
  bool ended_ = false;
  bool failed_ = false;
  bool host_readable_ = true;
  bool host_eof_ = false;
  bool host_done_ = false;
  bool stream_eof_passed_on_ = false;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_STREAM_PUMP_H_
