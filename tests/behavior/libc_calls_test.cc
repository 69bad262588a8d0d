// System calls that no call of the program's shows: libc makes them by itself.
#include <netdb.h>
#include <nss.h>
#include <resolv.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
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
