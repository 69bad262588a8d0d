// The received bytes of a TCP connection that nobody has read yet.
#ifndef SP_SERVER_NET_RECEIVE_QUEUE_H_
#define SP_SERVER_NET_RECEIVE_QUEUE_H_

#include <stddef.h>
#include <sys/uio.h>

#include <deque>
#include <span>

#include "lwip/pbuf.h"

namespace rump {

// Holds the stack's own buffers. Tiny ones are gathered into larger blocks, so that a peer that
// sends single bytes makes the queue hold about as much memory as bytes.
class ReceiveQueue {
 public:
  ReceiveQueue() = default;
  ReceiveQueue(const ReceiveQueue&) = delete;
  ReceiveQueue& operator=(const ReceiveQueue&) = delete;
  ~ReceiveQueue() { Clear(); }

  // Takes a reference to `packet` over.
  void Append(pbuf* packet);
  // Fills `iov` with the bytes in order; returns how many entries.
  size_t Peek(std::span<iovec> iov) const;
  // Copies the first bytes behind `skipped`, at most size(), to `out` without taking them; returns
  // how many.
  size_t Copy(std::span<std::byte> out, size_t skipped) const;
  // Drops the first `bytes`, at most size().
  void Consume(size_t bytes);
  void Clear();

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  void AppendOne(pbuf* part);

  std::deque<pbuf*> parts_;  // unchained, none empty
  size_t head_used_ = 0;     // bytes of the first part that are gone
  size_t tail_room_ = 0;     // free bytes behind the last part, if that is a gathering block
  size_t size_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_NET_RECEIVE_QUEUE_H_
