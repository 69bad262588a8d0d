// Sending and receiving on sockets, as read, write, send and receive calls share it.
#ifndef SP_SERVER_KERNEL_SOCKET_DATA_H_
#define SP_SERVER_KERNEL_SOCKET_DATA_H_

#include "sp_server/kernel/io_vectors.h"
#include "sp_server/kernel/socket.h"
#include "sp_server/kernel/syscalls.h"

namespace rump {

// Receives into `buffers` under the MSG_* `flags`. `*received` (may be nullptr) gets the sender and
// the flags. Returns what recv(2) does.
SyscallTask ReceiveData(CallContext& context, const FileArg& arg, ClientBuffers buffers, int flags,
                        Received* received);

// Sends `buffers` to `to` (nullptr: the peer) with control messages `control`. Returns what send(2)
// does, with its SIGPIPE.
SyscallTask SendData(CallContext& context, const FileArg& arg, ClientBuffers buffers,
                     const SocketAddress* to, int flags, std::span<const std::byte> control = {});

}  // namespace rump

#endif  // SP_SERVER_KERNEL_SOCKET_DATA_H_
