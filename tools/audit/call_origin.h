// Who in a program makes a system call.
#ifndef TOOLS_AUDIT_CALL_ORIGIN_H_
#define TOOLS_AUDIT_CALL_ORIGIN_H_

#include <stdint.h>
#include <sys/types.h>

#include <functional>
#include <span>
#include <string>
#include <unordered_map>

#include "tools/audit/memory_map.h"

namespace rump {

enum class CallOrigin {
  kLibrary,   // librumphijack.so itself
  kGate,      // libc, at a place that asks the library first
  kMissed,    // libc, at a place that does not, while others of it do
  kUnknown,   // libc, of which no place asks: it may have been called by the library's symbols
  kElsewhere  // anybody else
};

// One program of a traced process, from its exec to the next.
class CallOrigins {
 public:
  // Copies the process's memory from an address on; false if it is not all there.
  using ReadMemory = std::function<bool(uint64_t address, std::span<uint8_t> to)>;

  // `library` is the path of librumphijack.so.
  CallOrigins(std::string library, std::function<MemoryMap()> read_map, ReadMemory read_memory);

  // Of a system call that goes on at `address`. Remembers what it has found out.
  CallOrigin Find(uint64_t address);
  // The file with `address` and the offset there, with the function if the file names it.
  std::string Describe(uint64_t address);
  // Whether the program has loaded the library.
  bool HasLibrary();
  // Whether `address` can be where a call of a function goes on.
  bool IsCode(uint64_t address);

 private:
  CallOrigin Classify(uint64_t address);
  const Mapping* FindMapping(uint64_t address);
  bool IsGated(uint64_t syscall) const;
  bool LeadsToLibrary(uint64_t jump) const;
  bool IsLibcRewritten();

  const std::string library_;
  const std::function<MemoryMap()> read_map_;
  const ReadMemory read_memory_;
  MemoryMap map_;
  std::unordered_map<uint64_t, CallOrigin> known_;
  bool looked_for_libc_ = false;
  uint64_t libc_call_ = 0;  // a system call of a libc that can be rewritten completely, or 0
};

}  // namespace rump

#endif  // TOOLS_AUDIT_CALL_ORIGIN_H_
