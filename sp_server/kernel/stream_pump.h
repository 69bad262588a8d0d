// Moves the bytes of one connected stream between the server's end S of a socketpair and the stack.
#ifndef SP_SERVER_KERNEL_STREAM_PUMP_H_
#define SP_SERVER_KERNEL_STREAM_PUMP_H_

#include <stddef.h>

#include <span>

#include "sp_server/kernel/socket.h"
#include "sp_server/loop/fd_closer.h"

namespace rump {

// S always keeps one byte of what C has sent, already passed on: closing S then shows on C as a
// reset, which is how the host's kernel says that something was left unread. So there has to be one
// before C has sent any.
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

  // S has got bytes since it was found empty, or `ended`: C sends no more. It is not looked at
  // before that.
  void HostReadable(bool ended) {
    host_readable_ = true;
    ended_ |= ended;
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
  void KeepFirstByte() { kept_ = 1; }
  // Takes the byte that was kept, so that closing S is the end of the stream and no more.
  void DropKeptByte(int host, FdCloser& closer);

  // Whether the program's end has no more bytes to give: it was shut down or closed, or the stream
  // takes none any more.
  bool host_eof() const { return host_eof_; }

 private:
  Outcome MoveToStream(int host, StreamSocket& stream, std::span<std::byte> buffer, size_t budget,
                       FdCloser& closer);
  Outcome MoveToHost(int host, StreamSocket& stream, size_t budget);
  // Counts the bytes in S that have not been passed on. False if the host does not tell.
  bool CountFresh(int host, size_t* fresh) const;
  // Reads at most `room` bytes of `fresh` into `buffer`, but for the kept byte. *data: what was
  // read.
  Outcome ReadHost(int host, std::span<std::byte> buffer, size_t fresh, size_t room,
                   FdCloser& closer, std::span<std::byte>* data);
  // How many of `fresh` bytes, at most `room`, to read at once so that they are all of one kind: an
  // urgent one alone, which *urgent tells, or others. Only without a kept byte.
  static size_t RoomToMark(int host, size_t fresh, size_t room, bool* urgent);
  // Takes all that is in S, but for the kept byte.
  Outcome DropHost(int host, std::span<std::byte> buffer, FdCloser& closer);
  Outcome EndOfHost(int host, StreamSocket& stream);

  size_t kept_ = 0;  // bytes in S that have been passed on: 1, or 0 at first
  bool expects_urgent_ = false;
  bool ended_ = false;
  bool host_readable_ = true;
  bool host_eof_ = false;
  bool stream_eof_passed_on_ = false;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_STREAM_PUMP_H_
