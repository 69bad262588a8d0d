#include "sp_server/kernel/io_vectors.h"

#include <errno.h>
#include <limits.h>

#include <algorithm>
#include <utility>

#include "sp_server/kernel/kernel.h"

namespace rump {

Task<Result<ClientBuffers>> ClientBuffers::FromIovecs(CallContext& context, uint64_t addr,
                                                      uint64_t count) {
  if (count > IOV_MAX) co_return Errno(EINVAL);
  ClientBuffers result;
  if (!result.memory_.emplace(context.process()).Take(count * sizeof(ClientBuffer))) {
    co_return Errno(ENOMEM);
  }
  result.buffers_.resize(count);
  const Errno error =
      co_await CopyInBytes(context, addr, std::as_writable_bytes(std::span(result.buffers_)));
  if (!error.ok()) co_return error;
  for (const ClientBuffer& buffer : result.buffers_) {
    if (buffer.size > SSIZE_MAX - result.total_) co_return Errno(EINVAL);
    result.total_ += buffer.size;
  }
  co_return std::move(result);
}

std::span<const std::byte> ClientBuffers::InRequest(const CallContext& context, size_t size) const {
  if (size == 0 || buffers_[index_].size - offset_ < size) return {};
  return context.call().InRequest(buffers_[index_].addr + offset_, size);
}

Task<Errno> ClientBuffers::Peek(CallContext& context, std::span<std::byte> destination) const {
  size_t index = index_;
  uint64_t offset = offset_;
  while (!destination.empty()) {
    const ClientBuffer& buffer = buffers_[index];
    const std::span<std::byte> part =
        destination.first(std::min<uint64_t>(destination.size(), buffer.size - offset));
    const Errno error = co_await CopyInBytes(context, buffer.addr + offset, part);
    if (!error.ok()) co_return error;
    destination = destination.subspan(part.size());
    ++index;
    offset = 0;
  }
  co_return kOk;
}

void ClientBuffers::Put(CallContext& context, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ClientBuffer& buffer = buffers_[index_];
    const size_t part = std::min<uint64_t>(data.size(), buffer.size - offset_);
    context.call().CopyOut(buffer.addr + offset_, data.first(part));
    data = data.subspan(part);
    Pass(part);
  }
}

void ClientBuffers::Pass(uint64_t bytes) {
  passed_ += bytes;
  while (bytes > 0) {
    const uint64_t part = std::min(bytes, buffers_[index_].size - offset_);
    bytes -= part;
    offset_ += part;
    if (offset_ == buffers_[index_].size) {
      ++index_;
      offset_ = 0;
    }
  }
  while (index_ < buffers_.size() && buffers_[index_].size == 0) ++index_;
}

}  // namespace rump
