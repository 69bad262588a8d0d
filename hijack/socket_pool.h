// Stream sockets that the server has made before the program asks for them.
#ifndef HIJACK_SOCKET_POOL_H_
#define HIJACK_SOCKET_POOL_H_

#include <atomic>

namespace rump::hijack {

// They come over a descriptor of its own, a record each, which the kernel keeps until somebody
// takes it: the pool holds none itself. Only the process whose connection it came by may take them:
// what the page of a child says of a pool is that there is none.
//
// Take may be called from everywhere. Where it cannot be served at once it gives none, and the
// caller asks the server.
class SocketPool {
 public:
  constexpr SocketPool() = default;
  SocketPool(const SocketPool&) = delete;
  SocketPool& operator=(const SocketPool&) = delete;

  // A new socket of `domain`, close-on-exec if `cloexec`; -EMFILE: the process has no room for it;
  // -EAGAIN: the pool has none. It has none either once the server is gone.
  long Take(int domain, bool cloexec);

  // Counts a socket of `domain` that the server had to be asked for. Whether a pool would pay: one
  // that has none is worth a call to Open.
  bool CountMiss(int domain);
  // Takes over `fd`, over which sockets of `domain` come. Nothing happens if there is a pool.
  void Open(int fd, int domain);
  // Closes the descriptor, also one that a fork has left here.
  void Close();

  // The pool's descriptor, which the program does not know of, or -1.
  int fd() const { return fd_.load(std::memory_order_relaxed); }
  constexpr const std::atomic<int>* fd_address() const { return &fd_; }

 private:
  std::atomic<int> fd_{-1};
  std::atomic<int> domain_{0};
};

}  // namespace rump::hijack

#endif  // HIJACK_SOCKET_POOL_H_
