// A request that waits for its response.
#ifndef RUMPCLIENT_CORE_PENDING_H_
#define RUMPCLIENT_CORE_PENDING_H_

#include <limits.h>
#include <linux/time_types.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <atomic>

#include "protocol/frame.h"
#include "rumpclient/core/call.h"
#include "rumpclient/core/call_memory.h"
#include "rumpclient/core/connection.h"
#include "rumpclient/core/interruption.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::client {

// Lives on the requester's stack, in the connection's list from before it is sent until the reader
// completes it or its thread is cancelled.
struct Connection::Pending {
  Pending(Connection* owner, FrameType request_type, Interruption* how)
      : connection(owner), type(request_type), interruption(how), thread(ThreadPointer()) {}

  Connection* const connection;
  const FrameType type;
  Interruption* const interruption;  // nullptr: signals stay blocked
  const void* const thread;          // the owner
  uint64_t reqno = 0;
  // Of a system call; the memory only if the server's ABI is one whose table we have.
  Call* call = nullptr;
  CallMemory* memory = nullptr;
  // Of a PREFORK.
  PreforkCookie* cookie = nullptr;
  // Where a descriptor goes that comes with the response; nullptr: none is wanted.
  int* received_fd = nullptr;

  SignalSet raised = 0;      // by the server, for when the call returns
  bool interrupted = false;  // a handler that ends the call has run
  bool faulted = false;      // a copy met memory that is not there
  bool served = false;       // the reader uses what is above
  long result = 0;
  bool done = false;
  bool yielded = false;   // has looked whether its answer comes without sleeping
  bool yielding = false;  // the same, at the moment
  bool asleep = false;    // on `wake`
  bool patient = false;   // has waited for so long that it sleeps with signals let in
  bool expected = false;  // by send_lock_, since it was woken
  bool watching = false;  // waits for a frame with signals let in
  std::atomic<uint32_t> wake{0};
  Pending* next = nullptr;

  // The owner's, for a wait with signals let in.
  long wait_result = 0;

  // Arguments of that wait. A handler's call that meanwhile took frames from the socket spoils
  // them, since the kernel reads them anew when it restarts the wait.
  msghdr peek = {};
  iovec peek_part = {};
  char peeked = 0;
  pollfd readable = {};
  __kernel_timespec patience = {};

  bool TimedOut() const { return interruption != nullptr && interruption->deadline.Passed(); }

  void PrepareWait(int fd) {
    peek_part = {&peeked, sizeof peeked};
    peek = {};
    peek.msg_iov = &peek_part;
    peek.msg_iovlen = 1;
    readable = {fd, POLLIN, 0};
    patience = {kVeryLongSeconds, 0};
  }

  // A wait that starts or is restarted from now on returns at once.
  void Spoil() {
    peek.msg_iovlen = kTooManyParts;
    patience = {0, 0};
    // Before a restart ppoll writes into the time, but not here.
    readable.fd = kNoSuchFd;
  }

 private:
  static constexpr size_t kTooManyParts = 1025;  // UIO_MAXIOV is 1024
  static constexpr int kNoSuchFd = INT_MAX;      // polls as POLLNVAL, -1 would be passed over
  static constexpr long kVeryLongSeconds = 1L << 30;
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_PENDING_H_
