// Socket addresses as arguments of system calls.
#ifndef SP_SERVER_KERNEL_ADDRESS_ARGS_H_
#define SP_SERVER_KERNEL_ADDRESS_ARGS_H_

#include <stdint.h>

#include "sp_server/kernel/socket.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {

// Copies a sockaddr of `len` bytes in. EINVAL for a length that no address has.
Task<Errno> CopyInAddress(CallContext& context, uint64_t addr, uint64_t len,
                          SocketAddress* address);

// Where a call is to put an address.
struct AddressRoom {
  uint64_t addr = 0;  // 0: nowhere
  uint64_t len_addr = 0;
  size_t size = 0;  // what the socklen_t at len_addr says
};

// Copies the room's size in, before the call takes anything that an interruption would lose. EINVAL
// for a negative size.
Task<Errno> CopyInAddressRoom(CallContext& context, uint64_t addr, uint64_t len_addr,
                              AddressRoom* room);

// Copies `address` out, cut to its room; the socklen_t gets the full length.
void CopyOutAddress(CallContext& context, const SocketAddress& address, const AddressRoom& room);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_ADDRESS_ARGS_H_
