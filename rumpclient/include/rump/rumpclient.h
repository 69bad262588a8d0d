/*
 * Makes this program a process of a rump kernel server: a kernel that runs in another process, on
 * this machine or another one. Its system calls are in <rump/rump_syscalls.h>. Link with
 * -lrumpclient.
 *
 * Threads: all functions may be called from any thread, and calls run in parallel.
 *
 * Signals: handlers run while a call waits in the server, and may make system calls there. A
 * handler without SA_RESTART ends the call that it interrupted with EINTR; with SA_RESTART the call
 * goes on, unless signal(7) has it among those that are never restarted. (A server without the
 * extension "cancel" cannot be interrupted: the handler runs, and the call goes on.) A handler must
 * not leave a call with longjmp(3), nor call the functions of this header but rumpclient_syscall().
 * A thread can be cancelled with pthread_cancel(3) while a call waits in the server.
 */
#ifndef RUMP_RUMPCLIENT_H_
#define RUMP_RUMPCLIENT_H_

#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Connects to the server whose URL is in the environment variable RUMP_SERVER: unix://path, where
 * the path is absolute or relative to the working directory, or tcp://address:port/, with a
 * numeric address of IPv4 or, in brackets, of IPv6. The program becomes a new process there, a
 * child of init without open files, under its own name.
 *
 * Returns 0, also if it is connected already. Otherwise -1 with errno, and a line on stderr that
 * says what is wrong with which URL:
 *   ENOENT           RUMP_SERVER is not set, or there is no socket at its path
 *   EINVAL           RUMP_SERVER is not a URL that can be used
 *   EPROTO           what answers there is not a rump kernel server
 *   EPROTONOSUPPORT  it is one, of another major version of the protocol
 *   ETIMEDOUT        it did not say what it is, or answer, within 10 seconds
 * or an errno of connect(2), or the server's reason to refuse the new process.
 *
 * In a program started by rumpclient_exec() it goes on with the process of the program before, and
 * takes the two variables that say so out of the environment.
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

/*
 * fork(2) here and in the server: the child is a new process there, too, with copies of its
 * parent's descriptors. -1 with errno if either fork failed; ENOTCONN without a connection. A child
 * that the server refuses prints a line and exits with 1. A child of plain fork(2) has no
 * connection: its calls fail with ENOTCONN until it calls rumpclient_init().
 */
pid_t rumpclient_fork(void);

/*
 * The same as vfork(2): the parent goes on when the child has called rumpclient_exec(), execve(2)
 * or _exit(2). Unlike there, the child works on a copy of its parent's memory.
 */
pid_t rumpclient_vfork(void);

/*
 * The parts of rumpclient_fork(), for programs that fork in ways of their own. rumpclient_prefork()
 * forks the process in the server at this moment, and returns what claims the copy, or NULL with
 * errno. It is memory from malloc(3) that the caller frees, here and in the child.
 */
struct rumpclient_fork;
struct rumpclient_fork *rumpclient_prefork(void);

/*
 * In the child: becomes the process that `fork` stands for; also if the parent is gone by then. 0,
 * or -1 with errno: ESRCH if it has been claimed or dropped already, or never was, EBUSY if it is
 * called in the parent itself while other threads make calls, or in a child on its parent's memory
 * while there is another one or a second time, ETIMEDOUT if the server does not answer within 10
 * seconds, or an errno of connect(2).
 */
int rumpclient_fork_init(struct rumpclient_fork *fork);

/* In the parent, when there will be no child: the server drops the copy. Frees `fork`. */
void rumpclient_fork_cancel(struct rumpclient_fork *fork);

/*
 * In the parent, when vfork(2) of its own has returned after the child called
 * rumpclient_fork_init(): the connection is the parent's again.
 */
void rumpclient_fork_vparent(struct rumpclient_fork *fork);

/*
 * execve(2). The new program is the same process in the server, with the same descriptors but for
 * those that are close-on-exec, once it has called rumpclient_init(). Calls of other threads that
 * are under way never return. Returns -1 with errno if the program could not be started, and
 * nothing has changed then. ENOMEM: there is no memory for its environment. In a child that is no
 * process of its own in the server, the program is none either.
 */
int rumpclient_exec(const char *path, char *const argv[], char *const envp[]);

/* daemon(3), which forks, for a process of the server. 0, or -1 with errno. */
int rumpclient_daemon(int nochdir, int noclose);

/*
 * What happens when the server is lost: 0, as at the start, lets calls fail with ENOTCONN. Else the
 * next call tries to connect again for that many seconds, for as long as it takes (INFTIME) or once
 * (ONCE), with a line on stderr when it begins and one when it succeeds; or the program exits with
 * status 1 (DIE). When it is connected again the process is a new one without descriptors. The call
 * that tried is then made again; others that were under way fail with ENOTCONN.
 */
#define RUMPCLIENT_RETRYCONN_INFTIME ((time_t)-1)
#define RUMPCLIENT_RETRYCONN_ONCE ((time_t)-2)
#define RUMPCLIENT_RETRYCONN_DIE ((time_t)-3)
void rumpclient_setconnretry(time_t retry);

/*
 * For a program that closes descriptors which it did not open: called before it does, it moves the
 * connection's own out of the way.
 *   CLOSE, DUP2  *fdp is about to be closed, or to be the target of dup2(2)
 *   FCLOSEM      all from *fdp on are about to be closed: closes those below the connection's own
 *                and stores the number behind it, from where the program goes on
 * 0, or -1 with errno.
 */
enum rumpclient_closevariant {
  RUMPCLIENT_CLOSE_CLOSE,
  RUMPCLIENT_CLOSE_DUP2,
  RUMPCLIENT_CLOSE_FCLOSEM
};
int rumpclient__closenotify(int *fdp, enum rumpclient_closevariant variant);

#ifdef __cplusplus
}
#endif

#endif /* RUMP_RUMPCLIENT_H_ */
