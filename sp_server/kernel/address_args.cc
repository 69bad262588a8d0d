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

Task<Errno> CopyInAddressRoom(CallContext& context, uint64_t addr, uint64_t len_addr,
                              AddressRoom* room) {
  *room = {addr, len_addr, 0};
  if (addr == 0) co_return kOk;
  int32_t size = 0;
  if (const Errno error = co_await CopyInObject(context, len_addr, &size); !error.ok()) {
    co_return error;
  }
  if (size < 0) co_return Errno(EINVAL);
  room->size = static_cast<size_t>(size);
  co_return kOk;
}

void CopyOutAddress(CallContext& context, const SocketAddress& address, const AddressRoom& room) {
  if (room.addr == 0) return;
  const std::span<const std::byte> bytes = address.bytes();
  context.call().CopyOut(room.addr, bytes.first(std::min(bytes.size(), room.size)));
  CopyOutObject(context, room.len_addr, address.len);
}

}  // namespace rump
