// Stands for rump_server: `rump_server -s unix://PATH` listens until it is told to end. Its process
// id is in PATH.pid before it listens. FAKE_SERVER_STATUS makes it end at once with that status.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>
#include <string>

int main(int argc, char** argv) {
  if (const char* status = getenv("FAKE_SERVER_STATUS")) return atoi(status);
  const std::string scheme = "unix://";
  const std::string url = argc == 3 && strcmp(argv[1], "-s") == 0 ? argv[2] : "";
  if (url.rfind(scheme, 0) != 0) return 2;
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  url.copy(name.sun_path, sizeof(name.sun_path) - 1, scheme.size());
  std::ofstream(std::string(name.sun_path) + ".pid") << getpid() << std::endl;
  puts("a server's words go to standard error");
  fflush(stdout);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) return 3;
  if (listen(fd, 8) != 0) return 4;
  while (true) pause();
}
