// System calls about the machine: its name and its time.
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include <algorithm>
#include <string>

#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/syscalls.h"
#include "sp_server/kernel/time_args.h"

namespace rump {
namespace {

// A name's bytes in struct utsname, without the NUL.
constexpr uint64_t kMaxName = sizeof(utsname::nodename) - 1;

template <size_t size>
void SetField(char (&field)[size], std::string_view value) {
  memset(field, 0, size);
  value.copy(field, size - 1);
}

// Arguments `request_arg` and the one behind it are the time to sleep and, unless 0, where to put
// what was left of it.
SyscallTask SleepFor(CallContext& context, size_t request_arg) {
  ClientTimespec request;
  const Errno copied = co_await CopyInObject(context, context.arg(request_arg), &request);
  if (!copied.ok()) co_return copied;
  if (!request.valid()) co_return Errno(EINVAL);
  const Deadline deadline = DeadlineAfter(request);
  const Errno slept = co_await Sleep(context, context.kernel().loop(), deadline);
  if (slept.ok()) co_return uint64_t{0};
  if (context.arg(request_arg + 1) != 0) {
    CopyOutObject(context, context.arg(request_arg + 1),
                  deadline == kNever ? request : LeftUntil(deadline));
  }
  co_return slept;
}

}  // namespace

SyscallTask SysUname(CallContext& context) {
  // The release is the one of the banner, since both name the ABI.
  utsname name{};
  if (uname(&name) != 0) co_return Errno(EIO);
  SetField(name.sysname, "Linux");
  SetField(name.nodename, context.kernel().hostname());
  SetField(name.version, "rump_server");
  SetField(name.machine, "x86_64");
  SetField(name.domainname, "(none)");
  CopyOutObject(context, context.arg(0), name);
  co_return uint64_t{0};
}

SyscallTask SysSethostname(CallContext& context) {
  const uint64_t size = context.arg(1);
  if (size > kMaxName) co_return Errno(EINVAL);
  std::string hostname(size, '\0');
  const Errno copied =
      co_await CopyInBytes(context, context.arg(0), std::as_writable_bytes(std::span(hostname)));
  if (!copied.ok()) co_return copied;
  context.kernel().set_hostname(std::move(hostname));
  co_return uint64_t{0};
}

SyscallTask SysNanosleep(CallContext& context) { return SleepFor(context, 0); }

SyscallTask SysClockNanosleep(CallContext& context) {
  const int clock = context.int_arg(0);
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME) {
    co_return Errno(EINVAL);
  }
  // The client's clocks may be another machine's: a point of theirs means nothing here.
  if (context.int_arg(1) != 0) co_return Errno(EOPNOTSUPP);
  co_return co_await SleepFor(context, 2);
}

}  // namespace rump
