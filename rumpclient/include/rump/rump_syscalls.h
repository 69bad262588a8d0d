/*
 * System calls of a rump kernel server, after rumpclient_init(). Each takes, does and returns in
 * the server what its namesake without rump_sys_ does in the host's kernel; -1 with errno if it
 * fails. ENOTCONN may also mean that there is no connection to the server.
 *
 * The descriptors are the server's: they mean nothing to the host's calls, nor the host's to these.
 */
#ifndef RUMP_RUMP_SYSCALLS_H_
#define RUMP_RUMP_SYSCALLS_H_

#include <sys/socket.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

pid_t rump_sys_getpid(void);

int rump_sys_pipe(int fds[2]);
ssize_t rump_sys_read(int fd, void *buf, size_t count);
ssize_t rump_sys_write(int fd, const void *buf, size_t count);
int rump_sys_close(int fd);

int rump_sys_socket(int domain, int type, int protocol);
int rump_sys_bind(int fd, const struct sockaddr *addr, socklen_t addrlen);
int rump_sys_listen(int fd, int backlog);
int rump_sys_accept(int fd, struct sockaddr *addr, socklen_t *addrlen);
int rump_sys_connect(int fd, const struct sockaddr *addr, socklen_t addrlen);
int rump_sys_getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen);
int rump_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen);

#ifdef __cplusplus
}
#endif

#endif /* RUMP_RUMP_SYSCALLS_H_ */
