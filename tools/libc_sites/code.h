// Decoded machine code.
#ifndef TOOLS_LIBC_SITES_CODE_H_
#define TOOLS_LIBC_SITES_CODE_H_

#include <stddef.h>
#include <stdint.h>

#include <optional>
#include <unordered_set>
#include <vector>

#include "tools/libc_sites/elf_file.h"

namespace rump {

struct Instruction {
  uint64_t address = 0;
  uint8_t size = 0;
  bool is_syscall = false;
  bool is_nop = false;
  // Nothing goes on behind it.
  bool is_end = false;
  // Does the same wherever it stands, and goes on behind it.
  bool movable = false;
  bool writes_rax = false;
  // The number that it leaves in rax, if that is known.
  std::optional<int64_t> rax;

  uint64_t end() const { return address + size; }
};

class Code {
 public:
  explicit Code(const ElfFile& elf);

  // In the order of their addresses. Bytes that are no instruction are left out.
  const std::vector<Instruction>& instructions() const { return instructions_; }
  // Whether something other than the instruction before it may lead to `address`.
  bool IsTarget(uint64_t address) const;

 private:
  void Decode(const Section& section);
  bool IsInJumpTable(uint64_t address) const;

  const ElfFile& elf_;
  std::vector<Instruction> instructions_;
  std::unordered_set<uint64_t> targets_;  // of jumps and calls, and of other code
  std::unordered_set<uint64_t> tables_;   // data that the code takes the address of
};

}  // namespace rump

#endif  // TOOLS_LIBC_SITES_CODE_H_
