// What the calls in flight of one process hold of the server's memory for as long as they last:
// buffers that wait for the client's bytes or for room in a file, and copies of long arguments.
#ifndef SP_SERVER_KERNEL_CALL_MEMORY_H_
#define SP_SERVER_KERNEL_CALL_MEMORY_H_

#include <stddef.h>

#include <memory>
#include <span>

#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/process.h"

namespace rump {

// A call's part of its process's budget (Process::call_memory), given back in the end.
class CallMemory {
 public:
  // What a call may hold besides.
  static constexpr size_t kSmall = 4096;

  explicit CallMemory(const Process& process) : share_(process.call_memory) {}

  // Takes `bytes` in place of what it has taken before. False, and nothing is taken, if the budget
  // has not as much left.
  bool Take(size_t bytes) {
    share_.Shrink(share_.size());
    return bytes <= kSmall || share_.Grow(bytes);
  }

 private:
  Share share_;
};

// A buffer of a call for bytes that it copies in and passes on piece by piece.
class CallBuffer {
 public:
  explicit CallBuffer(const Process& process) : memory_(process) {}

  // Makes it `size` bytes long, or kSmall if the budget has not that much. Its bytes are lost.
  void Resize(size_t size) {
    if (!memory_.Take(size)) size = CallMemory::kSmall;
    if (size != size_) bytes_ = std::make_unique_for_overwrite<std::byte[]>(size);
    size_ = size;
  }
  size_t size() const { return size_; }
  std::span<std::byte> bytes() { return {bytes_.get(), size_}; }

 private:
  CallMemory memory_;
  std::unique_ptr<std::byte[]> bytes_;
  size_t size_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_CALL_MEMORY_H_
