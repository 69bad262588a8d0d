#ifndef RUMPCLIENT_CORE_CALL_H_
#define RUMPCLIENT_CORE_CALL_H_

#include <stddef.h>
#include <stdint.h>

#include "protocol/frame.h"

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
  // Whether the request left, or may have.
  bool sent = false;
  // Whether a handler that ends the call has run meanwhile; the answer may be from before that.
  bool interrupted = false;
  // The outcome, once Connection::Issue returned 0.
  int error = 0;  // errno of the call, 0 for success
  uint64_t retval[2] = {};
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_CALL_H_
