// The table of system calls: number, name and argument kinds, Linux x86-64. Client stubs, the
// client's check of copy ranges, dispatch in the server and tracing all read this one table.
#ifndef PROTOCOL_SYSCALLS_H_
#define PROTOCOL_SYSCALLS_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <span>
#include <string_view>

#include "protocol/banner.h"

namespace rump {

// Calls of our own, outside Linux's range. Those named host_* belong to the extension "hostfd",
// query, halt and trace to "control". docs/protocol.md describes each.
inline constexpr uint32_t kPrivateCallBase = 0x10000;
enum PrivateCall : uint32_t {
  // host_socket(domain, type, protocol) -> object id; the program's end C comes with the response.
  kSysHostSocket = kPrivateCallBase + 0,
  // host_connect(object, addr, addrlen, flags, spare) -> a HostConnected: never blocks; see
  // HostConnectFlags. If `spare` is a domain of the internet, another TCP socket of it, made in
  // advance, may come with the response: its C.
  kSysHostConnect = kPrivateCallBase + 1,
  // host_connect_abandon(object) -> 1 if the completion byte has been sent, 0 if it never will be.
  kSysHostConnectAbandon = kPrivateCallBase + 2,
  // host_release(object): the caller closed a C; frees the object now if that was the last one.
  kSysHostRelease = kPrivateCallBase + 3,
  // host_prove(object): C comes with the request; the process may use the object from now on.
  kSysHostProve = kPrivateCallBase + 4,
  // query(QueryKind, buf, size, offset) -> bytes of the report copied out from offset, 0 at its
  // end.
  kSysQuery = kPrivateCallBase + 5,
  // halt(): the server stops cleanly after the response.
  kSysHalt = kPrivateCallBase + 6,
  // trace(path, size): the server writes a line per call to the file at the absolute `path` from
  // now
  // on; size 0 ends that.
  kSysTrace = kPrivateCallBase + 7,
  // host_send_buffer(object) -> the bytes that C's SO_SNDBUF is to be set to.
  kSysHostSendBuffer = kPrivateCallBase + 8,
  // host_connect_fill(object, bytes): while it connects in the background, C has sent `bytes` that
  // are none of the stream's, so that it is not writable.
  kSysHostConnectFill = kPrivateCallBase + 9,
  // host_urgent(object): C is about to be sent urgent data.
  kSysHostUrgent = kPrivateCallBase + 10,
};

// The Extension that a call belongs to, 0 for those of Linux.
constexpr uint32_t ExtensionOfCall(uint32_t number) {
  if (number < kPrivateCallBase) return 0;
  if (number <= kSysHostProve || number >= kSysHostSendBuffer) return kExtensionHostFd;
  return kExtensionControl;
}

enum HostConnectFlags : uint64_t {
  // When the connection cannot be decided at once, send one byte on S when it is: 0 or the errno.
  // The call then fails with EINPROGRESS. Without the flag a refusal shows as an error on C.
  kHostConnectNotify = 1,
  // The caller keeps in mind that the program is not told of a connection that stands at once, so
  // that the next host_connect finds it connected.
  kHostConnectUntold = 2,
  // C has been sent a byte that is none of the stream's.
  kHostConnectByte = 4,
};

enum HostConnected : uint64_t {
  kHostConnectedAtOnce = 0,
  kHostConnectedBefore = 1,
  // Not at all: the connection would pass the stack. The call is to be made again with
  // kHostConnectByte.
  kHostConnectNeedsByte = 2,
  // It had no connection, and was asked to end the one that it had: AF_UNSPEC.
  kHostUnconnected = 3,
};

// A socket option of our own, level IPPROTO_TCP: whether the connection that a TCP socket, or a
// listener's sockets, will have may be a direct pair; 0 for programs that need their bytes to pass
// the stack. Read from a connected socket, whether it is one.
inline constexpr int kTcpDirect = 0x7270;

// Reports of a server: for people and as one JSON value, and a resolv.conf(5), empty if the server
// has no nameservers for its clients.
enum class QueryKind : uint64_t {
  kProcesses = 0,
  kProcessesJson = 1,
  kStatistics = 2,
  kStatisticsJson = 3,
  kResolverConfig = 4,
};

// fd arguments from here on name objects of the "hostfd" extension, not entries of the fd table.
inline constexpr uint64_t kFirstObjectId = uint64_t{1} << 32;

// The abstract name (behind its leading NUL) of every C: this prefix, then the object id in hex.
inline constexpr std::string_view kHostNamePrefix = "rump/";

// What a listener's S carries for each new connection, with its C as SCM_RIGHTS.
struct AcceptRecord {
  uint64_t object = 0;
  uint32_t peer_len = 0;
  uint32_t pad = 0;
  unsigned char peer[32] = {};  // sockaddr_in or sockaddr_in6
};
static_assert(sizeof(AcceptRecord) == 48);

enum class ArgKind : uint8_t {
  kInt,         // passed through as it is
  kFd,          // file descriptor or object id
  kSize,        // byte count
  kIn,          // read by the call; size in argument `n`
  kOut,         // written by the call; size in argument `n`
  kInFixed,     // read; `n` bytes
  kOutFixed,    // written; `n` bytes
  kInOutFixed,  // read and written; `n` bytes
  kOutArray,    // written; `size` bytes for each element, whose count is in argument `n`
  kInOutArray,  // the same, read and written
  kFdSet,       // fd_set, read and written; the count of descriptors is in argument `n`
  kIoctl,       // read and written; size in the request number, argument `n`
  kInStr,       // NUL-terminated string
  kOutSize,     // socklen_t that is read and written
  kOutBySize,   // written; its size is what argument `n`, a kOutSize, points to
  kInIov,       // iovec array, what it names is read; count in argument `n`
  kOutIov,      // the same, written
  kInMsg,       // msghdr, what it names is read
  kOutMsg,      // msghdr, what it names is written, as are the header's lengths and flags
  kInMsgs,      // mmsghdr array, what it names is read, and msg_len written; count in argument `n`
  kOutMsgs,     // the same, written as for kOutMsg
};

struct ArgSpec {
  ArgKind kind = ArgKind::kInt;
  uint16_t n = 0;
  uint16_t size = 0;  // of an array's element
};

struct SyscallSpec {
  uint32_t number;
  std::string_view name;
  uint8_t nargs;
  ArgSpec args[6];
};

// Every call that the server knows, ordered by number.
std::span<const SyscallSpec> AllSyscalls();

// The row of `number`, or nullptr. Constant time, safe in a signal handler.
const SyscallSpec* FindSyscall(uint32_t number);

// Bytes of an fd_set of `count` descriptors, which the kernel reads and writes in whole words. As
// select(2), takes a negative int for none.
constexpr uint64_t FdSetSize(uint64_t count) {
  constexpr uint64_t kWordBits = 64;
  const auto bits = static_cast<int32_t>(count);
  return bits <= 0 ? 0 : (static_cast<uint64_t>(bits) + kWordBits - 1) / kWordBits * 8;
}

// Bytes behind the argument of the ioctl(2) `request`, which the call may read and write.
constexpr uint64_t IoctlSize(uint64_t request) {
  // Numbers from before _IOC_SIZE say nothing of it: SIOC* have a struct ifreq at most, FIONREAD,
  // FIONBIO, SIOCOUTQ and their like an int.
  constexpr uint64_t kSocketType = 0x89;
  constexpr uint64_t kIfreqSize = 40;
  constexpr uint64_t kIfconf = 0x8912, kIfconfSize = 16;
  if (request == kIfconf) return kIfconfSize;
  if (const uint64_t size = _IOC_SIZE(request); size != 0) return size;
  if (_IOC_TYPE(request) == kSocketType) return kIfreqSize;
  return _IOC_TYPE(request) == 'T' ? sizeof(int) : 0;
}

}  // namespace rump

#endif  // PROTOCOL_SYSCALLS_H_
