// The system calls that the dispatcher knows, one function each.
#ifndef HIJACK_CALLS_H_
#define HIJACK_CALLS_H_

#include <sys/uio.h>

#include <string_view>

#include "hijack/config.h"
#include "hijack/outcome.h"

namespace rump::hijack {

// Which sockets are to be ours. Before it is called none is.
void ConfigureSockets(const HijackConfig& config);
// Whether internet sockets are, and with them what is asked of interfaces.
bool HijacksInternet();

// calls_socket.cc: what makes sockets and connections.
Outcome CallSocket(const Args& args);
Outcome CallSocketpair(const Args& args);
Outcome CallListen(const Args& args);
Outcome CallConnect(const Args& args);
Outcome CallAccept(const Args& args);
Outcome CallAccept4(const Args& args);
Outcome CallShutdown(const Args& args);
Outcome CallIoUringSetup(const Args& args);

// calls_options.cc: names, options, ioctl.
Outcome CallBind(const Args& args);
Outcome CallGetsockname(const Args& args);
Outcome CallGetpeername(const Args& args);
Outcome CallGetsockopt(const Args& args);
Outcome CallSetsockopt(const Args& args);
Outcome CallIoctl(const Args& args);

// calls_receive.cc
Outcome CallRead(const Args& args);
Outcome CallReadv(const Args& args);
Outcome CallRecvfrom(const Args& args);
Outcome CallRecvmsg(const Args& args);
Outcome CallRecvmmsg(const Args& args);
// readv(2) with flags of recv(2).
Outcome ReceiveVector(int fd, const iovec* iov, int count, int flags);

// calls_send.cc
Outcome CallWrite(const Args& args);
Outcome CallWritev(const Args& args);
Outcome CallSendto(const Args& args);
Outcome CallSendmsg(const Args& args);
Outcome CallSendmmsg(const Args& args);
// What writing nothing to `fd` comes to, as sendfile(2) and splice(2) ask whether they may go on.
// kPass: they may.
Outcome SendNothing(int fd);
// writev(2) with flags of send(2).
Outcome SendVector(int fd, const iovec* iov, int count, int flags);

// calls_transfer.cc: what moves bytes by other ways.
Outcome CallSendfile(const Args& args);
Outcome CallSplice(const Args& args);
Outcome CallPreadv2(const Args& args);
Outcome CallPwritev2(const Args& args);

// calls_descriptor.cc: what gives numbers another meaning.
Outcome CallClose(const Args& args);
Outcome CallCloseRange(const Args& args);
Outcome CallDup(const Args& args);
Outcome CallDup2(const Args& args);
Outcome CallDup3(const Args& args);
Outcome CallFcntl(const Args& args);
Outcome CallPidfdGetfd(const Args& args);

// calls_names.cc: how the program finds hosts by name.
Outcome CallOpenat(const Args& args);

// calls_sandbox.cc: what takes system calls away from the process.
Outcome CallPrctl(const Args& args);
Outcome CallSeccomp(const Args& args);

// calls_process.cc: what makes processes, and programs of them.
Outcome CallClone(const Args& args);
Outcome CallExecve(const Args& args);
Outcome CallExecveat(const Args& args);

}  // namespace rump::hijack

#endif  // HIJACK_CALLS_H_
