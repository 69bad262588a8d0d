// pipe(2): a bounded buffer between two files.
#ifndef SP_SERVER_KERNEL_PIPE_H_
#define SP_SERVER_KERNEL_PIPE_H_

#include <memory>
#include <utility>

#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/file.h"

namespace rump {

// The read end and the write end of a new pipe of 64 KiB. `flags`: O_NONBLOCK or 0, for both.
// Writes of up to PIPE_BUF bytes are atomic, as pipe(7) promises. The buffer is there only while
// something is in it, and comes out of `memory` (nullptr: without a limit): ENOMEM.
std::pair<std::shared_ptr<File>, std::shared_ptr<File>> MakePipe(
    int flags, std::shared_ptr<Budget> memory = nullptr);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_PIPE_H_
