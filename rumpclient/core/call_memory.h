// What memory a system call in flight lets the server read and write.
#ifndef RUMPCLIENT_CORE_CALL_MEMORY_H_
#define RUMPCLIENT_CORE_CALL_MEMORY_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <span>

#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/call.h"

namespace rump::client {

enum class Access { kRead, kWrite };  // by the server

// Walks the call's row in the table of system calls. What the row's sizes are found in (socklen_t,
// msghdr, ifconf) is copied at the first look, before the server can have written to it: it cannot
// widen its own rights by a COPYOUT. Of mmsghdr arrays, which may be long, there is no copy: the
// server may write each header's lengths and flags only, and what a header and those before it name
// is closed to it from then on. A call without a row has no memory.
class CallMemory {
 public:
  // `call` must outlive this object.
  explicit CallMemory(const Call& call) : call_(call), row_(FindSyscall(call.number)) {}

  // Whether one argument's memory holds all of [addr, addr + len). Bad pointers in an iovec array
  // or msghdr make it false, never a fault.
  bool Contains(uint64_t addr, uint64_t len, Access access);

  // Whether the call has memory at all.
  bool any() const;
  // What the call is known to read, as much of it as a request carries at most; 0 ranges or more,
  // at most ranges.size(). Looks at the program's memory only for what is named there in turn.
  size_t ListReads(std::span<CopyPayload> ranges);

  // The server may write to a msghdr for its lengths and flags, but must not leave other pointers
  // in it for the program's next call. To be called when the call is over.
  void RestoreMessagePointers();

 private:
  static constexpr size_t kMaxArgs = 6;
  class ReadList;

  void Capture();
  void CaptureInterfaceList(uint64_t request, uint64_t header);
  bool InterfaceListContains(uint64_t header, uint64_t addr, uint64_t len, bool read) const;
  bool ArgContains(size_t arg, uint64_t addr, uint64_t len, Access access);
  bool MessageContains(uint64_t header, bool receives, uint64_t addr, uint64_t len, Access access);
  bool MessagesContain(uint64_t array, uint64_t count, bool receives, uint64_t addr, uint64_t len,
                       Access access);

  const Call& call_;
  const SyscallSpec* const row_;
  bool captured_ = false;
  bool message_readable_ = false;
  bool message_written_ = false;
  uint64_t message_addr_ = 0;
  msghdr message_ = {};
  // What the struct ifconf of SIOCGIFCONF names.
  uint64_t list_addr_ = 0;
  uint64_t list_size_ = 0;
  // Of a mmsghdr array: the server has written into the headers before this one.
  uint64_t messages_done_ = 0;
  socklen_t sizes_[kMaxArgs] = {};  // by argument, of those that are kOutSize
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_CALL_MEMORY_H_
