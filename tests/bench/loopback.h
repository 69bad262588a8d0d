// For benchmarks of plain sockets: processes that are connected over TCP on loopback. Failures end
// the process.
#ifndef TESTS_BENCH_LOOPBACK_H_
#define TESTS_BENCH_LOOPBACK_H_

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace rump {

inline int Check(int result, const char* what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
  return result;
}

// Runs `body` in a child; Join gives up if it failed.
template <typename Body>
pid_t Fork(Body body) {
  const pid_t pid = Check(fork(), "fork");
  if (pid == 0) {
    // A run that fails leaves nobody behind.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    _exit(0);
  }
  return pid;
}

inline void Join(pid_t pid) {
  int status = 0;
  Check(waitpid(pid, &status, 0), "waitpid");
  if (status != 0) {
    fprintf(stderr, "the other process failed\n");
    exit(1);
  }
}

// The listening socket and the pipe by which the other process, which must not inherit any socket
// to be one of its own to the server, learns the port.
class Port {
 public:
  Port() { Check(pipe(pipe_), "pipe"); }

  int Listen() {
    const int fd = Check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    Check(bind(fd, reinterpret_cast<sockaddr*>(&address), size), "bind");
    Check(listen(fd, SOMAXCONN), "listen");
    Check(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
    Check(static_cast<int>(write(pipe_[1], &address, sizeof address)), "write");
    return fd;
  }

  // In the other process: waits until somebody listens.
  void Wait() {
    if (read(pipe_[0], &address_, sizeof address_) != sizeof address_) exit(1);
  }
  int Connect() const {
    const int fd = Check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    Check(connect(fd, reinterpret_cast<const sockaddr*>(&address_), sizeof address_), "connect");
    return fd;
  }

 private:
  int pipe_[2];
  sockaddr_in address_ = {};
};

inline int Accept(int listener) {
  return Check(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept");
}

inline void NoDelay(int fd) {
  const int on = 1;
  Check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
}

inline void EchoUntilEnd(int fd) {
  char byte;
  while (read(fd, &byte, 1) == 1) {
    if (write(fd, &byte, 1) != 1) _exit(1);
  }
}

}  // namespace rump

#endif  // TESTS_BENCH_LOOPBACK_H_
