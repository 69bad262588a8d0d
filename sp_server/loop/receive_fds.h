// recv(2) for sockets on which others can send descriptors.
#ifndef SP_SERVER_LOOP_RECEIVE_FDS_H_
#define SP_SERVER_LOOP_RECEIVE_FDS_H_

#include <stddef.h>
#include <sys/types.h>

#include <span>
#include <vector>

#include "sp_server/loop/unique_fd.h"

namespace rump {

// Receives into `buffer` without waiting; result and errno as recv(2)'s. What descriptors came
// along are appended to *fds, close-on-exec. They belong to the last byte received, if not to bytes
// before it: a unix stream ends a receive behind a message that brought some.
//
// All that a message can bring are taken, whether they are wanted or not: those left to the kernel
// it would close here, and that may block.
ssize_t ReceiveWithFds(int socket, std::span<std::byte> buffer, std::vector<UniqueFd>* fds);

}  // namespace rump

#endif  // SP_SERVER_LOOP_RECEIVE_FDS_H_
