#include "hijack/seccomp_filter.h"

#include <linux/audit.h>
#include <string.h>

namespace rump::hijack {
namespace {

// The machine of classic BPF, as far as seccomp(2) has it.
struct Machine {
  uint32_t a = 0;
  uint32_t x = 0;
  uint32_t memory[BPF_MEMWORDS] = {};
};

uint32_t Word(const seccomp_data& call, uint32_t offset) {
  uint32_t word = 0;
  if (offset <= sizeof call - sizeof word) {
    memcpy(&word, reinterpret_cast<const char*>(&call) + offset, sizeof word);
  }
  return word;
}

// What BPF_LD and BPF_LDX load.
uint32_t Load(const sock_filter& code, const Machine& machine, const seccomp_data& call) {
  switch (BPF_MODE(code.code)) {
    case BPF_ABS:
      return Word(call, code.k);
    case BPF_LEN:
      return sizeof call;
    case BPF_MEM:
      return code.k < BPF_MEMWORDS ? machine.memory[code.k] : 0;
    default:
      return code.k;
  }
}

uint32_t Compute(const sock_filter& code, uint32_t a, uint32_t b) {
  switch (BPF_OP(code.code)) {
    case BPF_ADD:
      return a + b;
    case BPF_SUB:
      return a - b;
    case BPF_MUL:
      return a * b;
    case BPF_DIV:
      return b == 0 ? 0 : a / b;
    case BPF_AND:
      return a & b;
    case BPF_OR:
      return a | b;
    case BPF_XOR:
      return a ^ b;
    case BPF_LSH:
      return a << (b & 31);
    case BPF_RSH:
      return a >> (b & 31);
    default:
      return -a;
  }
}

// How many instructions a jump skips.
uint32_t Distance(const sock_filter& code, uint32_t a, uint32_t b) {
  switch (BPF_OP(code.code)) {
    case BPF_JEQ:
      return a == b ? code.jt : code.jf;
    case BPF_JGT:
      return a > b ? code.jt : code.jf;
    case BPF_JGE:
      return a >= b ? code.jt : code.jf;
    case BPF_JSET:
      return (a & b) != 0 ? code.jt : code.jf;
    default:
      return code.k;
  }
}

}  // namespace

uint32_t RunFilter(const sock_fprog& filter, const seccomp_data& call) {
  Machine machine;
  for (uint32_t at = 0; at < filter.len; ++at) {
    const sock_filter& code = filter.filter[at];
    const uint32_t operand = BPF_SRC(code.code) == BPF_X ? machine.x : code.k;
    switch (BPF_CLASS(code.code)) {
      case BPF_LD:
        machine.a = Load(code, machine, call);
        break;
      case BPF_LDX:
        machine.x = Load(code, machine, call);
        break;
      case BPF_ST:
        machine.memory[code.k % BPF_MEMWORDS] = machine.a;
        break;
      case BPF_STX:
        machine.memory[code.k % BPF_MEMWORDS] = machine.x;
        break;
      case BPF_ALU:
        machine.a = Compute(code, machine.a, operand);
        break;
      case BPF_JMP:
        at += Distance(code, machine.a, operand);
        break;
      case BPF_RET:
        return BPF_RVAL(code.code) == BPF_A ? machine.a : code.k;
      default:
        if (BPF_MISCOP(code.code) == BPF_TAX) {
          machine.x = machine.a;
        } else {
          machine.a = machine.x;
        }
    }
  }
  return SECCOMP_RET_KILL_PROCESS;  // the kernel accepts no filter that ends without an answer
}

bool FilterAllows(const sock_fprog& filter, int number) {
  seccomp_data call = {};
  call.nr = number;
  call.arch = AUDIT_ARCH_X86_64;
  const uint32_t action = RunFilter(filter, call) & SECCOMP_RET_ACTION_FULL;
  return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG;
}

}  // namespace rump::hijack
