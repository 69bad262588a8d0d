// System calls that wait for several files at once.
#include <poll.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "protocol/syscalls.h"
#include "sp_server/kernel/call_memory.h"
#include "sp_server/kernel/fd_table.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/syscalls.h"
#include "sp_server/kernel/time_args.h"

namespace rump {
namespace {

// Bytes of the kernel's sigset_t, which calls with a mask have to name.
constexpr uint64_t kSigsetSize = 8;
// What a call holds for each file that it waits for.
constexpr size_t kWatchBytes = sizeof(pollfd) + sizeof(PolledFile) + AnyReadiness::kBytesPerFile;

// Looks at `files`, waits, looks again. Returns how many are ready, 0 when the deadline has come.
SyscallTask PollFiles(CallContext& context, std::span<PolledFile> files, Deadline deadline) {
  for (;;) {
    const Errno room = co_await OutputRoom(context, context.kernel().loop());
    if (!room.ok()) co_return room;
    if (const size_t ready = LookAt(files); ready > 0) co_return uint64_t{ready};
    const bool again = co_await AnyReadiness(context, context.kernel().loop(), files, deadline);
    if (again) continue;
    if (const size_t ready = LookAt(files); ready > 0) co_return uint64_t{ready};
    if (context.interrupted()) co_return Errno(EINTR);
    co_return uint64_t{0};
  }
}

SyscallTask PollDescriptors(CallContext& context, Deadline deadline) {
  const uint64_t count = context.arg(1);
  if (count > static_cast<uint64_t>(context.process().fds.max_fds())) co_return Errno(EINVAL);
  CallMemory memory(context.process());
  if (!memory.Take(count * kWatchBytes)) co_return Errno(ENOMEM);
  std::vector<pollfd> fds(count);
  const Errno copied =
      co_await CopyInBytes(context, context.arg(0), std::as_writable_bytes(std::span(fds)));
  if (!copied.ok()) co_return copied;
  std::vector<PolledFile> files(count);
  for (size_t i = 0; i < count; ++i) {
    if (fds[i].fd < 0) continue;
    Result<std::shared_ptr<File>> file = context.process().fds.Get(fds[i].fd);
    if (!file.ok()) {
      files[i].revents = POLLNVAL;
      continue;
    }
    files[i].file = *std::move(file);
    files[i].events = static_cast<uint16_t>(fds[i].events) | POLLERR | POLLHUP;
  }
  const Result<uint64_t> ready = co_await PollFiles(context, files, deadline);
  if (!ready.ok()) co_return ready.error();
  for (size_t i = 0; i < count; ++i) fds[i].revents = static_cast<int16_t>(files[i].revents);
  context.call().CopyOut(context.arg(0), std::as_bytes(std::span(fds)));
  co_return *ready;
}

// The deadline behind the timespec at `addr`; kNever for address 0.
Task<Errno> CopyInDeadline(CallContext& context, uint64_t addr, Deadline* deadline) {
  *deadline = kNever;
  if (addr == 0) co_return kOk;
  ClientTimespec timeout;
  const Errno copied = co_await CopyInObject(context, addr, &timeout);
  if (!copied.ok()) co_return copied;
  if (!timeout.valid()) co_return Errno(EINVAL);
  *deadline = DeadlineAfter(timeout);
  co_return kOk;
}

// The three sets of select(2): what each asks for, in the kernel's words of 64 descriptors.
constexpr size_t kSets = 3;
constexpr size_t kWordBits = 64;
constexpr std::array<uint32_t, kSets> kSetEvents = {
    POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR,
    POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR,
    POLLPRI,
};

// The sets are arguments 1 to 3.
SyscallTask SelectDescriptors(CallContext& context, Deadline deadline) {
  if (context.int_arg(0) < 0) co_return Errno(EINVAL);
  const int count = std::min(context.int_arg(0), context.process().fds.max_fds());
  std::array<std::vector<uint64_t>, kSets> sets;
  for (size_t set = 0; set < kSets; ++set) {
    sets[set].resize(FdSetSize(count) / sizeof(uint64_t));
    if (context.arg(1 + set) == 0) continue;
    const Errno copied = co_await CopyInBytes(context, context.arg(1 + set),
                                              std::as_writable_bytes(std::span(sets[set])));
    if (!copied.ok()) co_return copied;
  }
  size_t named = 0;
  for (size_t i = 0; i < sets[0].size(); ++i) {
    named += std::popcount(sets[0][i] | sets[1][i] | sets[2][i]);
  }
  CallMemory memory(context.process());
  if (!memory.Take(named * kWatchBytes)) co_return Errno(ENOMEM);
  std::vector<PolledFile> files;
  std::vector<int> numbers;
  for (int fd = 0; fd < count; ++fd) {
    uint32_t events = 0;
    for (size_t set = 0; set < kSets; ++set) {
      if ((sets[set][fd / kWordBits] >> (fd % kWordBits) & 1) != 0) events |= kSetEvents[set];
    }
    if (events == 0) continue;
    Result<std::shared_ptr<File>> file = context.process().fds.Get(fd);
    if (!file.ok()) co_return file.error();
    files.push_back({.file = *std::move(file), .events = events, .revents = 0});
    numbers.push_back(fd);
  }
  const Result<uint64_t> polled = co_await PollFiles(context, files, deadline);
  if (!polled.ok()) co_return polled.error();
  std::array<std::vector<uint64_t>, kSets> ready;
  uint64_t bits = 0;
  for (size_t set = 0; set < kSets; ++set) {
    ready[set].resize(sets[set].size());
    for (size_t i = 0; i < files.size(); ++i) {
      const size_t word = numbers[i] / kWordBits;
      const uint64_t bit = uint64_t{1} << (numbers[i] % kWordBits);
      if ((sets[set][word] & bit) == 0 || (files[i].revents & kSetEvents[set]) == 0) continue;
      ready[set][word] |= bit;
      ++bits;
    }
    if (context.arg(1 + set) == 0) continue;
    context.call().CopyOut(context.arg(1 + set), std::as_bytes(std::span(ready[set])));
  }
  co_return bits;
}

}  // namespace

SyscallTask SysPoll(CallContext& context) {
  return PollDescriptors(context, DeadlineAfterMilliseconds(context.int_arg(2)));
}

SyscallTask SysPpoll(CallContext& context) {
  Deadline deadline;
  const Errno copied = co_await CopyInDeadline(context, context.arg(2), &deadline);
  if (!copied.ok()) co_return copied;
  if (context.arg(3) != 0 && context.arg(4) != kSigsetSize) co_return Errno(EINVAL);
  co_return co_await PollDescriptors(context, deadline);
}

SyscallTask SysSelect(CallContext& context) {
  constexpr int64_t kMicrosecondsPerSecond = 1'000'000;
  constexpr int64_t kNanosecondsPerMicrosecond = 1000;
  struct ClientTimeval {
    int64_t seconds = 0;
    int64_t microseconds = 0;
  };
  Deadline deadline = kNever;
  if (context.arg(4) != 0) {
    ClientTimeval timeout;
    const Errno copied = co_await CopyInObject(context, context.arg(4), &timeout);
    if (!copied.ok()) co_return copied;
    // Linux takes more than a second of microseconds here.
    int64_t seconds = 0;
    const bool overflow = __builtin_add_overflow(
        timeout.seconds, timeout.microseconds / kMicrosecondsPerSecond, &seconds);
    const ClientTimespec duration{
        .seconds = seconds,
        .nanoseconds = timeout.microseconds % kMicrosecondsPerSecond * kNanosecondsPerMicrosecond};
    if (overflow || !duration.valid()) co_return Errno(EINVAL);
    deadline = DeadlineAfter(duration);
  }
  const Result<uint64_t> ready = co_await SelectDescriptors(context, deadline);
  // Linux tells select(2)'s callers what is left; those of ppoll(2) and pselect(2) pass a constant.
  if (deadline != kNever) {
    const ClientTimespec left = LeftUntil(deadline);
    CopyOutObject(context, context.arg(4),
                  ClientTimeval{.seconds = left.seconds,
                                .microseconds = left.nanoseconds / kNanosecondsPerMicrosecond});
  }
  co_return ready;
}

SyscallTask SysPselect6(CallContext& context) {
  if (context.arg(5) != 0) {
    struct {
      uint64_t mask = 0;
      uint64_t size = 0;
    } pair;
    const Errno copied = co_await CopyInObject(context, context.arg(5), &pair);
    if (!copied.ok()) co_return copied;
    if (pair.mask != 0 && pair.size != kSigsetSize) co_return Errno(EINVAL);
  }
  Deadline deadline;
  const Errno copied = co_await CopyInDeadline(context, context.arg(4), &deadline);
  if (!copied.ok()) co_return copied;
  co_return co_await SelectDescriptors(context, deadline);
}

}  // namespace rump
