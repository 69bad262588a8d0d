// How much the two ends of a stream's socketpair take: by themselves, what many small writes of TCP
// need, and less where the program has asked for small buffers.
#ifndef SP_SERVER_KERNEL_HOST_BUFFERS_H_
#define SP_SERVER_KERNEL_HOST_BUFFERS_H_

#include "sp_server/kernel/socket.h"

namespace rump {

// What SO_SNDBUF of each end is to be set to, in bytes; Linux doubles it. What C sends waits in S,
// and counts towards the limit of C.
int SendBufferOfC(const StreamSocket& stream);
int SendBufferOfS(const StreamSocket& stream);
// That of a stream whose program has asked for nothing.
inline constexpr int kHostSendBuffer = 1 << 20;

// Sets SO_SNDBUF, beyond the host's limit if the server may.
void SetSendBuffer(int fd, int bytes);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_HOST_BUFFERS_H_
