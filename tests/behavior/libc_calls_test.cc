// System calls that no call of the program's shows: libc makes them by itself, or syscall(2) does.
#include <netdb.h>
#include <nss.h>
#include <resolv.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <array>
#include <string>
#include <thread>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

std::string Received(const Fd& fd) {
  char data[256];
  const ssize_t size = recv(fd.get(), data, sizeof data, 0);
  EXPECT_THAT(size, Succeeds());
  return {data, static_cast<size_t>(size > 0 ? size : 0)};
}

TEST(Stdio, WritesAndReadsDatagrams) {
  auto [fd, peer] = UdpPair();
  FILE* const stream = fdopen(fd.release(), "r+");
  ASSERT_NE(stream, nullptr);
  fprintf(stream, "datagram %d", 1);
  fflush(stream);
  EXPECT_EQ(Received(peer), "datagram 1");
  ASSERT_EQ(send(peer.get(), "a\nb\n", 4, 0), 4);
  char line[16] = "";
  EXPECT_STREQ(fgets(line, sizeof line, stream), "a\n");
  EXPECT_STREQ(fgets(line, sizeof line, stream), "b\n");
  fclose(stream);
}

TEST(Stdio, TheEndOfAStreamClosesItsSocket) {
  Fd listener = Listen();
  const sockaddr_in address = Loopback(PortOf(listener));
  fclose(fdopen(listener.release(), "r"));
  const Fd next(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_THAT(bind(next.get(), Addr(address), sizeof address), Succeeds());
}

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
  EXPECT_EQ(Received(b).size(), 3u);
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

// A name server that answers one query with 192.0.2.7.
void AnswerOneQuery(const Fd& server) {
  std::array<unsigned char, 512> message;
  sockaddr_in from{};
  socklen_t from_size = sizeof from;
  const ssize_t size =
      recvfrom(server.get(), message.data(), message.size(), 0, Addr(from), &from_size);
  ASSERT_GT(size, 12);
  size_t end = 12;
  while (message[end] != 0) end += message[end] + 1u;
  end += 5;
  message[2] |= 0x80;                           // a response
  message[7] = 1;                               // of one answer,
  for (int i = 8; i < 12; ++i) message[i] = 0;  // and nothing else
  constexpr unsigned char kAnswer[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7};
  memcpy(message.data() + end, kAnswer, sizeof kAnswer);
  EXPECT_THAT(sendto(server.get(), message.data(), end + sizeof kAnswer, 0, Addr(from), from_size),
              Succeeds());
}

TEST(Resolver, AsksItsNameServerOnTheNetwork) {
  const Fd server(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in any = Loopback(0);
  ASSERT_THAT(bind(server.get(), Addr(any), sizeof any), Succeeds());
  ASSERT_EQ(__nss_configure_lookup("hosts", "dns"), 0);
  ASSERT_EQ(res_init(), 0);
  _res.nscount = 1;
  _res.nsaddr_list[0] = Loopback(PortOf(server));
  std::thread answering(AnswerOneQuery, std::cref(server));
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  EXPECT_EQ(getaddrinfo("host.test", "80", &hints, &found), 0);
  answering.join();
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(ntohl(reinterpret_cast<const sockaddr_in*>(found->ai_addr)->sin_addr.s_addr),
            0xc0000207u);
  freeaddrinfo(found);
}

TEST(Spawn, TheChildGetsWhatFileActionsSay) {
  const Fd listener = Listen();
  const Fd reader = Connect(PortOf(listener));
  Fd writer(accept(listener.get(), nullptr, nullptr));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, listener.get());
  posix_spawn_file_actions_addclose(&actions, reader.get());
  char program[] = "/bin/echo";
  char word[] = "spawned";
  char* const arguments[] = {program, word, nullptr};
  pid_t child = -1;
  ASSERT_EQ(posix_spawn(&child, program, &actions, nullptr, arguments, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(ReadExactly(reader.get(), 8), "spawned\n");
  // What the child has closed on its parent's memory is still open here.
  const Fd next = Connect(PortOf(listener));
  const Fd accepted(accept(listener.get(), nullptr, nullptr));
  EXPECT_TRUE(WriteAll(accepted.get(), "still"));
  EXPECT_EQ(ReadExactly(next.get(), 5), "still");
}

TEST(Spawn, CommandsUseInheritedSockets) {
  auto [fd, peer] = TcpPair();
  const std::string command = "echo word >&" + std::to_string(fd.get());
  EXPECT_EQ(system(command.c_str()), 0);
  EXPECT_EQ(ReadExactly(peer.get(), 5), "word\n");
  FILE* const pipe = popen(("head -c 3 <&" + std::to_string(fd.get())).c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  EXPECT_TRUE(WriteAll(peer.get(), "abc"));
  char data[8] = "";
  EXPECT_STREQ(fgets(data, sizeof data, pipe), "abc");
  EXPECT_EQ(pclose(pipe), 0);
}

}  // namespace
}  // namespace rump
