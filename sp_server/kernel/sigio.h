// Signal-driven I/O: O_ASYNC and F_SETOWN of fcntl(2).
#ifndef SP_SERVER_KERNEL_SIGIO_H_
#define SP_SERVER_KERNEL_SIGIO_H_

#include "protocol/errno.h"
#include "sp_server/kernel/file.h"
#include "sp_server/kernel/kernel.h"

namespace rump {

// Sets who gets SIGURG when there is urgent data, and SIGIO when `file` has O_ASYNC and may have
// become ready: a process, or the process -`owner`, or nobody for 0. ESRCH.
Errno SetOwner(BuiltinKernel& kernel, File& file, int owner);

// Sets the file's flags, as F_GETFL shows them, and with O_ASYNC starts or ends the signals.
void SetFlags(BuiltinKernel& kernel, File& file, int flags);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_SIGIO_H_
