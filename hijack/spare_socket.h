// A stream socket that has come before the program asks for it.
#ifndef HIJACK_SPARE_SOCKET_H_
#define HIJACK_SPARE_SOCKET_H_

#include <atomic>

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
  // The domain of which another one would be of use, 0 for none.
  int Wanted() const;
  // Takes over `fd`, a socket of `domain`; closes it if there is a spare meanwhile.
  void Keep(int fd, int domain);
  // Closes the spare, also one that a fork has left here.
  void Drop();

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
