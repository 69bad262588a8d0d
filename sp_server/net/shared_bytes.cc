#include "sp_server/net/shared_bytes.h"

#include <stdlib.h>

#include <new>

#include "lwip/priv/tcp_priv.h"

namespace rump {
namespace {

// The kernel copies a third faster to a page's start than past it (x86 with fast short strings).
constexpr size_t kPage = 4096;

// Blocks of full size that are kept for the next segments: getting that much from the allocator
// for each costs more than it takes to fill. What a round trip of one connection needs.
constexpr size_t kMaxSpare = 64;

std::vector<std::byte*>& Spare() {
  static auto* const spare = new std::vector<std::byte*>;
  return *spare;
}

// A buffer that refers to a block's bytes.
struct BlockBuffer {
  pbuf_custom custom;  // first: lwIP knows nothing else
  SendBlock* block;
};

void FreeBlockBuffer(pbuf* buffer) {
  auto* const self = reinterpret_cast<BlockBuffer*>(buffer);
  self->block->Unref();
  delete self;
}

// A buffer that refers to another's bytes.
struct ReferringBuffer {
  pbuf_custom custom;
  pbuf* owner;
};

void FreeReferringBuffer(pbuf* buffer) {
  auto* const self = reinterpret_cast<ReferringBuffer*>(buffer);
  pbuf_free(self->owner);
  delete self;
}

}  // namespace

SendBlock* SendBlock::Make(size_t bytes) {
  std::byte* data;
  if (bytes == kMaxBytes && !Spare().empty()) {
    data = Spare().back();
    Spare().pop_back();
  } else if (bytes == kMaxBytes) {
    data = static_cast<std::byte*>(aligned_alloc(kPage, kMaxBytes));
  } else {
    data = static_cast<std::byte*>(malloc(bytes));
  }
  if (data == nullptr) throw std::bad_alloc();
  return new SendBlock(data, bytes, nullptr);
}

SendBlock* SendBlock::Lend(std::span<const std::byte> bytes, std::shared_ptr<const void> keeper) {
  return new SendBlock(const_cast<std::byte*>(bytes.data()), bytes.size(), std::move(keeper));
}

void SendBlock::Unref() {
  if (--refs_ > 0) return;
  if (keeper_ != nullptr) {
    // It frees them.
  } else if (size_ == kMaxBytes && Spare().size() < kMaxSpare) {
    Spare().push_back(data_);
  } else {
    free(data_);
  }
  delete this;
}

void HoldBlock(tcp_seg* segments, SendBlock* block) {
  const auto begin = reinterpret_cast<uintptr_t>(block->bytes().data());
  const uintptr_t end = begin + block->bytes().size();
  for (tcp_seg* segment = segments; segment != nullptr; segment = segment->next) {
    // The first buffer has the headers.
    for (pbuf* before = segment->p; before->next != nullptr; before = before->next) {
      pbuf* const lent = before->next;
      const auto at = reinterpret_cast<uintptr_t>(lent->payload);
      if (lent->type_internal != PBUF_ROM || at < begin || at >= end) continue;
      auto* const held = new BlockBuffer;
      held->custom.custom_free_function = &FreeBlockBuffer;
      held->block = block;
      block->Ref();
      pbuf* const buffer = pbuf_alloced_custom(PBUF_RAW, lent->len, PBUF_REF, &held->custom,
                                               lent->payload, lent->len);
      buffer->tot_len = lent->tot_len;
      buffer->next = lent->next;
      before->next = buffer;
      lent->next = nullptr;
      pbuf_free(lent);
    }
  }
}

pbuf* ReferenceBytes(pbuf* packet) {
  pbuf* head = nullptr;
  pbuf** rest = &head;
  for (; packet != nullptr; packet = packet->next) {
    auto* const own = new ReferringBuffer;
    own->custom.custom_free_function = &FreeReferringBuffer;
    own->owner = packet;
    pbuf_ref(packet);
    pbuf* const buffer = pbuf_alloced_custom(PBUF_RAW, packet->len, PBUF_REF, &own->custom,
                                             packet->payload, packet->len);
    buffer->tot_len = packet->tot_len;
    *rest = buffer;
    rest = &buffer->next;
  }
  return head;
}

}  // namespace rump
