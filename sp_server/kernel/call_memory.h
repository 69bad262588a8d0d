// What the calls in flight of one process hold of the server's memory for as long as they last:
// buffers that wait for the client's bytes or for room in a file, and copies of long arguments.
#ifndef SP_SERVER_KERNEL_CALL_MEMORY_H_
#define SP_SERVER_KERNEL_CALL_MEMORY_H_

#include <stddef.h>

#include <span>
#include <vector>

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
    if (size < bytes_.size()) std::vector<std::byte>().swap(bytes_);
    bytes_.resize(size);
  }
  size_t size() const { return bytes_.size(); }
  std::span<std::byte> bytes() { return bytes_; }

 private:
  CallMemory memory_;
  std::vector<std::byte> bytes_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_CALL_MEMORY_H_
