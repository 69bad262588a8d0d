#include "sp_server/kernel/address_args.h"

#include <algorithm>

namespace rump {

Task<Errno> CopyInAddress(CallContext& context, uint64_t addr, uint64_t len,
                          SocketAddress* address) {
  if (len > sizeof address->storage) co_return Errno(EINVAL);
  address->len = static_cast<socklen_t>(len);
  co_return co_await CopyInBytes(
      context, addr, std::as_writable_bytes(std::span(&address->storage, 1)).first(len));
}

Task<Errno> CopyOutAddress(CallContext& context, const SocketAddress& address, uint64_t addr,
                           uint64_t len_addr) {
  if (addr == 0) co_return kOk;
  int32_t room = 0;
  if (const Errno error = co_await CopyInObject(context, len_addr, &room); !error.ok()) {
    co_return error;
  }
  if (room < 0) co_return Errno(EINVAL);
  const std::span<const std::byte> bytes = address.bytes();
  context.call().CopyOut(addr, bytes.first(std::min<size_t>(bytes.size(), room)));
  CopyOutObject(context, len_addr, address.len);
  co_return kOk;
}

}  // namespace rump
