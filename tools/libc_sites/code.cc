#include "tools/libc_sites/code.h"

#include <Zydis/Zydis.h>
#include <string.h>

namespace rump {
namespace {

// Whether `part` is `reg` or a part of it.
bool Is(ZydisRegister part, ZydisRegister reg) {
  return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, part) == reg;
}

bool IsBranch(const ZydisDecodedInstruction& decoded) {
  switch (decoded.meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_UNCOND_BR:
      return true;
    default:
      return false;
  }
}

// The number that is in rax afterwards, for the two ways that compilers load one.
std::optional<int64_t> LoadedNumber(const ZydisDecodedInstruction& decoded,
                                    const ZydisDecodedOperand* operands) {
  if (operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER || operands[0].size < 32) return std::nullopt;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_MOV && operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
    return operands[1].imm.value.s;
  }
  if (decoded.mnemonic == ZYDIS_MNEMONIC_XOR && operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
      operands[1].reg.value == operands[0].reg.value) {
    return 0;
  }
  return std::nullopt;
}

Instruction Describe(uint64_t address, const ZydisDecodedInstruction& decoded,
                     const ZydisDecodedOperand* operands) {
  Instruction instruction;
  instruction.address = address;
  instruction.size = decoded.length;
  instruction.is_syscall = decoded.mnemonic == ZYDIS_MNEMONIC_SYSCALL;
  instruction.is_nop = decoded.mnemonic == ZYDIS_MNEMONIC_NOP;
  instruction.is_end = decoded.meta.category == ZYDIS_CATEGORY_RET ||
                       decoded.meta.category == ZYDIS_CATEGORY_UNCOND_BR;
  instruction.movable = !IsBranch(decoded) && (decoded.attributes & ZYDIS_ATTRIB_IS_RELATIVE) == 0;
  for (int i = 0; i < decoded.operand_count; ++i) {
    if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    if ((operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) == 0) continue;
    // Whoever unwinds a thread that is cancelled would look for the frame in the wrong place.
    if (Is(operands[i].reg.value, ZYDIS_REGISTER_RSP)) instruction.movable = false;
    if (!Is(operands[i].reg.value, ZYDIS_REGISTER_RAX)) continue;
    instruction.writes_rax = true;
    if (i == 0) instruction.rax = LoadedNumber(decoded, operands);
  }
  return instruction;
}

}  // namespace

Code::Code(const ElfFile& elf) : elf_(elf) {
  for (const Symbol& function : elf.functions) targets_.insert(function.address);
  for (const Section& section : elf.sections) {
    if (section.executable) Decode(section);
  }
}

void Code::Decode(const Section& section) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  for (size_t at = 0; at < section.bytes.size();) {
    const uint64_t address = section.address + at;
    ZydisDecodedInstruction decoded;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, section.bytes.data() + at,
                                             section.bytes.size() - at, &decoded, operands))) {
      ++at;
      continue;
    }
    for (int i = 0; i < decoded.operand_count; ++i) {
      ZyanU64 absolute = 0;
      if (!ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&decoded, &operands[i], address, &absolute))) {
        continue;
      }
      (decoded.mnemonic == ZYDIS_MNEMONIC_LEA ? tables_ : targets_).insert(absolute);
      // The address of a function, too, is taken by lea.
      if (decoded.mnemonic == ZYDIS_MNEMONIC_LEA) targets_.insert(absolute);
    }
    instructions_.push_back(Describe(address, decoded, operands));
    at += decoded.length;
  }
}

bool Code::IsTarget(uint64_t address) const {
  return targets_.count(address) > 0 || IsInJumpTable(address);
}

// Compilers write tables of the distances from the table to where it leads.
bool Code::IsInJumpTable(uint64_t address) const {
  constexpr uint64_t kLongestTable = 2048;
  for (const uint64_t table : tables_) {
    for (const Section& section : elf_.sections) {
      if (section.executable || !section.Contains(table)) continue;
      const std::string_view bytes = section.bytes.substr(table - section.address, kLongestTable);
      for (size_t at = 0; at + sizeof(int32_t) <= bytes.size(); at += sizeof(int32_t)) {
        int32_t distance;
        memcpy(&distance, bytes.data() + at, sizeof distance);
        if (table + static_cast<uint64_t>(int64_t{distance}) == address) return true;
      }
    }
  }
  return false;
}

}  // namespace rump
