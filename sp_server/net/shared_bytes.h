// Bytes of TCP connections that several of lwIP's buffers refer to: filled once, by whoever brings
// them, and never copied until they leave the stack.
#ifndef SP_SERVER_NET_SHARED_BYTES_H_
#define SP_SERVER_NET_SHARED_BYTES_H_

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "lwip/pbuf.h"
#include "lwip/tcp.h"

namespace rump {

// A block of memory with a count of references.
class SendBlock {
 public:
  // As much as one segment on loopback carries.
  static constexpr size_t kMaxBytes = TCP_MSS;

  // `bytes`: at most kMaxBytes, all of it uninitialized. The caller has the one reference.
  static SendBlock* Make(size_t bytes);
  // Over `bytes`, which are there as long as `keeper` is.
  static SendBlock* Lend(std::span<const std::byte> bytes, std::shared_ptr<const void> keeper);
  SendBlock(const SendBlock&) = delete;
  SendBlock& operator=(const SendBlock&) = delete;

  // To be written to only if it was made.
  std::span<std::byte> bytes() const { return {data_, size_}; }
  void Ref() { ++refs_; }
  void Unref();

 private:
  SendBlock(std::byte* data, size_t size, std::shared_ptr<const void> keeper)
      : data_(data), size_(size), keeper_(std::move(keeper)) {}
  ~SendBlock() = default;

  std::byte* const data_;
  const size_t size_;
  const std::shared_ptr<const void> keeper_;  // nullptr: the memory is the block's own
  size_t refs_ = 1;
};

// Has the buffers of `segments` that refer to bytes of `block` without owning them (tcp_write
// without TCP_WRITE_FLAG_COPY made them) hold a reference to it.
void HoldBlock(tcp_seg* segments, SendBlock* block);

// A buffer of its own for each of the chain `packet`, over the same bytes, which it keeps alive.
// Neither chain's lengths and starts are seen in the other. nullptr for nullptr.
pbuf* ReferenceBytes(pbuf* packet);

}  // namespace rump

#endif  // SP_SERVER_NET_SHARED_BYTES_H_
