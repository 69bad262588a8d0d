#include "sp_server/net/lwip_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <array>
#include <utility>

#include "arch/cc.h"

namespace rump {
namespace {

std::function<bool(size_t)> g_fails;

// Fixed blocks on a free list.
class Reserve {
 public:
  Reserve() {
    for (Block& block : blocks_) Put(&block);
  }
  void* Take() {
    if (free_ == nullptr) return nullptr;
    Block* block = std::exchange(free_, free_->next);
    ++in_use_;
    return block;
  }
  bool Owns(const void* p) const {
    const auto address = reinterpret_cast<uintptr_t>(p);
    return address >= reinterpret_cast<uintptr_t>(blocks_.data()) &&
           address < reinterpret_cast<uintptr_t>(blocks_.data() + blocks_.size());
  }
  void Return(void* p) {
    Put(static_cast<Block*>(p));
    --in_use_;
  }
  size_t in_use() const { return in_use_; }

 private:
  union alignas(16) Block {
    Block* next;
    std::byte bytes[kReserveBlockBytes];
  };
  void Put(Block* block) {
    block->next = free_;
    free_ = block;
  }
  std::array<Block, kReserveBlocks> blocks_;
  Block* free_ = nullptr;
  size_t in_use_ = 0;
};

Reserve& reserve() {
  static Reserve reserve;
  return reserve;
}

}  // namespace

void SetLwipAllocationFailure(std::function<bool(size_t size)> fails) {
  g_fails = std::move(fails);
}

size_t LwipReserveInUse() { return reserve().in_use(); }

}  // namespace rump

extern "C" void* RumpLwipMalloc(size_t size) {
  const bool fails = rump::g_fails && rump::g_fails(size);
  void* block = fails ? nullptr : malloc(size);
  if (block == nullptr && size <= rump::kReserveBlockBytes) block = rump::reserve().Take();
  return block;
}

extern "C" void* RumpLwipCalloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return nullptr;
  void* block = RumpLwipMalloc(bytes);
  if (block != nullptr) memset(block, 0, bytes);
  return block;
}

extern "C" void RumpLwipFree(void* block) {
  if (rump::reserve().Owns(block)) {
    rump::reserve().Return(block);
  } else {
    free(block);
  }
}
