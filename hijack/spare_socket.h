// A stream socket that has come before the program asks for it.
#ifndef HIJACK_SPARE_SOCKET_H_
#define HIJACK_SPARE_SOCKET_H_

#include <atomic>

#include "hijack/process_page.h"

namespace rump::hijack {

// The server sends one with its answer to a connect, if the library says that it wants one; it
// waits on a descriptor that the program does not know of. Only the process whose connection it
// came by may use it: a copy in the child of a fork would keep a connection open that is made of it
// later, and is to be dropped.
//
// All may be called from everywhere. Where Take cannot be served at once it gives none, and the
// caller asks the server.
class SpareSocket {
 public:
  constexpr SpareSocket() = default;
  SpareSocket(const SpareSocket&) = delete;
  SpareSocket& operator=(const SpareSocket&) = delete;

  // The spare, if it is of `domain`, close-on-exec if `cloexec`, and remembered as a fresh socket;
  // -EMFILE: the process has no room for it; -EAGAIN: there is none. There is none either once its
  // server is gone.
  long Take(int domain, bool cloexec);

  // Counts a socket of `domain` that the server had to be asked for; not on a parent's memory.
  void CountMiss(int domain);
  // The domain of which another one would be of use, or 0. After another than 0, Keep has to be
  // called soon, with all signals blocked until then.
  int Want();
  // Takes over `fd`, a socket of `domain`; -1: there is none.
  void Keep(int fd, int domain);
  // Closes the spare, also one that a fork has left here.
  void Drop();

  // As long as it lives, no spare comes and none goes, so that a fork leaves no copy of one that
  // the child does not know of. Waits until that can be; but not for who never ends.
  class Hold {
   public:
    explicit Hold(SpareSocket* spare);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    // The spare, if there is one, has lost its number.
    void Lose();

   private:
    SpareSocket* const spare_;
    SparePage::State becomes_;
  };

  // The spare's descriptor, or -1.
  int fd() const { return fd_.load(std::memory_order_relaxed); }
  constexpr const std::atomic<int>* fd_address() const { return &fd_; }

 private:
  // Closes the spare, whose page is in use by the caller.
  void Close();

  // Outside of the process's page: the child of a fork has to know it as well.
  std::atomic<int> fd_{-1};
};

}  // namespace rump::hijack

#endif  // HIJACK_SPARE_SOCKET_H_
