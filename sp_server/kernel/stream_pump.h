// Moves the bytes of one connected stream between the server's end S of a socketpair and the stack.
#ifndef SP_SERVER_KERNEL_STREAM_PUMP_H_
#define SP_SERVER_KERNEL_STREAM_PUMP_H_

#include <stddef.h>

#include <span>

#include "sp_server/kernel/socket.h"
#include "sp_server/loop/fd_closer.h"

namespace rump {

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

  // S has got bytes or its end since it was found empty; it is not looked at before that.
  void HostReadable() { host_readable_ = true; }

  // Whether the program's end has no more bytes to give: it was shut down or closed, or the stream
  // takes none any more.
  bool host_eof() const { return host_eof_; }

 private:
  Outcome MoveToStream(int host, StreamSocket& stream, std::span<std::byte> buffer, size_t budget,
                       FdCloser& closer);
  Outcome MoveToHost(int host, StreamSocket& stream, size_t budget);

  bool host_readable_ = true;
  bool host_eof_ = false;
  bool stream_eof_passed_on_ = false;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_STREAM_PUMP_H_
