// What the calls in flight of one process hold of the server's memory for as long as they last:
// buffers that wait for the client's bytes or for room in a file, and copies of long arguments.
#ifndef SP_SERVER_KERNEL_CALL_MEMORY_H_
#define SP_SERVER_KERNEL_CALL_MEMORY_H_

#include <stddef.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "sp_server/kernel/process.h"

namespace rump {

// A call's part of its process's budget, given back in the end.
class CallMemory {
 public:
  // All calls of a process together may hold kBudget, and kSmall each besides.
  static constexpr size_t kBudget = 16 << 20;
  static constexpr size_t kSmall = 4096;

  // `process` outlives this.
  explicit CallMemory(Process& process) : process_(&process) {}
  CallMemory(CallMemory&& other) noexcept
      : process_(other.process_), taken_(std::exchange(other.taken_, 0)) {}
  CallMemory& operator=(CallMemory&&) = delete;
  ~CallMemory() { process_->call_memory -= taken_; }

  // Takes `bytes` in place of what it has taken before. False, and nothing is taken, if the budget
  // has not as much left.
  bool Take(size_t bytes) {
    process_->call_memory -= std::exchange(taken_, 0);
    if (bytes <= kSmall) return true;
    if (bytes > kBudget - process_->call_memory) return false;
    process_->call_memory += bytes;
    taken_ = bytes;
    return true;
  }

 private:
  Process* process_;
  size_t taken_ = 0;
};

// A buffer of a call for bytes that it copies in and passes on piece by piece.
class CallBuffer {
 public:
  explicit CallBuffer(Process& process) : memory_(process) {}

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
