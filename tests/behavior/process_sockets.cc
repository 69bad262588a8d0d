#include "tests/behavior/process_sockets.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace rump {

int UseSockets(const ProcessSockets& sockets) {
  if (write(sockets.stream, "stream", 6) != 6) return 1;
  const int accepted = accept(sockets.listener, nullptr, nullptr);
  if (accepted < 0) return 2;
  if (send(accepted, "accepted", 8, 0) != 8) return 3;
  if (close(accepted) != 0) return 4;
  char buffer[16];
  if (recv(sockets.datagram, buffer, sizeof buffer, 0) != 8) return 5;
  if (send(sockets.datagram, "answer", 6, 0) != 6) return 6;
  sockaddr_in name{};
  socklen_t size = sizeof name;
  if (getsockname(sockets.stream, reinterpret_cast<sockaddr*>(&name), &size) != 0) return 7;
  if (name.sin_family != AF_INET || name.sin_port == 0) return 8;
  const int own = socket(AF_INET, SOCK_STREAM, 0);
  if (own < 0) return 9;
  if (listen(own, 1) != 0) return 10;
  return close(own) == 0 ? 0 : 11;
}

}  // namespace rump
