/*
 * Makes this program a process of a rump kernel server: a kernel that runs in another process, on
 * this machine or another one. Its system calls are in <rump/rump_syscalls.h>. Link with
 * -lrumpclient.
 *
 * All functions may be called from any thread. None may be called from a signal handler that can
 * interrupt another of them. A call that blocks in the server is not interrupted by signals:
 * handlers run, and the call goes on.
 */
#ifndef RUMP_RUMPCLIENT_H_
#define RUMP_RUMPCLIENT_H_

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Connects to the server whose URL is in the environment variable RUMP_SERVER: unix://path, where
 * the path is absolute or relative to the working directory, or tcp://a.b.c.d:port/. The program
 * becomes a new process there, a child of init without open files, under its own name.
 *
 * Returns 0, also if it is connected already. Otherwise -1 with errno, and a line on stderr that
 * says what is wrong with which URL:
 *   ENOENT           RUMP_SERVER is not set, or there is no socket at its path
 *   EINVAL           RUMP_SERVER is not a URL that can be used
 *   EPROTO           what answers there is not a rump kernel server
 *   EPROTONOSUPPORT  it is one, of another major version of the protocol
 *   ETIMEDOUT        it did not say what it is within 10 seconds
 * or an errno of connect(2), or the server's reason to refuse the new process.
 */
int rumpclient_init(void);

/*
 * Executes system call `num` in the server, with `argsize` bytes of arguments at `sysarg`: one slot
 * of 64 bits each, at most 8. Number, arguments and what they point to are the server's ABI and are
 * passed through as they are. The server can read and write only the memory that the call's
 * arguments name: for calls that it does not know, this library lends none.
 *
 * Returns 0 and stores two values at `retval`, of which most calls use the first; or the error
 * number, of the call in the server's ABI, or a local one:
 *   EINVAL    `argsize` is too large or not a multiple of 8
 *   ENOTCONN  rumpclient_init() has not succeeded, or the connection is lost
 * errno is left as it is.
 */
int rumpclient_syscall(int num, const void *sysarg, size_t argsize, long *retval);

#ifdef __cplusplus
}
#endif

#endif /* RUMP_RUMPCLIENT_H_ */
