#include "rump/rump_syscalls.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>

#include <type_traits>

#include "rump/rumpclient.h"

#define RUMPCLIENT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

template <typename T>
uint64_t Slot(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<uint64_t>(value);
  } else {
    return static_cast<uint64_t>(value);
  }
}

template <uint32_t kNumber, typename... Args>
long Stub(Args... args) {
  // One more than there are, so that a call without arguments has an array too.
  const uint64_t slots[sizeof...(Args) + 1] = {Slot(args)...};
  long retval[2];
  const int error = rumpclient_syscall(kNumber, slots, sizeof...(Args) * sizeof slots[0], retval);
  if (error != 0) {
    errno = error;
    return -1;
  }
  return retval[0];
}

}  // namespace

RUMPCLIENT_EXPORT pid_t rump_sys_getpid() { return static_cast<pid_t>(Stub<SYS_getpid>()); }

RUMPCLIENT_EXPORT int rump_sys_pipe(int fds[2]) { return static_cast<int>(Stub<SYS_pipe>(fds)); }

RUMPCLIENT_EXPORT ssize_t rump_sys_read(int fd, void* buf, size_t count) {
  return Stub<SYS_read>(fd, buf, count);
}

RUMPCLIENT_EXPORT ssize_t rump_sys_write(int fd, const void* buf, size_t count) {
  return Stub<SYS_write>(fd, buf, count);
}

RUMPCLIENT_EXPORT int rump_sys_close(int fd) { return static_cast<int>(Stub<SYS_close>(fd)); }

RUMPCLIENT_EXPORT int rump_sys_socket(int domain, int type, int protocol) {
  return static_cast<int>(Stub<SYS_socket>(domain, type, protocol));
}

RUMPCLIENT_EXPORT int rump_sys_bind(int fd, const sockaddr* addr, socklen_t addrlen) {
  return static_cast<int>(Stub<SYS_bind>(fd, addr, addrlen));
}

RUMPCLIENT_EXPORT int rump_sys_listen(int fd, int backlog) {
  return static_cast<int>(Stub<SYS_listen>(fd, backlog));
}

RUMPCLIENT_EXPORT int rump_sys_accept(int fd, sockaddr* addr, socklen_t* addrlen) {
  return static_cast<int>(Stub<SYS_accept>(fd, addr, addrlen));
}

RUMPCLIENT_EXPORT int rump_sys_connect(int fd, const sockaddr* addr, socklen_t addrlen) {
  return static_cast<int>(Stub<SYS_connect>(fd, addr, addrlen));
}

RUMPCLIENT_EXPORT int rump_sys_getsockname(int fd, sockaddr* addr, socklen_t* addrlen) {
  return static_cast<int>(Stub<SYS_getsockname>(fd, addr, addrlen));
}

RUMPCLIENT_EXPORT int rump_sys_getpeername(int fd, sockaddr* addr, socklen_t* addrlen) {
  return static_cast<int>(Stub<SYS_getpeername>(fd, addr, addrlen));
}
