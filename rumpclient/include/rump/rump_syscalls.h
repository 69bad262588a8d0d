/*
 * System calls of a rump kernel server, after rumpclient_init(). Each takes, does and returns in
 * the server what its namesake without rump_sys_ does in the host's kernel: -1 with errno if it
 * fails, but for rump_sys_clock_nanosleep(), which returns the error number. ENOTCONN may also mean
 * that there is no connection to the server.
 *
 * The descriptors are the server's: they mean nothing to the host's calls, nor the host's to these.
 * So are the process ids of rump_sys_getpid(), rump_sys_getppid() and rump_sys_kill(). The types
 * are the host's.
 */
#ifndef RUMP_RUMP_SYSCALLS_H_
#define RUMP_RUMP_SYSCALLS_H_

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* <sys/socket.h> has it for _GNU_SOURCE alone. */
struct mmsghdr;

/* Reading and writing. No file of a server has positions so far: the calls with an offset fail. */
ssize_t rump_sys_read(int fd, void *buf, size_t count);
ssize_t rump_sys_readv(int fd, const struct iovec *iov, int iovcnt);
ssize_t rump_sys_pread(int fd, void *buf, size_t count, off_t offset);
ssize_t rump_sys_preadv(int fd, const struct iovec *iov, int iovcnt, off_t offset);
ssize_t rump_sys_write(int fd, const void *buf, size_t count);
ssize_t rump_sys_writev(int fd, const struct iovec *iov, int iovcnt);
ssize_t rump_sys_pwrite(int fd, const void *buf, size_t count, off_t offset);
ssize_t rump_sys_pwritev(int fd, const struct iovec *iov, int iovcnt, off_t offset);

/* Descriptors. */
int rump_sys_pipe(int fds[2]);
int rump_sys_pipe2(int fds[2], int flags);
int rump_sys_close(int fd);
int rump_sys_dup(int fd);
int rump_sys_dup2(int fd, int newfd);
int rump_sys_dup3(int fd, int newfd, int flags);
int rump_sys_fcntl(int fd, int cmd, ...);
int rump_sys_ioctl(int fd, unsigned long request, ...);

/* Sockets. */
int rump_sys_socket(int domain, int type, int protocol);
int rump_sys_socketpair(int domain, int type, int protocol, int fds[2]);
int rump_sys_bind(int fd, const struct sockaddr *addr, socklen_t addrlen);
int rump_sys_listen(int fd, int backlog);
int rump_sys_accept(int fd, struct sockaddr *addr, socklen_t *addrlen);
int rump_sys_accept4(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags);
int rump_sys_connect(int fd, const struct sockaddr *addr, socklen_t addrlen);
int rump_sys_shutdown(int fd, int how);
int rump_sys_getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen);
int rump_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen);
int rump_sys_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int rump_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t size);

/* Messages. */
ssize_t rump_sys_sendto(int fd, const void *buf, size_t count, int flags,
                        const struct sockaddr *addr, socklen_t addrlen);
ssize_t rump_sys_recvfrom(int fd, void *buf, size_t count, int flags, struct sockaddr *addr,
                          socklen_t *addrlen);
ssize_t rump_sys_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t rump_sys_recvmsg(int fd, struct msghdr *message, int flags);
int rump_sys_sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
int rump_sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
                      struct timespec *timeout);

/* Waiting for several descriptors. */
int rump_sys_poll(struct pollfd *fds, nfds_t count, int timeout);
int rump_sys_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                   const sigset_t *mask);
int rump_sys_select(int count, fd_set *readable, fd_set *writable, fd_set *exceptional,
                    struct timeval *timeout);
int rump_sys_pselect(int count, fd_set *readable, fd_set *writable, fd_set *exceptional,
                     const struct timespec *timeout, const sigset_t *mask);
int rump_sys_epoll_create(int size);
int rump_sys_epoll_create1(int flags);
int rump_sys_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
int rump_sys_epoll_wait(int epfd, struct epoll_event *events, int count, int timeout);
int rump_sys_epoll_pwait(int epfd, struct epoll_event *events, int count, int timeout,
                         const sigset_t *mask);

/* Time. */
int rump_sys_nanosleep(const struct timespec *duration, struct timespec *left);
int rump_sys_clock_nanosleep(clockid_t clock, int flags, const struct timespec *duration,
                             struct timespec *left);

/* Processes and the machine. */
pid_t rump_sys_getpid(void);
pid_t rump_sys_getppid(void);
int rump_sys_kill(pid_t pid, int signal);
int rump_sys_uname(struct utsname *name);
int rump_sys_sethostname(const char *name, size_t size);

#ifdef __cplusplus
}
#endif

#endif /* RUMP_RUMP_SYSCALLS_H_ */
