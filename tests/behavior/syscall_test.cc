// Calls by number: syscall(2).
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <array>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

TEST(Syscall, MakesAndUsesSockets) {
  const Fd a(static_cast<int>(syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0)));
  const Fd b(socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in to = Loopback(0);
  ASSERT_THAT(syscall(SYS_bind, b.get(), &to, sizeof to), Succeeds());
  to = Loopback(PortOf(b));
  ASSERT_EQ(syscall(SYS_sendto, a.get(), "six by", 6, 0, &to, sizeof to), 6);
  sockaddr_in from{};
  socklen_t size = sizeof from;
  char data[16];
  EXPECT_EQ(syscall(SYS_recvfrom, b.get(), data, sizeof data, 0, &from, &size), 6);
  EXPECT_EQ(ntohs(from.sin_port), PortOf(a));
  EXPECT_THAT(syscall(SYS_recvfrom, b.get(), data, sizeof data, MSG_DONTWAIT, nullptr, nullptr),
              FailsWith(EAGAIN));
  EXPECT_THAT(syscall(SYS_bind, a.get(), &to, sizeof to), FailsWith(EINVAL));
  EXPECT_THAT(syscall(SYS_connect, a.get(), &to, sizeof to), Succeeds());
  iovec parts[] = {{data, 1}, {data, 2}};
  EXPECT_EQ(syscall(SYS_writev, a.get(), parts, 2), 3);
  EXPECT_EQ(recv(b.get(), data, sizeof data, 0), 3);
}

TEST(Syscall, OfOtherNumbersIsTheHosts) {
  EXPECT_EQ(syscall(SYS_getpid), getpid());
  EXPECT_THAT(syscall(100'000), FailsWith(ENOSYS));
  EXPECT_THAT(syscall(-1), FailsWith(ENOSYS));
  EXPECT_THAT(syscall(SYS_read, -1, nullptr, 0), FailsWith(EBADF));
}

struct alignas(32) VectorRegisters {
  std::array<std::array<uint64_t, 2>, 16> xmm;
};

// syscall(2) with registers that it has no use for: from and to `registers`.
long SyscallBetween(VectorRegisters* registers, long number, long a0, long a1, long a2) {
  register VectorRegisters* const r12 asm("r12") = registers;
  long result = 0;
  asm volatile(
      "mov %%rsp, %%rbx; sub $128, %%rsp; and $-16, %%rsp;"
      "movdqa 0x00(%%r12), %%xmm0; movdqa 0x10(%%r12), %%xmm1; movdqa 0x20(%%r12), %%xmm2;"
      "movdqa 0x30(%%r12), %%xmm3; movdqa 0x70(%%r12), %%xmm7; movdqa 0xf0(%%r12), %%xmm15;"
      "call *%[function];"
      "movdqa %%xmm0, 0x00(%%r12); movdqa %%xmm1, 0x10(%%r12); movdqa %%xmm2, 0x20(%%r12);"
      "movdqa %%xmm3, 0x30(%%r12); movdqa %%xmm7, 0x70(%%r12); movdqa %%xmm15, 0xf0(%%r12);"
      "mov %%rbx, %%rsp"
      : "=a"(result), "+D"(number), "+S"(a0), "+d"(a1), "+c"(a2)
      : [function] "r"(&syscall), "r"(r12)
      : "rbx", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm7",
        "xmm15");
  return result;
}

TEST(Syscall, LeavesVectorRegistersAlone) {
  auto [fd, peer] = UdpPair();
  (void)fd;
  VectorRegisters registers;
  for (size_t i = 0; i < registers.xmm.size(); ++i) registers.xmm[i] = {i * 0x0101010101, ~i};
  const VectorRegisters before = registers;
  int value = -1;
  EXPECT_EQ(
      SyscallBetween(&registers, SYS_ioctl, peer.get(), FIONREAD, reinterpret_cast<long>(&value)),
      0);
  EXPECT_EQ(value, 0);
  EXPECT_EQ(registers.xmm, before.xmm);
}

}  // namespace
}  // namespace rump
