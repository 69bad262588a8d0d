#include "tests/sp_server/lingering_socket.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

namespace rump {
namespace {
// Longer than any test may take.
constexpr int kLingerSeconds = 3600;
}  // namespace

LingeringSocket::LingeringSocket() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* name = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  fd.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (bind(listener.get(), name, size) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), name, &size) != 0 || connect(fd.get(), name, size) != 0) {
    abort();
  }
  peer_.reset(accept(listener.get(), nullptr, nullptr));
  const linger on{.l_onoff = 1, .l_linger = kLingerSeconds};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &on, sizeof on);
  const char data[4096] = {};
  while (send(fd.get(), data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
  }
}

void LingeringSocket::Drain() {
  char data[65536];
  while (recv(peer_.get(), data, sizeof data, 0) > 0) {
  }
  peer_.reset();
}

}  // namespace rump
