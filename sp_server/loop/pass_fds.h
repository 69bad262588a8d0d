// send(2) and recv(2) of bytes that descriptors go along with.
#ifndef SP_SERVER_LOOP_PASS_FDS_H_
#define SP_SERVER_LOOP_PASS_FDS_H_

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <span>
#include <vector>

#include "sp_server/loop/unique_fd.h"

namespace rump {

// Sends `bytes`, at least one, and with the first of them `fds`, at most 253, which stay the
// caller's. `flags`, result and errno as send(2)'s.
ssize_t SendWithFds(int socket, std::span<const std::byte> bytes, std::span<const int> fds,
                    int flags);

// Receives into `buffer` without waiting; result and errno as recv(2)'s. What descriptors came
// along are appended to *fds, close-on-exec. They belong to the last byte received, if not to bytes
// before it: a unix stream ends a receive behind a message that brought some.
//
// All that a message can bring are taken, whether they are wanted or not: those left to the kernel
// it would close here, and that may block.
//
// *sender becomes who has sent the bytes if the socket has SO_PASSCRED.
ssize_t ReceiveWithFds(int socket, std::span<std::byte> buffer, std::vector<UniqueFd>* fds,
                       ucred* sender = nullptr);
// The same into several pieces of memory.
ssize_t ReceiveWithFds(int socket, std::span<iovec> iov, std::vector<UniqueFd>* fds,
                       ucred* sender = nullptr);

}  // namespace rump

#endif  // SP_SERVER_LOOP_PASS_FDS_H_
