#include "hijack/spare_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>

#include "hijack/fd_cache.h"
#include "hijack/process_page.h"
#include "rumpclient/core/connection.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;
using State = SparePage::State;

// Programs that make fewer sockets do without.
constexpr int kMissesWorthASpare = 2;
// How often Hold waits for a thread that uses the spare, which is a matter of some system calls, or
// of an answer of the server's. One that was cancelled or left by siglongjmp(3) there never ends.
constexpr int kMaxLooks = 10'000;

// Makes the spare, if it is as `from` says, the caller's alone until it says what has become of it.
bool Use(State from) {
  return process_page().spare.state.compare_exchange_strong(from, State::kInUse,
                                                            std::memory_order_acquire);
}

void Leave(State as) { process_page().spare.state.store(as, std::memory_order_release); }

// Whether the server has closed its end.
bool IsLost(int fd) {
  pollfd p = {fd, 0, 0};
  return RawSyscall(SYS_poll, &p, 1, 0) != 0;
}

}  // namespace

long SpareSocket::Take(int domain, bool cloexec) {
  SparePage& page = process_page().spare;
  if (page.state.load(std::memory_order_relaxed) != State::kThere) return -EAGAIN;
  if (!OwnMemory() || !Use(State::kThere)) return -EAGAIN;
  const bool again = page.wanted.exchange(domain, std::memory_order_relaxed) == domain;
  if (page.domain.load(std::memory_order_relaxed) != domain) {
    // Programs that try one domain after the other want the spare next.
    if (again) {
      Close();
    } else {
      Leave(State::kThere);
    }
    return -EAGAIN;
  }
  long socket = -EAGAIN;
  if (!IsLost(fd())) {
    socket = RawSyscall(SYS_fcntl, fd(), cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
  }
  if (socket == -EMFILE) {
    Leave(State::kThere);
    return socket;
  }
  Close();
  if (socket < 0) return -EAGAIN;
  fd_cache.Set(static_cast<int>(socket), FdKind::kFresh);
  return socket;
}

void SpareSocket::CountMiss(int domain) {
  SparePage& page = process_page().spare;
  page.misses.fetch_add(1, std::memory_order_relaxed);
  page.wanted.store(domain, std::memory_order_relaxed);
}

int SpareSocket::Want() {
  const SparePage& page = process_page().spare;
  if (page.state.load(std::memory_order_relaxed) != State::kNone) return 0;
  if (page.misses.load(std::memory_order_relaxed) < kMissesWorthASpare) return 0;
  if (!OwnMemory() || !Use(State::kNone)) return 0;
  return page.wanted.load(std::memory_order_relaxed);
}

void SpareSocket::Keep(int fd, int domain) {
  if (fd < 0) return Leave(State::kNone);
  const long high = RawSyscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, client::Connection::kHighFd);
  RawSyscall(SYS_close, fd);
  // One that a fork behind the library's back has left.
  const int inherited = fd_.exchange(static_cast<int>(std::max(high, -1L)));
  if (inherited >= 0) RawSyscall(SYS_close, inherited);
  // Where the limits leave no such number, the program needs those that it has more than a spare.
  if (high < 0) return Leave(State::kNever);
  // Else calls on a number that once was the host's would not be looked at.
  fd_cache.Forget(static_cast<int>(high));
  process_page().spare.domain.store(domain, std::memory_order_relaxed);
  Leave(State::kThere);
}

void SpareSocket::Drop() {
  // A child on its parent's memory has a copy only, which an exec closes.
  if (fd() < 0 || !OwnMemory()) return;
  Hold hold(this);
  const int fd = fd_.exchange(-1, std::memory_order_relaxed);
  if (fd >= 0) RawSyscall(SYS_close, fd);
  hold.Lose();
}

SpareSocket::Hold::Hold(SpareSocket* spare) : spare_(spare), becomes_(State::kNever) {
  std::atomic<State>& state = process_page().spare.state;
  for (int look = 0; look < kMaxLooks; ++look) {
    for (const State was : {State::kThere, State::kNone}) {
      if (!Use(was)) continue;
      becomes_ = was;
      return;
    }
    if (state.load(std::memory_order_relaxed) == State::kNever) return;
    RawSyscall(SYS_sched_yield);
  }
  state.store(State::kNever, std::memory_order_relaxed);
}

SpareSocket::Hold::~Hold() {
  if (becomes_ == State::kNever) return;
  // Not in the child of a fork, whose page says that there is none.
  State held = State::kInUse;
  process_page().spare.state.compare_exchange_strong(held, becomes_, std::memory_order_release);
}

void SpareSocket::Hold::Lose() {
  spare_->fd_.store(-1, std::memory_order_relaxed);
  if (becomes_ == State::kThere) becomes_ = State::kNone;
}

void SpareSocket::Close() {
  // Before the number is free, since another thread may get it at once.
  const int fd = fd_.exchange(-1, std::memory_order_relaxed);
  if (fd >= 0) RawSyscall(SYS_close, fd);
  Leave(State::kNone);
}

}  // namespace rump::hijack
