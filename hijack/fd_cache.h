// What the library believes of each file descriptor number.
#ifndef HIJACK_FD_CACHE_H_
#define HIJACK_FD_CACHE_H_

#include <stdint.h>

#include <atomic>

namespace rump::hijack {

enum class FdKind : uint8_t {
  kUnknown,
  kHost,       // not ours
  kConnected,  // ours: a connected stream, whose bytes are the host's business
  kWriteShut,  // ours: the same, which the program itself has shut down for writing
  kFresh,      // ours: a stream that is neither connected nor listening, as far as we know
  kListener,   // ours: a stream that listens
  kDatagram,   // ours: a datagram or raw socket
  kReadShut,   // ours: a connected stream, SHUT_RD of which is none of its peer's business
  kUntold,     // ours: a connected stream, which connect(2) has still to tell of
};

// Whether a descriptor of ours is a connected stream.
constexpr bool IsConnected(FdKind kind) {
  return kind == FdKind::kConnected || kind == FdKind::kWriteShut || kind == FdKind::kReadShut ||
         kind == FdKind::kUntold;
}

// One byte for each of the first 65536 numbers; higher ones are always unknown. Only kHost,
// kConnected and kWriteShut are ever trusted as they stand, and only for moving bytes: whoever acts
// on another kind asks the descriptor first. Numbers that may have changed their meaning are
// forgotten, never guessed at. The host's are closed without a word to us: whatever gives the
// number to a descriptor of ours after that says so here.
//
// Threads need no lock. A byte holds, beside the kind, a count of how often it was forgotten, so
// that a late answer about a number's former life is not believed.
class FdCache {
 public:
  static constexpr int kSlots = 65536;

  constexpr FdCache() = default;
  FdCache(const FdCache&) = delete;
  FdCache& operator=(const FdCache&) = delete;

  FdKind Get(int fd) const { return KindOf(Load(fd)); }
  bool IsHost(int fd) const { return Get(fd) == FdKind::kHost; }
  // Whether reading without addresses is the host's business.
  bool BytesPass(int fd) const {
    const auto kind = static_cast<unsigned>(Get(fd));
    constexpr auto kFirst = static_cast<unsigned>(FdKind::kHost);
    return kind - kFirst <= static_cast<unsigned>(FdKind::kWriteShut) - kFirst;
  }

  // A stamp of `fd` for Learn, to be taken before looking at the descriptor.
  uint8_t Stamp(int fd) const { return Load(fd); }
  // `fd` is of `kind`, unless it was forgotten or set since `stamp` was taken.
  void Learn(int fd, uint8_t stamp, FdKind kind);
  // `fd` is of `kind`: the caller has just made it, or changed it.
  void Set(int fd, FdKind kind);
  void Forget(int fd);
  // Forgets `first` to `last`, both included.
  void ForgetRange(unsigned first, unsigned last);
  // No number above this one is known.
  int highest() const { return known_end_.load(std::memory_order_relaxed) - 1; }

 private:
  static constexpr uint8_t kKindMask = 15;
  static constexpr uint8_t kOneLife = 16;

  static FdKind KindOf(uint8_t state) { return static_cast<FdKind>(state & kKindMask); }
  static bool InRange(int fd) { return static_cast<unsigned>(fd) < unsigned{kSlots}; }
  uint8_t Load(int fd) const {
    return InRange(fd) ? states_[fd].load(std::memory_order_relaxed) : 0;
  }
  void RaiseHighest(int fd);

  std::atomic<uint8_t> states_[kSlots] = {};
  std::atomic<int> known_end_{0};  // all zeros, so that the table takes no space in the file
};

// The process's one.
extern FdCache fd_cache;

}  // namespace rump::hijack

#endif  // HIJACK_FD_CACHE_H_
