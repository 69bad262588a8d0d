#include "sp_server/kernel/host_buffers.h"

#include <sys/socket.h>

#include <algorithm>

namespace rump {
namespace {

// Every small write costs hundreds of bytes of socket buffer, so that as many of them as TCP would
// take need megabytes here: that is why the buffers are large unless somebody wants them small.

// The pump keeps the last byte of what C has sent, and with it the whole buffer of the write that
// it came with: up to 37,120 bytes. The host lets C write again when that is no more than a quarter
// of the limit, so that with a smaller one a program could wait for ever.
constexpr int kLeastOfC = 80 * 1024;
// Nothing of what S has sent is kept.
constexpr int kLeastOfS = 8 * 1024;

int Clamp(size_t asked, int least) {
  if (asked == 0) return kHostSendBuffer;
  return static_cast<int>(std::clamp<size_t>(asked, least, kHostSendBuffer));
}

}  // namespace

int SendBufferOfC(const StreamSocket& stream) {
  return Clamp(stream.BufferAskedFor(SO_SNDBUF), kLeastOfC);
}

int SendBufferOfS(const StreamSocket& stream) {
  return Clamp(stream.BufferAskedFor(SO_RCVBUF), kLeastOfS);
}

void SetSendBuffer(int fd, int bytes) {
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
}

}  // namespace rump
