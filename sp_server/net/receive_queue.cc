#include "sp_server/net/receive_queue.h"

#include <string.h>

#include <algorithm>

namespace rump {
namespace {
constexpr size_t kTinyBytes = 512;
constexpr size_t kBlockBytes = 4096;
}  // namespace

void ReceiveQueue::Append(pbuf* packet) {
  while (packet != nullptr) {
    pbuf* rest = packet->next;
    // pbuf_dechain drops the first part's reference to the rest; we go on with it.
    if (rest != nullptr) {
      pbuf_ref(rest);
      pbuf_dechain(packet);
    }
    AppendOne(packet);
    packet = rest;
  }
}

void ReceiveQueue::AppendOne(pbuf* part) {
  const size_t length = part->len;
  size_ += length;
  if (length > kTinyBytes || (parts_.empty() && length > 0)) {
    parts_.push_back(part);
    tail_room_ = 0;
    return;
  }
  if (length > 0 && length > tail_room_) {
    pbuf* block = pbuf_alloc(PBUF_RAW, kBlockBytes, PBUF_RAM);
    if (block == nullptr) {
      parts_.push_back(part);
      tail_room_ = 0;
      return;
    }
    block->len = block->tot_len = 0;
    parts_.push_back(block);
    tail_room_ = kBlockBytes;
  }
  if (length > 0) {
    pbuf* block = parts_.back();
    memcpy(static_cast<std::byte*>(block->payload) + block->len, part->payload, length);
    block->len = block->tot_len = static_cast<u16_t>(block->len + length);
    tail_room_ -= length;
  }
  pbuf_free(part);
}

size_t ReceiveQueue::Peek(std::span<iovec> iov) const {
  size_t used = head_used_;
  size_t n = 0;
  for (auto part = parts_.begin(); part != parts_.end() && n < iov.size(); ++part, used = 0) {
    iov[n++] = {static_cast<std::byte*>((*part)->payload) + used, (*part)->len - used};
  }
  return n;
}

size_t ReceiveQueue::Copy(std::span<std::byte> out, size_t skipped) const {
  size_t used = head_used_ + skipped;
  size_t copied = 0;
  for (auto part = parts_.begin(); part != parts_.end() && copied < out.size(); ++part) {
    if (used >= (*part)->len) {
      used -= (*part)->len;
      continue;
    }
    const size_t n = std::min<size_t>((*part)->len - used, out.size() - copied);
    memcpy(out.data() + copied, static_cast<std::byte*>((*part)->payload) + used, n);
    copied += n;
    used = 0;
  }
  return copied;
}

void ReceiveQueue::Consume(size_t bytes) {
  size_ -= bytes;
  bytes += head_used_;
  while (!parts_.empty() && bytes >= parts_.front()->len) {
    bytes -= parts_.front()->len;
    pbuf_free(parts_.front());
    parts_.pop_front();
  }
  head_used_ = bytes;
  if (parts_.empty()) tail_room_ = 0;
}

void ReceiveQueue::Clear() {
  for (pbuf* part : parts_) pbuf_free(part);
  parts_.clear();
  head_used_ = tail_room_ = size_ = 0;
}

}  // namespace rump
