#include "hijack/seccomp_filter.h"

#include <linux/audit.h>
#include <stddef.h>
#include <sys/syscall.h>

#include <initializer_list>
#include <vector>

#include "gtest/gtest.h"

namespace rump::hijack {
namespace {

constexpr uint32_t kNumber = offsetof(seccomp_data, nr);
constexpr uint32_t kArch = offsetof(seccomp_data, arch);
constexpr uint32_t kFirstArgument = offsetof(seccomp_data, args);

constexpr sock_filter Jump(uint16_t op, uint32_t k, uint8_t yes, uint8_t no) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | op | BPF_K), k, yes, no);
}
constexpr sock_filter Do(uint16_t code, uint32_t k = 0) { return BPF_STMT(code, k); }
constexpr sock_filter LoadWord(uint32_t offset) { return Do(BPF_LD | BPF_W | BPF_ABS, offset); }
constexpr sock_filter Answer(uint32_t k) { return Do(BPF_RET | BPF_K, k); }
constexpr sock_filter kAnswerA = Do(BPF_RET | BPF_A);

class Filter {
 public:
  Filter(std::initializer_list<sock_filter> code) : code_(code) {}

  sock_fprog program() {
    return {.len = static_cast<unsigned short>(code_.size()), .filter = code_.data()};
  }
  uint32_t Run(const seccomp_data& call = {}) { return RunFilter(program(), call); }

 private:
  std::vector<sock_filter> code_;
};

TEST(SeccompFilter, AnAllowList) {
  Filter filter = {
      LoadWord(kArch),
      Jump(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
      Answer(SECCOMP_RET_KILL_PROCESS),
      LoadWord(kNumber),
      Jump(BPF_JEQ, SYS_read, 2, 0),
      Jump(BPF_JEQ, SYS_write, 1, 0),
      Answer(SECCOMP_RET_KILL_PROCESS),
      Answer(SECCOMP_RET_ALLOW),
  };
  EXPECT_TRUE(FilterAllows(filter.program(), SYS_read));
  EXPECT_TRUE(FilterAllows(filter.program(), SYS_write));
  EXPECT_FALSE(FilterAllows(filter.program(), SYS_getsockname));
}

TEST(SeccompFilter, ADenyList) {
  Filter filter = {
      LoadWord(kNumber),
      Jump(BPF_JGE, SYS_ptrace, 0, 2),
      Jump(BPF_JGT, SYS_ptrace, 1, 0),
      Answer(SECCOMP_RET_ERRNO | 1),
      Answer(SECCOMP_RET_LOG),
  };
  EXPECT_FALSE(FilterAllows(filter.program(), SYS_ptrace));
  EXPECT_TRUE(FilterAllows(filter.program(), SYS_ptrace - 1));
  EXPECT_TRUE(FilterAllows(filter.program(), SYS_ptrace + 1));
}

TEST(SeccompFilter, TheArgumentsCount) {
  Filter filter = {LoadWord(kFirstArgument), Jump(BPF_JSET, 6, 0, 1), Answer(1), Answer(2)};
  seccomp_data call = {};
  call.args[0] = 4;
  EXPECT_EQ(filter.Run(call), 1u);
  call.args[0] = 8;
  EXPECT_EQ(filter.Run(call), 2u);
}

TEST(SeccompFilter, Arithmetic) {
  constexpr struct {
    uint16_t op;
    uint32_t result;
  } kCases[] = {
      {BPF_ADD, 27}, {BPF_SUB, 21}, {BPF_MUL, 72},  {BPF_DIV, 8}, {BPF_AND, 0},
      {BPF_OR, 27},  {BPF_XOR, 27}, {BPF_LSH, 192}, {BPF_RSH, 3}, {BPF_NEG, uint32_t(-24)},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.op);
    Filter by_constant = {Do(BPF_LD | BPF_IMM, 24), Do(uint16_t(BPF_ALU | c.op | BPF_K), 3),
                          kAnswerA};
    EXPECT_EQ(by_constant.Run(), c.result);
    Filter by_x = {Do(BPF_LDX | BPF_IMM, 3), Do(BPF_LD | BPF_IMM, 24),
                   Do(uint16_t(BPF_ALU | c.op | BPF_X)), kAnswerA};
    EXPECT_EQ(by_x.Run(), c.result);
  }
}

TEST(SeccompFilter, MemoryRegistersAndJumps) {
  Filter filter = {
      Do(BPF_LD | BPF_IMM, 7),
      Do(BPF_ST, 3),
      Do(BPF_LD | BPF_LEN),
      Do(BPF_MISC | BPF_TAX),
      Do(BPF_STX, 4),
      Do(BPF_LD | BPF_IMM, 0),
      Do(BPF_MISC | BPF_TXA),
      Do(BPF_LDX | BPF_MEM, 3),
      Do(BPF_ALU | BPF_ADD | BPF_X),
      Do(BPF_JMP | BPF_JA, 1),
      Answer(1),
      Do(BPF_LDX | BPF_MEM, 4),
      Do(BPF_ALU | BPF_ADD | BPF_X),
      kAnswerA,
  };
  EXPECT_EQ(filter.Run(), 2 * sizeof(seccomp_data) + 7);
}

}  // namespace
}  // namespace rump::hijack
