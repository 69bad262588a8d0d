// One connection to a rump kernel server, which is one process there: the client half of RUMPSP.
//
// Runs inside other people's programs, in signal handlers and after fork: it issues its own system
// calls, calls nothing in libc, allocates nothing, and takes no lock but a futex of its own. An
// object is constant-initialised and needs no destructor.
//
// Any number of threads may have calls in flight. One of them at a time reads the socket and serves
// COPYIN, COPYOUT and RAISE for all; the others sleep on a futex until they are handed their answer
// or the reader's role.
#ifndef RUMPCLIENT_CORE_CONNECTION_H_
#define RUMPCLIENT_CORE_CONNECTION_H_

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <string_view>

#include "protocol/banner.h"
#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "protocol/url.h"

namespace rump::client {

// A system call in flight. Lives on the caller's stack.
struct Call {
  uint32_t number = 0;
  size_t nargs = 0;
  uint64_t args[kMaxSyscallArgs] = {};
  // A descriptor to go with the request ("hostfd"), or -1. Stays the caller's.
  int send_fd = -1;
  // Whether the response may bring a descriptor, and the one it brought (close-on-exec; the
  // caller's), or -1.
  bool wants_fd = false;
  int received_fd = -1;
  // The outcome, once Connection::Issue returned 0.
  int error = 0;  // errno of the call, 0 for success
  uint64_t retval[2] = {};
};

class Connection {
 public:
  constexpr Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Connects to `endpoint` and reads the banner. The descriptor is close-on-exec and moved to a
  // high number. 0, or -errno: connect(2)'s, EPROTONOSUPPORT for a banner of another major version,
  // EPROTO for no banner at all. Not thread-safe against other functions of the same object.
  long Open(const Endpoint& endpoint);

  // The handshakes, each after Open: 0 or -errno (the wire's error or the handshake's own).
  long Guest(std::string_view command);
  // Claims the process that `cookie` names; with `cancel` drops it, and the connection is closed.
  long Fork(const PreforkCookie& cookie, bool cancel);
  // Renames the process after an exec; drains its other calls.
  long Exec(std::string_view command);

  // Forks the process in the server at this moment: *cookie claims the copy. 0 or -errno.
  long Prefork(PreforkCookie* cookie);

  // Sends `call` and waits for its answer, serving the server's requests meanwhile. 0: call->error
  // and call->retval are valid. -ENOTCONN: the connection is lost or was never open.
  // The server can read and write only memory that some call in flight was given, by the table of
  // system calls.
  long Issue(Call* call);

  // Closes the descriptor and forgets all state, calls of other threads included. For the child of
  // a fork, where those threads do not exist.
  void Abandon();

  // True from Open until the connection is lost.
  bool open() const { return fd_.load(std::memory_order_relaxed) >= 0; }
  // The descriptor, -1 if not open: for callers that must keep it from being closed.
  int fd() const { return fd_.load(std::memory_order_relaxed); }
  // Bits of Extension that the server announced.
  uint32_t extensions() const { return extensions_; }

 private:
  // (The implementer fills this in.)
  std::atomic<int> fd_{-1};
  uint32_t extensions_ = 0;
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_CONNECTION_H_
