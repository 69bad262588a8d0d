#include <errno.h>
#include <fcntl.h>
#include <resolv.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "hijack/calls.h"
#include "hijack/hijacked_fd.h"
#include "hijack/session.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// More nameservers than libc asks have room.
constexpr size_t kMaxConfig = 1024;

bool IsResolverConfig(const char* path) {
  constexpr char kPath[] = _PATH_RESCONF;
  // Not memcmp(3): the path may end at the end of its page.
  for (size_t i = 0; i < sizeof kPath; ++i) {
    if (path[i] != kPath[i]) return false;
  }
  return true;
}

// The server's resolv.conf(5) as a file to read from its start: its descriptor, or negative if the
// server has none.
long OpenConfig(int flags, client::SignalSet mask) {
  char config[kMaxConfig];
  client::Call call;
  call.number = kSysQuery;
  call.nargs = 4;
  call.args[0] = static_cast<uint64_t>(QueryKind::kResolverConfig);
  call.args[1] = ToSlot(&config[0]);
  call.args[2] = sizeof config;
  if (session.Issue(&call, mask) != 0 || call.error != 0) return -ENOENT;
  const auto size = static_cast<long>(call.retval[0]);
  if (size <= 0 || size > long{sizeof config}) return -ENOENT;
  const int memfd_flags = (flags & O_CLOEXEC) != 0 ? MFD_CLOEXEC : 0;
  const long fd = RawSyscall(SYS_memfd_create, "resolv.conf", memfd_flags);
  if (fd < 0) return fd;
  if (RawSyscall(SYS_pwrite64, fd, config, size, 0) == size) return fd;
  RawSyscall(SYS_close, fd);
  return -ENOSPC;
}

}  // namespace

// Whoever reads /etc/resolv.conf is about to resolve names over the server's network, and finds the
// server's nameservers there.
Outcome CallOpenat(const Args& args) {
  const int flags = args.get<int>(2);
  if ((flags & ~O_CLOEXEC) != O_RDONLY || !HijacksInternet() || !MayAsk()) return kPass;
  // The host's file first: after that the path is known to be readable.
  const long fd = RawSyscall(SYS_openat, args.fd(), args.slot[1], flags, args.slot[3]);
  if (fd == -EFAULT || !IsResolverConfig(args.get<const char*>(1))) return Done(fd);
  const client::SignalBlock block;
  const long config = OpenConfig(flags, block.before());
  if (config < 0) return Done(fd);
  if (fd < 0) return Done(config);
  // Under the number that the program expects, the lowest.
  RawSyscall(SYS_dup3, config, fd, flags & O_CLOEXEC);
  RawSyscall(SYS_close, config);
  return Done(fd);
}

}  // namespace rump::hijack
