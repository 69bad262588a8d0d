// Client buffers of a scattered read or write.
#ifndef SP_SERVER_KERNEL_IO_VECTORS_H_
#define SP_SERVER_KERNEL_IO_VECTORS_H_

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <optional>
#include <span>

#include "absl/container/inlined_vector.h"
#include "sp_server/kernel/call_memory.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {

// The client's struct iovec.
struct ClientBuffer {
  uint64_t addr = 0;
  uint64_t size = 0;
};

// Buffers of one call, and how far into them it has got.
class ClientBuffers {
 public:
  ClientBuffers() = default;
  ClientBuffers(uint64_t addr, uint64_t size) : buffers_{{addr, size}}, total_(size) {}

  // Copies `count` iovecs in. EINVAL for too many, or for more bytes than a call can return;
  // ENOMEM.
  static Task<Result<ClientBuffers>> FromIovecs(CallContext& context, uint64_t addr,
                                                uint64_t count);

  // Bytes not yet passed.
  uint64_t left() const { return total_ - passed_; }
  uint64_t passed() const { return passed_; }

  // The next `size` bytes (at most left()), if the request brought them in one piece, else none.
  // They are not passed, and gone when the caller suspends.
  std::span<const std::byte> InRequest(const CallContext& context, size_t size) const;
  // Copies the next destination.size() bytes (at most left()) in, without passing them.
  Task<Errno> Peek(CallContext& context, std::span<std::byte> destination) const;
  // Copies `data` (at most left() bytes) out and passes it.
  void Put(CallContext& context, std::span<const std::byte> data);
  void Pass(uint64_t bytes);

 private:
  std::optional<CallMemory> memory_;  // for buffers_, if they were copied in
  absl::InlinedVector<ClientBuffer, 1> buffers_;
  size_t index_ = 0;     // of the buffer that is next
  uint64_t offset_ = 0;  // into it
  uint64_t passed_ = 0;
  uint64_t total_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_IO_VECTORS_H_
