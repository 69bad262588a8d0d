// Makes two sockets and prints what became of them: 0, or the name of the error.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

namespace {
const char* MakeSocket() {
  return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? "0" : strerrorname_np(errno);
}
}  // namespace

int main() {
  const char* first = MakeSocket();
  const char* second = MakeSocket();
  printf("%s %s\n", first, second);
  return 0;
}
