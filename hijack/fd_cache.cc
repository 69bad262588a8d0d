#include "hijack/fd_cache.h"

namespace rump::hijack {

constinit FdCache fd_cache;

void FdCache::Learn(int fd, uint8_t stamp, FdKind kind) {
  if (!InRange(fd)) return;
  const auto state = static_cast<uint8_t>((stamp & ~kKindMask) | static_cast<uint8_t>(kind));
  if (states_[fd].compare_exchange_strong(stamp, state, std::memory_order_relaxed)) {
    RaiseHighest(fd);
  }
}

void FdCache::Set(int fd, FdKind kind) {
  if (!InRange(fd)) return;
  // Not one atomic step, which would be most of what close(2) costs: whoever learns in between is
  // overruled, and of two lives at a time, whose order nobody knows, one is enough to count.
  const auto next =
      static_cast<uint8_t>(((Load(fd) & ~kKindMask) + kOneLife) | static_cast<uint8_t>(kind));
  states_[fd].store(next, std::memory_order_relaxed);
  RaiseHighest(fd);
}

void FdCache::Forget(int fd) {
  // A page of the table that nothing was ever stored in must not be touched.
  if (!InRange(fd) || fd > highest()) return;
  Set(fd, FdKind::kUnknown);
}

void FdCache::ForgetRange(unsigned first, unsigned last) {
  const int top = highest();
  for (int64_t fd = first; fd <= top && fd <= int64_t{last}; ++fd) Forget(static_cast<int>(fd));
}

void FdCache::RaiseHighest(int fd) {
  int end = known_end_.load(std::memory_order_relaxed);
  while (end <= fd && !known_end_.compare_exchange_weak(end, fd + 1, std::memory_order_relaxed)) {
  }
}

}  // namespace rump::hijack
