// Makes system calls behind the hijack library's back, for `rump check --audit` to find.
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

// By an instruction of the program's own.
long OwnCall(long number, long a0, long a1, long a2) {
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a0), "S"(a1), "d"(a2)
               : "rcx", "r11", "memory");
  return result;
}

}  // namespace

// escaping_program [socket] [route] [name] [child]: what is to escape.
int main(int argc, char** argv) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in any = {.sin_family = AF_INET, .sin_port = 0, .sin_addr = {}, .sin_zero = {}};
  if (bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0) return 1;
  for (int i = 1; i < argc; ++i) {
    sockaddr_storage name;
    socklen_t size = sizeof name;
    if (strcmp(argv[i], "socket") == 0) {
      OwnCall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    } else if (strcmp(argv[i], "route") == 0) {
      OwnCall(SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    } else if (strcmp(argv[i], "name") == 0) {
      OwnCall(SYS_getsockname, fd, reinterpret_cast<long>(&name), reinterpret_cast<long>(&size));
    } else if (const pid_t child = fork(); child == 0) {
      OwnCall(SYS_socket, AF_INET6, SOCK_STREAM, 0);
      _exit(0);
    } else {
      waitpid(child, nullptr, 0);
    }
  }
  close(fd);
  return 7;
}
