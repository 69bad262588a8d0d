// A system call as a line of text, in the manner of strace(1).
#ifndef SP_SERVER_KERNEL_TRACE_FORMAT_H_
#define SP_SERVER_KERNEL_TRACE_FORMAT_H_

#include <stddef.h>
#include <stdint.h>

#include <span>
#include <string>
#include <vector>

#include "protocol/errno.h"
#include "protocol/syscalls.h"

namespace rump {

// Client memory that one call has read or written, as far as a trace shows it.
class SeenMemory {
 public:
  struct Piece {
    uint64_t addr;
    uint64_t size;     // as much as was copied
    std::string head;  // its first bytes
  };

  void Add(uint64_t addr, std::span<const std::byte> data);
  // The piece that was copied last of those that start at `addr`; nullptr if there is none.
  const Piece* Find(uint64_t addr) const;

 private:
  std::vector<Piece> pieces_;
};

// What became of a call.
struct CallOutcome {
  Errno error;
  uint64_t result = 0;
};

// "read(3, "hello", 100) = 5". Memory that was not copied shows as its address.
std::string FormatCall(uint32_t number, std::span<const uint64_t> args, const SeenMemory& memory,
                       const CallOutcome& outcome);

// Whether FormatCall knows more of arguments of this kind than their number.
bool HasTraceDecoder(ArgKind kind);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_TRACE_FORMAT_H_
