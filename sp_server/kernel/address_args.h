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

// Copies `address` out to `addr`, cut to the socklen_t at `len_addr`, which gets the full length.
// Nothing if `addr` is 0. EINVAL for a negative length.
Task<Errno> CopyOutAddress(CallContext& context, const SocketAddress& address, uint64_t addr,
                           uint64_t len_addr);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_ADDRESS_ARGS_H_
