// What the processes of the built-in kernel may hold.
#ifndef SP_SERVER_KERNEL_LIMITS_H_
#define SP_SERVER_KERNEL_LIMITS_H_

#include <stddef.h>

#include "sp_server/kernel/host_objects.h"

namespace rump {

struct KernelLimits {
  // Processes at once; one more is EAGAIN. Forked copies that no client has claimed yet get at most
  // half of them, and one process no more copies than it leaves to all others.
  size_t processes = 100'000;
  // Entries in the descriptor table of one process; one more is EMFILE.
  size_t process_files = 4096;
  // Entries in the descriptor tables of all processes, free ones below open ones included; one more
  // is ENFILE. A file is open by a descriptor at least, so this bounds files, too.
  size_t files = 262'144;
  // Bytes that calls, pipes, AF_UNIX and datagram sockets, poll and epoll hold for all processes.
  // Beyond them calls fail with ENOMEM, or ENOBUFS where their manual page says so.
  size_t memory_bytes = size_t{1} << 30;
  // Of these, what datagrams of the network hold until they are received. Beyond that they are
  // dropped, but for a short one for each socket.
  size_t datagram_bytes = size_t{1} << 28;
  // Host sockets that one process made, or its listeners did; one more is EMFILE.
  size_t process_objects = 12'288;
  // Those of all processes; one more is ENFILE.
  size_t objects = HostObjects::kMaxObjects;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_LIMITS_H_
