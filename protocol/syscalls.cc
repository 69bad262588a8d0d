#include "protocol/syscalls.h"

#include <sys/epoll.h>
#include <sys/poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>

#include <algorithm>
#include <array>

namespace rump {
namespace {

constexpr ArgSpec kI{ArgKind::kInt};
constexpr ArgSpec kFd{ArgKind::kFd};
constexpr ArgSpec kSz{ArgKind::kSize};
constexpr ArgSpec kLen{ArgKind::kOutSize};
constexpr ArgSpec In(uint8_t size_arg) { return {ArgKind::kIn, size_arg}; }
constexpr ArgSpec Out(uint8_t size_arg) { return {ArgKind::kOut, size_arg}; }
constexpr ArgSpec InFixed(uint16_t bytes) { return {ArgKind::kInFixed, bytes}; }
constexpr ArgSpec OutFixed(uint16_t bytes) { return {ArgKind::kOutFixed, bytes}; }
constexpr ArgSpec InOutFixed(uint16_t bytes) { return {ArgKind::kInOutFixed, bytes}; }
constexpr ArgSpec FdSet(uint8_t count_arg) { return {ArgKind::kFdSet, count_arg}; }
constexpr ArgSpec Msgs(ArgKind kind, uint8_t count_arg) { return {kind, count_arg}; }
constexpr ArgSpec OutBySize(uint8_t size_arg) { return {ArgKind::kOutBySize, size_arg}; }
constexpr ArgSpec Iov(ArgKind kind, uint8_t count_arg) { return {kind, count_arg}; }

constexpr ArgSpec kPollFds{ArgKind::kInOutArray, 1, sizeof(pollfd)};
constexpr ArgSpec kEvents{ArgKind::kOutArray, 2, sizeof(epoll_event)};
constexpr ArgSpec kTimespec = InFixed(sizeof(timespec));
// pselect6(2): pointer and size of the signal mask.
constexpr uint16_t kMaskPair = 16;

constexpr auto kTable = std::to_array<SyscallSpec>({
    {SYS_read, "read", 3, {kFd, Out(2), kSz}},
    {SYS_write, "write", 3, {kFd, In(2), kSz}},
    {SYS_close, "close", 1, {kFd}},
    {SYS_poll, "poll", 3, {kPollFds, kI, kI}},
    {SYS_ioctl, "ioctl", 3, {kFd, kI, {ArgKind::kIoctl, 1}}},
    {SYS_pread64, "pread64", 4, {kFd, Out(2), kSz, kI}},
    {SYS_pwrite64, "pwrite64", 4, {kFd, In(2), kSz, kI}},
    {SYS_readv, "readv", 3, {kFd, Iov(ArgKind::kOutIov, 2), kI}},
    {SYS_writev, "writev", 3, {kFd, Iov(ArgKind::kInIov, 2), kI}},
    {SYS_pipe, "pipe", 1, {OutFixed(8)}},
    {SYS_select, "select", 5, {kI, FdSet(0), FdSet(0), FdSet(0), InOutFixed(sizeof(timeval))}},
    {SYS_dup, "dup", 1, {kFd}},
    {SYS_dup2, "dup2", 2, {kFd, kI}},
    {SYS_nanosleep, "nanosleep", 2, {kTimespec, OutFixed(sizeof(timespec))}},
    {SYS_getpid, "getpid", 0, {}},
    {SYS_socket, "socket", 3, {kI, kI, kI}},
    {SYS_connect, "connect", 3, {kFd, In(2), kSz}},
    {SYS_accept, "accept", 3, {kFd, OutBySize(2), kLen}},
    {SYS_sendto, "sendto", 6, {kFd, In(2), kSz, kI, In(5), kSz}},
    {SYS_recvfrom, "recvfrom", 6, {kFd, Out(2), kSz, kI, OutBySize(5), kLen}},
    {SYS_sendmsg, "sendmsg", 3, {kFd, {ArgKind::kInMsg}, kI}},
    {SYS_recvmsg, "recvmsg", 3, {kFd, {ArgKind::kOutMsg}, kI}},
    {SYS_shutdown, "shutdown", 2, {kFd, kI}},
    {SYS_bind, "bind", 3, {kFd, In(2), kSz}},
    {SYS_listen, "listen", 2, {kFd, kI}},
    {SYS_getsockname, "getsockname", 3, {kFd, OutBySize(2), kLen}},
    {SYS_getpeername, "getpeername", 3, {kFd, OutBySize(2), kLen}},
    {SYS_socketpair, "socketpair", 4, {kI, kI, kI, OutFixed(8)}},
    {SYS_setsockopt, "setsockopt", 5, {kFd, kI, kI, In(4), kSz}},
    {SYS_getsockopt, "getsockopt", 5, {kFd, kI, kI, OutBySize(4), kLen}},
    {SYS_kill, "kill", 2, {kI, kI}},
    {SYS_uname, "uname", 1, {OutFixed(sizeof(utsname))}},
    {SYS_fcntl, "fcntl", 3, {kFd, kI, kI}},
    {SYS_getppid, "getppid", 0, {}},
    {SYS_sethostname, "sethostname", 2, {In(1), kSz}},
    {SYS_epoll_create, "epoll_create", 1, {kI}},
    {SYS_clock_nanosleep, "clock_nanosleep", 4, {kI, kI, kTimespec, OutFixed(sizeof(timespec))}},
    {SYS_epoll_wait, "epoll_wait", 4, {kFd, kEvents, kI, kI}},
    {SYS_epoll_ctl, "epoll_ctl", 4, {kFd, kI, kI, InFixed(sizeof(epoll_event))}},
    {SYS_pselect6,
     "pselect6",
     6,
     {kI, FdSet(0), FdSet(0), FdSet(0), kTimespec, InFixed(kMaskPair)}},
    {SYS_ppoll, "ppoll", 5, {kPollFds, kI, kTimespec, kI, kI}},
    {SYS_epoll_pwait, "epoll_pwait", 6, {kFd, kEvents, kI, kI, kI, kI}},
    {SYS_accept4, "accept4", 4, {kFd, OutBySize(2), kLen, kI}},
    {SYS_epoll_create1, "epoll_create1", 1, {kI}},
    {SYS_dup3, "dup3", 3, {kFd, kI, kI}},
    {SYS_pipe2, "pipe2", 2, {OutFixed(8), kI}},
    {SYS_preadv, "preadv", 5, {kFd, Iov(ArgKind::kOutIov, 2), kI, kI, kI}},
    {SYS_pwritev, "pwritev", 5, {kFd, Iov(ArgKind::kInIov, 2), kI, kI, kI}},
    {SYS_recvmmsg,
     "recvmmsg",
     5,
     {kFd, Msgs(ArgKind::kOutMsgs, 2), kI, kI, InOutFixed(sizeof(timespec))}},
    {SYS_sendmmsg, "sendmmsg", 4, {kFd, Msgs(ArgKind::kInMsgs, 2), kI, kI}},
    {kSysHostSocket, "host_socket", 3, {kI, kI, kI}},
    {kSysHostConnect, "host_connect", 5, {kFd, In(2), kSz, kI, kI}},
    {kSysHostConnectAbandon, "host_connect_abandon", 1, {kFd}},
    {kSysHostRelease, "host_release", 1, {kFd}},
    {kSysHostProve, "host_prove", 1, {kFd}},
    {kSysQuery, "query", 4, {kI, Out(2), kSz, kI}},
    {kSysHalt, "halt", 0, {}},
    {kSysTrace, "trace", 2, {In(1), kSz}},
    {kSysHostSendBuffer, "host_send_buffer", 1, {kFd}},
    {kSysHostConnectFill, "host_connect_fill", 2, {kFd, kI}},
    {kSysHostUrgent, "host_urgent", 1, {kFd}},
});

static_assert(std::ranges::is_sorted(kTable, {}, &SyscallSpec::number));

constexpr uint32_t kLinuxCalls = 512;
constexpr uint32_t kPrivateCalls = 16;

// Number to row + 1, 0 for none; private calls behind Linux's.
constexpr auto kIndex = [] {
  std::array<uint8_t, kLinuxCalls + kPrivateCalls> index{};
  for (size_t i = 0; i < kTable.size(); ++i) {
    const uint32_t n = kTable[i].number;
    index[n < kPrivateCallBase ? n : n - kPrivateCallBase + kLinuxCalls] =
        static_cast<uint8_t>(i + 1);
  }
  return index;
}();

}  // namespace

std::span<const SyscallSpec> AllSyscalls() { return kTable; }

const SyscallSpec* FindSyscall(uint32_t number) {
  uint32_t slot = number;
  if (number >= kPrivateCallBase) {
    if (number - kPrivateCallBase >= kPrivateCalls) return nullptr;
    slot = number - kPrivateCallBase + kLinuxCalls;
  } else if (number >= kLinuxCalls) {
    return nullptr;
  }
  const uint8_t row = kIndex[slot];
  return row == 0 ? nullptr : &kTable[row - 1];
}

}  // namespace rump
