// The extension "hostfd" against clients that do not keep to its rules.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "sp_server/loop/pass_fds.h"
#include "sp_server/loop/unique_fd.h"
#include "tests/sp_server/lingering_socket.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

struct HostSocketEnds {
  uint64_t object = 0;
  UniqueFd c;
};

// The bytes of a call's frame.
std::string CallFrame(uint64_t reqno, uint32_t number, std::vector<uint64_t> args = {}) {
  const FrameHeader header{.len = kHeaderSize + args.size() * sizeof(uint64_t),
                           .reqno = reqno,
                           .type = FrameType::kSyscall,
                           .u = number};
  std::string frame(kHeaderSize, '\0');
  EncodeHeader(header, reinterpret_cast<std::byte*>(frame.data()));
  return frame.append(reinterpret_cast<const char*>(args.data()), args.size() * sizeof(uint64_t));
}

void SendWithFds(int socket, std::string_view bytes, const std::vector<int>& fds) {
  (void)!rump::SendWithFds(socket, std::as_bytes(std::span(bytes)), fds, MSG_NOSIGNAL);
}

// For tests with a server of their own: two at once would share the one TCP/IP stack.
class OwnServerTest : public testing::Test {
 protected:
  static HostSocketEnds NewSocket(RawClient& client, int type = SOCK_STREAM) {
    const SyscallResultPayload result =
        client.CallResult(kSysHostSocket, {AF_INET, static_cast<uint64_t>(type), 0});
    EXPECT_EQ(result.error, 0);
    return {result.retval[0], client.TakeFd()};
  }
  // Binds to a free port of loopback; returns the error and stores the port.
  static int Bind(RawClient& client, uint64_t object, uint16_t* port) {
    sockaddr_in address;
    std::string memory = Address(*port);
    const int error =
        client.Finish(client.SendCall(SYS_bind, {object, 0, sizeof address}), &memory).error;
    if (error != 0) return error;
    // Address 0 is no address: the size is at 0, the name behind it.
    const socklen_t size = sizeof address;
    memory.assign(reinterpret_cast<const char*>(&size), sizeof size);
    EXPECT_EQ(
        client.Finish(client.SendCall(SYS_getsockname, {object, sizeof size, 0}), &memory).error,
        0);
    memcpy(&address, memory.data() + sizeof size, sizeof address);
    *port = ntohs(address.sin_port);
    return 0;
  }

  // No connection of this listener is to be a direct pair.
  static void KeepInStack(RawClient& client, uint64_t listener) {
    std::string off(sizeof(int), '\0');
    const uint64_t call =
        client.SendCall(SYS_setsockopt, {listener, IPPROTO_TCP, kTcpDirect, 0, off.size()});
    EXPECT_EQ(client.Finish(call, &off).error, 0);
  }

  // `port` of loopback at the start of a client's memory.
  static std::string Address(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return std::string(reinterpret_cast<const char*>(&address), sizeof address);
  }
  // host_connect, with the byte that it may ask for. The errno.
  static int Connect(RawClient& client, const HostSocketEnds& socket, uint16_t port,
                     uint64_t flags) {
    const auto call = [&](uint64_t all_flags) {
      std::string memory = Address(port);
      return client.Finish(
          client.SendCall(kSysHostConnect, {socket.object, 0, memory.size(), all_flags, 0}),
          &memory);
    };
    SyscallResultPayload result = call(flags);
    if (result.error == 0 && result.retval[0] == kHostConnectNeedsByte) {
      EXPECT_EQ(send(socket.c.get(), "", 1, MSG_NOSIGNAL), 1);
      result = call(flags | kHostConnectByte);
      EXPECT_NE(result.retval[0], kHostConnectNeedsByte);
    }
    return result.error;
  }
  // The C of the next connection on a listener's C.
  static UniqueFd Accept(const UniqueFd& listener) {
    AcceptRecord record;
    UniqueFd c;
    EXPECT_TRUE(ReceiveRecord(listener, 0, &record, &c));
    return c;
  }

  // The C that comes with the answer if `client` connects `object` and asks for a spare of
  // `domain`.
  static UniqueFd ConnectForSpare(RawClient& client, uint64_t object, uint16_t port, int domain) {
    std::string memory = Address(port);
    const uint64_t call = client.SendCall(
        kSysHostConnect, {object, 0, memory.size(), 0, static_cast<uint64_t>(domain)});
    EXPECT_EQ(client.Finish(call, &memory).error, 0);
    return client.TakeFd();
  }
  // The object that `c` is named after.
  static uint64_t ObjectOf(const UniqueFd& c) {
    sockaddr_un name{};
    socklen_t size = sizeof name;
    EXPECT_EQ(getsockname(c.get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
    const std::string path(name.sun_path, size - offsetof(sockaddr_un, sun_path));
    EXPECT_THAT(path, testing::StartsWith(std::string("\0rump/", 6)));
    return std::stoull(path.substr(6), nullptr, 16);
  }
  // A listener of `client`'s; no connection of it is a direct pair if `in_stack`.
  static HostSocketEnds Listen(RawClient& client, uint16_t* port, bool in_stack = false) {
    HostSocketEnds listener = NewSocket(client);
    if (in_stack) KeepInStack(client, listener.object);
    EXPECT_EQ(Bind(client, listener.object, port), 0);
    EXPECT_EQ(client.CallResult(SYS_listen, {listener.object, 20}).error, 0);
    return listener;
  }

 private:
  template <typename Record>
  static bool ReceiveRecord(const UniqueFd& from, int flags, Record* record, UniqueFd* c) {
    iovec iov{record, sizeof *record};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr msg{};
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control;
    msg.msg_controllen = sizeof control;
    if (recvmsg(from.get(), &msg, flags) != static_cast<ssize_t>(sizeof *record)) return false;
    int fd = -1;
    if (const cmsghdr* rights = CMSG_FIRSTHDR(&msg)) memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    *c = UniqueFd(fd);
    return true;
  }
};

class HostCallsTest : public OwnServerTest {
 protected:
  HostCallsTest() { EXPECT_TRUE(client_.Guest("owner")); }

  ServerThread server_{{}, {.objects = 8}};
  RawClient client_{server_.path()};
};

TEST_F(HostCallsTest, DescriptorIsNamedAfterItsObject) {
  const HostSocketEnds socket = NewSocket(client_);
  ASSERT_TRUE(socket.c.valid());
  EXPECT_GE(socket.object, kFirstObjectId);
  EXPECT_EQ(ObjectOf(socket.c), socket.object);
}

TEST_F(HostCallsTest, NameIsNotARight) {
  const HostSocketEnds socket = NewSocket(client_);
  RawClient thief(server_.path());
  ASSERT_TRUE(thief.Guest("thief"));
  constexpr uint32_t kCalls[] = {SYS_bind,
                                 SYS_listen,
                                 SYS_accept4,
                                 SYS_shutdown,
                                 SYS_getsockname,
                                 SYS_getpeername,
                                 SYS_getsockopt,
                                 SYS_setsockopt,
                                 SYS_ioctl,
                                 SYS_read,
                                 SYS_write,
                                 SYS_recvfrom,
                                 SYS_recvmsg,
                                 SYS_sendto,
                                 SYS_sendmsg,
                                 SYS_fcntl,
                                 SYS_dup,
                                 SYS_dup2,
                                 SYS_close,
                                 kSysHostConnect,
                                 kSysHostConnectAbandon,
                                 kSysHostProve,
                                 kSysHostSendBuffer,
                                 kSysHostConnectFill,
                                 kSysHostUrgent};
  for (const uint32_t call : kCalls) {
    std::string memory = Address(1) + std::string(100, '\0');
    EXPECT_EQ(thief.Finish(thief.SendCall(call, {socket.object, 0, 16, 0, 0, 0}), &memory).error,
              EBADF)
        << call;
  }
  // Nobody is told whether there was something to release.
  EXPECT_EQ(thief.CallResult(kSysHostRelease, {socket.object}).error, 0);
  EXPECT_EQ(client_.CallResult(SYS_listen, {socket.object, 1}).error, 0);
}

// Ids are used again, rights to them are not.
TEST_F(HostCallsTest, RightEndsWithItsObject) {
  HostSocketEnds socket = NewSocket(client_);
  RawClient heir(server_.path());
  ASSERT_TRUE(heir.Guest("heir"));
  std::string memory;
  ASSERT_EQ(
      heir.Finish(heir.SendCall(kSysHostProve, {socket.object}, socket.c.get()), &memory).error, 0);
  socket.c.reset();
  RawClient other(server_.path());
  ASSERT_TRUE(other.Guest("other"));
  const HostSocketEnds next = NewSocket(other);
  ASSERT_EQ(next.object, socket.object);
  for (RawClient* client : {&client_, &heir}) {
    EXPECT_EQ(client->CallResult(SYS_listen, {next.object, 1}).error, EBADF);
  }
  EXPECT_EQ(other.CallResult(SYS_listen, {next.object, 1}).error, 0);
}

TEST_F(OwnServerTest, SpareComesWithAConnection) {
  const ServerThread server;
  RawClient client(server.path());
  ASSERT_TRUE(client.Guest("client"));
  uint16_t port = 0;
  const HostSocketEnds listener = Listen(client, &port);
  UniqueFd socket = NewSocket(client).c;
  for (int i = 0; i < 5; ++i) {
    UniqueFd spare = ConnectForSpare(client, ObjectOf(socket), port, AF_INET);
    ASSERT_TRUE(spare.valid());
    const UniqueFd accepted = Accept(listener.c);
    EXPECT_EQ(write(socket.get(), "x", 1), 1);
    char byte = 0;
    EXPECT_EQ(read(accepted.get(), &byte, 1), 1);
    socket = std::move(spare);
  }
}

// Also with the answer that it is not connected as yet, but not with another error.
TEST_F(OwnServerTest, SpareComesWithAConnectionInTheBackground) {
  const ServerThread server;
  RawClient client(server.path());
  ASSERT_TRUE(client.Guest("client"));
  // Nobody accepts: a backlog of 0 has room for one.
  uint16_t port = 0;
  const HostSocketEnds listener = NewSocket(client);
  ASSERT_EQ(Bind(client, listener.object, &port), 0);
  KeepInStack(client, listener.object);
  ASSERT_EQ(client.CallResult(SYS_listen, {listener.object, 0}).error, 0);
  std::vector<HostSocketEnds> sockets;
  int error = 0;
  UniqueFd spare;
  for (int i = 0; i < 5 && error == 0; ++i) {
    sockets.push_back(NewSocket(client));
    std::string memory = Address(port);
    error = client
                .Finish(client.SendCall(kSysHostConnect,
                                        {sockets.back().object, 0, memory.size(), 0, AF_INET}),
                        &memory)
                .error;
    spare = client.TakeFd();
    EXPECT_TRUE(spare.valid());
  }
  EXPECT_EQ(error, EINPROGRESS);
  // It is used already.
  std::string memory = Address(port);
  const uint64_t call =
      client.SendCall(kSysHostConnect, {sockets.back().object, 0, memory.size(), 0, AF_INET});
  EXPECT_EQ(client.Finish(call, &memory).error, EALREADY);
  EXPECT_FALSE(client.TakeFd().valid());
}

TEST_F(OwnServerTest, SpareIsOfInternetFamilies) {
  const ServerThread server;
  RawClient client(server.path());
  ASSERT_TRUE(client.Guest("client"));
  uint16_t port = 0;
  const HostSocketEnds listener = Listen(client, &port);
  for (const int domain : {AF_UNSPEC, AF_UNIX, AF_NETLINK, -1, AF_INET6}) {
    const HostSocketEnds socket = NewSocket(client);
    EXPECT_EQ(ConnectForSpare(client, socket.object, port, domain).valid(), domain == AF_INET6);
  }
}

// They leave half of what there is to those that are asked for.
TEST_F(HostCallsTest, SpareTakesNobodysRoom) {
  uint16_t port = 0;
  const HostSocketEnds listener = Listen(client_, &port);
  std::vector<HostSocketEnds> sockets;
  std::vector<UniqueFd> spares;
  for (int i = 0; i < 20; ++i) {
    sockets.push_back(NewSocket(client_));
    UniqueFd spare = ConnectForSpare(client_, sockets.back().object, port, AF_INET);
    if (spare.valid()) spares.push_back(std::move(spare));
    const UniqueFd accepted = Accept(listener.c);
    if (sockets.size() > 2) sockets.erase(sockets.begin());
  }
  EXPECT_GE(spares.size(), 1U);
  EXPECT_LE(spares.size(), 4U);
  while (sockets.size() < 8 - 1 - spares.size()) sockets.push_back(NewSocket(client_));
  EXPECT_EQ(client_.CallResult(kSysHostSocket, {AF_INET, SOCK_STREAM, 0}).error, ENFILE);
}

TEST_F(HostCallsTest, ProofTakesTheVeryDescriptor) {
  const HostSocketEnds socket = NewSocket(client_);
  const HostSocketEnds other = NewSocket(client_);
  RawClient heir(server_.path());
  ASSERT_TRUE(heir.Guest("heir"));
  std::string memory;
  // None at all, one of another object, one that is no socket.
  EXPECT_EQ(heir.CallResult(kSysHostProve, {socket.object}).error, EBADF);
  EXPECT_EQ(
      heir.Finish(heir.SendCall(kSysHostProve, {socket.object}, other.c.get()), &memory).error,
      EBADF);
  EXPECT_EQ(heir.Finish(heir.SendCall(kSysHostProve, {socket.object}, 0), &memory).error, EBADF);
  EXPECT_EQ(heir.CallResult(SYS_listen, {socket.object, 1}).error, EBADF);
  EXPECT_EQ(
      heir.Finish(heir.SendCall(kSysHostProve, {socket.object}, socket.c.get()), &memory).error, 0);
  EXPECT_EQ(heir.CallResult(SYS_listen, {socket.object, 1}).error, 0);
}

// Processes that share datagram sockets, of which one takes the readiness byte and dies.
class LostByteTest : public HostCallsTest {
 protected:
  // A bound socket with a datagram in it.
  HostSocketEnds SocketWithDatagram(uint16_t* port) {
    HostSocketEnds socket = NewSocket(client_, SOCK_DGRAM);
    EXPECT_EQ(Bind(client_, socket.object, port), 0);
    SendDatagram(*port);
    return socket;
  }
  void SendDatagram(uint16_t port) {
    // Address 0 is no address.
    std::string memory = Address(port) + Address(port);
    constexpr uint64_t kSize = sizeof(sockaddr_in);
    const HostSocketEnds sender = NewSocket(client_, SOCK_DGRAM);
    const uint64_t call = client_.SendCall(SYS_sendto, {sender.object, 0, 1, 0, kSize, kSize});
    EXPECT_EQ(client_.Finish(call, &memory).error, 0);
  }
  static bool TakeByte(const HostSocketEnds& socket) {
    pollfd p{.fd = socket.c.get(), .events = POLLIN, .revents = 0};
    char byte;
    return poll(&p, 1, 10'000) == 1 && recv(socket.c.get(), &byte, 1, MSG_DONTWAIT) == 1;
  }
  int ReceiveDatagram(const HostSocketEnds& socket) {
    std::string memory(1, ' ');
    const uint64_t call = client_.SendCall(SYS_recvfrom, {socket.object, 0, 1, MSG_DONTWAIT, 0, 0});
    return client_.Finish(call, &memory).error;
  }
  static void Prove(RawClient& client, const HostSocketEnds& socket) {
    std::string memory;
    const uint64_t call = client.SendCall(kSysHostProve, {socket.object}, socket.c.get());
    EXPECT_EQ(client.Finish(call, &memory).error, 0);
  }

  uint16_t port_ = 0;
};

TEST_F(LostByteTest, WithAClient) {
  const HostSocketEnds lost = SocketWithDatagram(&port_);
  uint16_t other_port = 0;
  const HostSocketEnds unread = SocketWithDatagram(&other_port);
  RawClient dying(server_.path());
  ASSERT_TRUE(dying.Guest("dying"));
  Prove(dying, lost);
  Prove(dying, unread);
  ASSERT_TRUE(TakeByte(lost));
  dying.Close();
  ASSERT_TRUE(TakeByte(lost));
  EXPECT_EQ(ReceiveDatagram(lost), 0);
  EXPECT_EQ(ReceiveDatagram(lost), EAGAIN);
  // Where the byte is still there, it has not got a second.
  ASSERT_TRUE(TakeByte(unread));
  EXPECT_EQ(ReceiveDatagram(unread), 0);
  char byte;
  EXPECT_EQ(recv(unread.c.get(), &byte, 1, MSG_DONTWAIT), -1);
}

TEST_F(LostByteTest, WithAProcessThatTheServerDoesNotKnow) {
  const HostSocketEnds lost = SocketWithDatagram(&port_);
  ASSERT_TRUE(TakeByte(lost));
  SendDatagram(port_);
  ASSERT_TRUE(TakeByte(lost));
  EXPECT_EQ(ReceiveDatagram(lost), 0);
  ASSERT_TRUE(TakeByte(lost));
  EXPECT_EQ(ReceiveDatagram(lost), 0);
}

TEST_F(HostCallsTest, SendBufferFollowsTheOption) {
  const HostSocketEnds socket = NewSocket(client_);
  const auto buffer = [&] {
    return client_.CallResult(kSysHostSendBuffer, {socket.object}).retval[0];
  };
  EXPECT_EQ(buffer(), 1U << 20);
  const auto set = [&](int size) {
    std::string memory(reinterpret_cast<const char*>(&size), sizeof size);
    EXPECT_EQ(client_
                  .Finish(client_.SendCall(SYS_setsockopt,
                                           {socket.object, SOL_SOCKET, SO_SNDBUF, 0, sizeof size}),
                          &memory)
                  .error,
              0);
  };
  set(300'000);
  EXPECT_EQ(buffer(), 300'000U);
  // Below this, a program that polls could wait for ever.
  set(1);
  EXPECT_EQ(buffer(), 80U * 1024);
  set(-1);
  EXPECT_EQ(buffer(), 1U << 20);
}

TEST_F(HostCallsTest, StrangeObjectsAreEbadf) {
  for (const uint64_t object : {kFirstObjectId, ~uint64_t{0}, uint64_t{1} << 63, uint64_t{77}}) {
    EXPECT_EQ(client_.CallResult(SYS_listen, {object, 1}).error, EBADF) << object;
    EXPECT_EQ(client_.CallResult(kSysHostProve, {object}).error, EBADF) << object;
    EXPECT_EQ(client_.CallResult(kSysHostRelease, {object}).error, 0) << object;
  }
}

TEST_F(HostCallsTest, ReleaseFreesThePortOnlyWithoutADescriptor) {
  HostSocketEnds first = NewSocket(client_);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client_, first.object, &port), 0);
  const HostSocketEnds second = NewSocket(client_);
  EXPECT_EQ(client_.CallResult(kSysHostRelease, {first.object}).error, 0);
  EXPECT_EQ(Bind(client_, second.object, &port), EADDRINUSE);
  first.c.reset();
  EXPECT_EQ(client_.CallResult(kSysHostRelease, {first.object}).error, 0);
  EXPECT_EQ(Bind(client_, second.object, &port), 0);
}

// Many binds in one turn of the loop: whoever closed before one of them was sent is out of its way.
TEST_F(HostCallsTest, BindMeetsNobodyWhoHasClosed) {
  HostSocketEnds first = NewSocket(client_);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client_, first.object, &port), 0);
  const HostSocketEnds second = NewSocket(client_);
  const HostSocketEnds third = NewSocket(client_);
  constexpr int kCalls = 20;
  std::string memory = Address(port);
  std::vector<uint64_t> calls;
  for (int i = 0; i < kCalls; ++i) {
    calls.push_back(client_.SendCall(SYS_bind, {third.object, 0, sizeof(sockaddr_in)}));
  }
  for (const uint64_t call : calls) EXPECT_EQ(client_.Finish(call, &memory).error, EADDRINUSE);
  first.c.reset();
  EXPECT_EQ(Bind(client_, second.object, &port), 0);
}

TEST_F(HostCallsTest, OneObjectTooManyIsEnfile) {
  std::vector<HostSocketEnds> sockets;
  for (int i = 0; i < 8; ++i) sockets.push_back(NewSocket(client_));
  EXPECT_EQ(client_.CallResult(kSysHostSocket, {AF_INET, SOCK_STREAM, 0}).error, ENFILE);
  sockets.back().c.reset();
  EXPECT_EQ(client_.CallResult(kSysHostRelease, {sockets.back().object}).error, 0);
  EXPECT_TRUE(NewSocket(client_).c.valid());
}

TEST_F(HostCallsTest, DescriptorsOfAFrameAreBounded) {
  const size_t limit = SessionLimits().received_fds;
  const std::string frame = CallFrame(1, SYS_getpid);
  SendWithFds(client_.fd(), frame, std::vector<int>(limit, 0));
  std::string memory;
  EXPECT_EQ(client_.Finish(1, &memory).error, 0);
  constexpr size_t kMostOfAMessage = 253;
  for (const size_t count : {limit + 1, kMostOfAMessage}) {
    RawClient client(server_.path());
    ASSERT_TRUE(client.Guest());
    SendWithFds(client.fd(), frame, std::vector<int>(count, 0));
    EXPECT_TRUE(client.AtEnd()) << count;
  }
  // No frame is ever finished.
  RawClient slow(server_.path());
  ASSERT_TRUE(slow.Guest());
  const FrameHeader header{.len = kMaxFrame, .reqno = 2, .type = FrameType::kSyscall};
  SendWithFds(slow.fd(), {reinterpret_cast<const char*>(&header), sizeof header}, {0});
  for (size_t i = 0; i < limit; ++i) SendWithFds(slow.fd(), "x", {0});
  EXPECT_TRUE(slow.AtEnd());
}

TEST_F(HostCallsTest, UnusedDescriptorsAreDropped) {
  std::string memory;
  for (size_t i = 0; i < 3 * SessionLimits().received_fds; ++i) {
    EXPECT_EQ(client_.Finish(client_.SendCall(SYS_getpid, {}, 0), &memory).error, 0);
  }
}

TEST_F(OwnServerTest, DescriptorOfARefusedCallIsNotTheNextOnes) {
  ServerOptions options;
  options.limits.calls_in_flight = 1;
  const ServerThread busy(options);
  RawClient owner(busy.path());
  ASSERT_TRUE(owner.Guest("owner"));
  const HostSocketEnds socket = NewSocket(owner);
  RawClient heir(busy.path());
  ASSERT_TRUE(heir.Guest("heir"));
  std::string memory(64, '\0');
  ASSERT_EQ(heir.Finish(heir.SendCall(SYS_pipe, {0}), &memory).error, 0);
  const uint64_t read = heir.SendCall(SYS_read, {0, 0, 8});
  const uint64_t refused = heir.SendCall(kSysHostProve, {socket.object}, 0);
  const std::optional<RawFrame> answer = heir.Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.reqno, refused);
  EXPECT_EQ(answer->header.u, static_cast<uint32_t>(WireError::kTryAgain));
  heir.Send({.reqno = 700, .type = FrameType::kCancel},
            {reinterpret_cast<const char*>(&read), sizeof read});
  EXPECT_EQ(heir.Finish(read, &memory).error, EINTR);
  const uint64_t proof = heir.SendCall(kSysHostProve, {socket.object}, socket.c.get());
  EXPECT_EQ(heir.Finish(proof, &memory).error, 0);
}

// This process's descriptor of the other end of `c`: the server is one of its threads.
int EndSOf(const UniqueFd& c) {
  sockaddr_un name{};
  socklen_t size = sizeof name;
  getsockname(c.get(), reinterpret_cast<sockaddr*>(&name), &size);
  constexpr int kHighest = 1024;
  for (int fd = 0; fd < kHighest; ++fd) {
    sockaddr_un peer{};
    socklen_t peer_size = sizeof peer;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) == 0 && peer_size == size &&
        memcmp(&peer, &name, size) == 0) {
      return fd;
    }
  }
  return -1;
}

TEST_F(OwnServerTest, ConnectionsWaitForAListenersEnd) {
  ServerThread server;
  RawClient client(server.path());
  ASSERT_TRUE(client.Guest());
  const HostSocketEnds listener = NewSocket(client);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client, listener.object, &port), 0);
  // As good as no room for their records.
  const int smallest = 1;
  ASSERT_EQ(setsockopt(EndSOf(listener.c), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest), 0);
  constexpr int kConnections = 32;
  ASSERT_EQ(client.CallResult(SYS_listen, {listener.object, kConnections}).error, 0);
  std::vector<HostSocketEnds> connections;
  for (int i = 0; i < kConnections; ++i) {
    connections.push_back(NewSocket(client));
    ASSERT_EQ(Connect(client, connections.back(), port, kHostConnectNotify), 0) << i;
    ASSERT_EQ(send(connections.back().c.get(), &i, sizeof i, MSG_NOSIGNAL), sizeof i);
  }
  for (int i = 0; i < kConnections; ++i) {
    const UniqueFd accepted = Accept(listener.c);
    int got = -1;
    ASSERT_EQ(recv(accepted.get(), &got, sizeof got, MSG_WAITALL), sizeof got);
    EXPECT_EQ(got, i);
  }
}

// Descriptors that block whoever closes them, dropped in every way there is.
class BlockingCloseTest : public HostCallsTest {
 protected:
  // How many descriptors are being closed, as statistics say.
  int Closing() {
    static constexpr std::string_view kKey = "\"closing\":";
    std::string report;
    const auto kind = static_cast<uint64_t>(QueryKind::kStatisticsJson);
    const uint64_t reqno = client_.SendCall(kSysQuery, {kind, 1, 64 * 1024, 0});
    EXPECT_EQ(client_.Finish(reqno, &report).error, 0);
    const size_t at = report.find(kKey);
    return at == std::string::npos ? -1 : atoi(report.c_str() + at + kKey.size());
  }
  void AwaitClosing(int count) {
    for (int now = Closing(); now != count; now = Closing()) ASSERT_GE(now, 0);
  }
  // The server answers while the close of socket_ blocks.
  void ExpectClosingAside() {
    AwaitClosing(1);
    RawClient other(server_.path());
    EXPECT_TRUE(other.Guest());
    EXPECT_EQ(Closing(), 1);
    socket_.Drain();
    AwaitClosing(0);
  }
  // Sends `frame`, and with its start the socket, of which nothing is left here when the frame is
  // complete.
  void SendSocketWith(RawClient& client, const std::string& frame) {
    SendWithFds(client.fd(), frame.substr(0, 1), {socket_.fd.get()});
    socket_.fd.reset();
    client.SendBytes(frame.substr(1));
  }

  LingeringSocket socket_;
  RawClient sender_{server_.path()};
};

TEST_F(BlockingCloseTest, OfACallThatHasNoUseForIt) {
  ASSERT_TRUE(sender_.Guest());
  SendSocketWith(sender_, CallFrame(1, SYS_getpid));
  std::string memory;
  EXPECT_EQ(sender_.Finish(1, &memory).error, 0);
  ExpectClosingAside();
}

TEST_F(BlockingCloseTest, OfAProofThatIsNone) {
  ASSERT_TRUE(sender_.Guest());
  const HostSocketEnds socket = NewSocket(client_);
  SendSocketWith(sender_, CallFrame(1, kSysHostProve, {socket.object}));
  std::string memory;
  EXPECT_EQ(sender_.Finish(1, &memory).error, EBADF);
  ExpectClosingAside();
}

TEST_F(BlockingCloseTest, OfAClientThatHangsUp) {
  SendWithFds(sender_.fd(), "x", {socket_.fd.get()});
  socket_.fd.reset();
  sender_.Close();
  ExpectClosingAside();
}

TEST_F(BlockingCloseTest, OfAClientWithoutAHandshake) {
  SendSocketWith(sender_, CallFrame(1, SYS_getpid));
  EXPECT_TRUE(sender_.Receive().has_value());
  EXPECT_TRUE(sender_.AtEnd());
  ExpectClosingAside();
}

TEST_F(BlockingCloseTest, OfOneInAStream) {
  const HostSocketEnds listener = NewSocket(client_);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client_, listener.object, &port), 0);
  KeepInStack(client_, listener.object);
  ASSERT_EQ(client_.CallResult(SYS_listen, {listener.object, 1}).error, 0);
  const HostSocketEnds stream = NewSocket(client_);
  ASSERT_EQ(Connect(client_, stream, port, kHostConnectNotify), 0);
  const UniqueFd accepted = Accept(listener.c);
  // Behind another one, so that the server has it still when its last copy here goes.
  LingeringSocket first;
  SendWithFds(sender_.fd(), "x", {first.fd.get()});
  first.fd.reset();
  sender_.Close();
  AwaitClosing(1);
  SendWithFds(stream.c.get(), "hello", {socket_.fd.get()});
  AwaitClosing(2);
  socket_.fd.reset();
  first.Drain();
  std::string got(5, '\0');
  EXPECT_EQ(recv(accepted.get(), got.data(), got.size(), MSG_WAITALL), 5);
  EXPECT_EQ(got, "hello");
  ExpectClosingAside();
}

TEST_F(HostCallsTest, UnsupportedSocketsHaveTheirErrno) {
  EXPECT_EQ(client_.CallResult(kSysHostSocket, {AF_APPLETALK, SOCK_STREAM, 0}).error, EAFNOSUPPORT);
  EXPECT_EQ(client_.CallResult(kSysHostSocket, {AF_INET, 77, 0}).error, ESOCKTNOSUPPORT);
  EXPECT_EQ(client_.CallResult(kSysHostSocket, {AF_INET, SOCK_STREAM, IPPROTO_UDP}).error,
            EPROTONOSUPPORT);
}

// What a program has written before it closed is its peer's, whatever others ask for.
TEST_F(HostCallsTest, BytesLeftBehindAreSent) {
  const HostSocketEnds listener = NewSocket(client_);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client_, listener.object, &port), 0);
  KeepInStack(client_, listener.object);
  ASSERT_EQ(client_.CallResult(SYS_listen, {listener.object, 1}).error, 0);
  HostSocketEnds writer = NewSocket(client_);
  ASSERT_EQ(Connect(client_, writer, port, kHostConnectNotify), 0);
  const UniqueFd reader = Accept(listener.c);
  // Until neither the stack nor the descriptor takes more.
  const std::string chunk(64 * 1024, 'x');
  size_t written = 0;
  constexpr int kTurns = 100;
  for (int turns = 0; turns < kTurns;) {
    const ssize_t n = send(writer.c.get(), chunk.data(), chunk.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    turns = n > 0 ? 0 : turns + 1;
    if (n > 0) written += static_cast<size_t>(n);
    client_.CallResult(SYS_getpid, {});
  }
  writer.c.reset();
  RawClient other(server_.path());
  ASSERT_TRUE(other.Guest("other"));
  EXPECT_EQ(other.CallResult(kSysHostRelease, {writer.object}).error, 0);
  const HostSocketEnds late = NewSocket(other);
  EXPECT_EQ(Bind(other, late.object, &port), EADDRINUSE);
  size_t received = 0;
  std::string buffer(chunk.size(), '\0');
  for (;;) {
    const ssize_t n = recv(reader.get(), buffer.data(), buffer.size(), 0);
    ASSERT_GE(n, 0);
    if (n == 0) break;
    received += static_cast<size_t>(n);
  }
  EXPECT_EQ(received, written);
}

TEST_F(HostCallsTest, ConnectionShutDownByRequestEndsWithItsDescriptor) {
  const HostSocketEnds listener = NewSocket(client_);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client_, listener.object, &port), 0);
  KeepInStack(client_, listener.object);
  ASSERT_EQ(client_.CallResult(SYS_listen, {listener.object, 1}).error, 0);
  // More than there can be objects: none may be left behind.
  for (int i = 0; i < 10; ++i) {
    SyscallResultPayload made{.error = ENFILE};
    for (int tries = 0; tries < 10'000 && made.error == ENFILE; ++tries) {
      made = client_.CallResult(kSysHostSocket, {AF_INET, SOCK_STREAM, 0});
    }
    ASSERT_EQ(made.error, 0) << "connection " << i;
    const HostSocketEnds socket{made.retval[0], client_.TakeFd()};
    ASSERT_EQ(Connect(client_, socket, port, kHostConnectNotify), 0);
    const UniqueFd accepted = Accept(listener.c);
    EXPECT_EQ(client_.CallResult(SYS_shutdown, {made.retval[0], SHUT_RDWR}).error, 0);
    char byte;
    EXPECT_EQ(recv(accepted.get(), &byte, 1, 0), 0);
    // The descriptor sees it as well, as natively.
    EXPECT_EQ(recv(socket.c.get(), &byte, 1, 0), 0);
    EXPECT_EQ(send(socket.c.get(), "x", 1, MSG_NOSIGNAL), -1);
    EXPECT_EQ(errno, EPIPE);
  }
}

TEST_F(HostCallsTest, DirectPairsAreShutDownByTheirPrograms) {
  const HostSocketEnds listener = NewSocket(client_);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client_, listener.object, &port), 0);
  ASSERT_EQ(client_.CallResult(SYS_listen, {listener.object, 1}).error, 0);
  // More than there can be objects: what nobody has any more is found in time.
  for (int i = 0; i < 20; ++i) {
    const HostSocketEnds connector = NewSocket(client_);
    ASSERT_TRUE(connector.c.valid()) << "connection " << i;
    ASSERT_EQ(send(connector.c.get(), "ab", 2, MSG_NOSIGNAL), 2) << "before it is connected";
    ASSERT_EQ(Connect(client_, connector, port, kHostConnectNotify), 0);
    const UniqueFd accepted = Accept(listener.c);
    char bytes[8];
    EXPECT_EQ(recv(accepted.get(), bytes, sizeof bytes, 0), 2) << "no byte of ours comes along";
    EXPECT_EQ(client_.CallResult(SYS_shutdown, {connector.object, SHUT_RDWR}).error, EOPNOTSUPP);
    shutdown(connector.c.get(), SHUT_WR);
    EXPECT_EQ(recv(accepted.get(), bytes, sizeof bytes, 0), 0);
    EXPECT_EQ(send(accepted.get(), "x", 1, MSG_NOSIGNAL), 1);
    EXPECT_EQ(recv(connector.c.get(), bytes, sizeof bytes, 0), 1);
  }
}

TEST_F(HostCallsTest, DirectPairsConnectOnce) {
  const HostSocketEnds listener = NewSocket(client_);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client_, listener.object, &port), 0);
  ASSERT_EQ(client_.CallResult(SYS_listen, {listener.object, 1}).error, 0);
  HostSocketEnds connector = NewSocket(client_);
  ASSERT_EQ(Connect(client_, connector, port, kHostConnectNotify), 0);
  UniqueFd accepted = Accept(listener.c);
  std::string unspecified(sizeof(sockaddr_in), '\0');
  EXPECT_EQ(client_
                .Finish(client_.SendCall(kSysHostConnect,
                                         {connector.object, 0, unspecified.size(), 0, 0}),
                        &unspecified)
                .error,
            EOPNOTSUPP);
  EXPECT_EQ(Connect(client_, connector, port, 0), EISCONN);
  EXPECT_EQ(client_.CallResult(SYS_listen, {connector.object, 1}).error, EINVAL);
  accepted.reset();
  connector.c.reset();
  client_.CallResult(kSysHostRelease, {connector.object});
  EXPECT_EQ(client_.CallResult(SYS_listen, {connector.object, 1}).error, EBADF);
}

// Those behind what a listener's program has been sent ahead, whose other end is in a queue.
TEST_F(OwnServerTest, DirectPairsEndBeforeTheyAreAccepted) {
  const ServerThread server;
  RawClient client(server.path());
  ASSERT_TRUE(client.Guest("client"));
  HostSocketEnds listener = NewSocket(client);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client, listener.object, &port), 0);
  ASSERT_EQ(client.CallResult(SYS_listen, {listener.object, 100}).error, 0);
  constexpr int kAhead = 64;
  std::vector<HostSocketEnds> sockets;
  for (int i = 0; i < kAhead + 3; ++i) {
    sockets.push_back(NewSocket(client));
    ASSERT_EQ(Connect(client, sockets.back(), port, 0), 0);
  }
  // One is dissolved, and its other end is found reset when it is accepted.
  const HostSocketEnds& dissolved = sockets[kAhead];
  std::string nowhere(sizeof(sockaddr_in), '\0');
  const uint64_t call =
      client.SendCall(kSysHostConnect, {dissolved.object, 0, nowhere.size(), 0, 0});
  EXPECT_EQ(client.Finish(call, &nowhere).error, 0);
  for (int i = 0; i < kAhead; ++i) EXPECT_TRUE(Accept(listener.c).valid());
  const UniqueFd reset = Accept(listener.c);
  char byte = 0;
  EXPECT_EQ(read(reset.get(), &byte, 1), -1);
  EXPECT_EQ(errno, ECONNRESET);
  // One is closed before.
  sockets[kAhead + 1].c.reset();
  const UniqueFd closed = Accept(listener.c);
  EXPECT_EQ(read(closed.get(), &byte, 1), 0);
  // What nobody accepts ends with the listener.
  while (sockets.size() < 2 * kAhead + 3) {
    sockets.push_back(NewSocket(client));
    ASSERT_EQ(Connect(client, sockets.back(), port, 0), 0);
  }
  listener.c.reset();
  EXPECT_EQ(client.CallResult(kSysHostRelease, {listener.object}).error, 0);
  for (size_t i = kAhead + 2; i < sockets.size(); ++i) {
    EXPECT_LE(read(sockets[i].c.get(), &byte, 1), 0);
  }
}

TEST_F(HostCallsTest, NobodyReportsJunkWithoutEnd) {
  const HostSocketEnds socket = NewSocket(client_);
  for (const uint64_t bytes : {(uint64_t{64} << 10) + 1, uint64_t{1} << 31, ~uint64_t{0}}) {
    EXPECT_EQ(client_.CallResult(kSysHostConnectFill, {socket.object, bytes}).error, EINVAL);
  }
}

TEST_F(HostCallsTest, ShutdownOfAListenerEndsWaitingForConnections) {
  const HostSocketEnds listener = NewSocket(client_);
  ASSERT_EQ(client_.CallResult(SYS_listen, {listener.object, 1}).error, 0);
  EXPECT_EQ(client_.CallResult(SYS_shutdown, {listener.object, SHUT_RD}).error, 0);
  char byte;
  EXPECT_EQ(recv(listener.c.get(), &byte, 1, 0), 0);
  EXPECT_EQ(client_.CallResult(SYS_listen, {listener.object, 1}).error, EINVAL);
}

TEST_F(HostCallsTest, ConnectionThatFailedCannotBeUsedAgain) {
  HostSocketEnds closed = NewSocket(client_);
  uint16_t port = 0;
  ASSERT_EQ(Bind(client_, closed.object, &port), 0);
  const HostSocketEnds socket = NewSocket(client_);
  ASSERT_EQ(Connect(client_, socket, port, 0), EINPROGRESS);
  pollfd p{.fd = socket.c.get(), .events = 0, .revents = 0};
  ASSERT_EQ(poll(&p, 1, -1), 1);
  EXPECT_EQ(p.revents, POLLERR | POLLHUP);
  EXPECT_EQ(Connect(client_, socket, port, 0), ECONNREFUSED) << "the outcome, once";
  EXPECT_EQ(Connect(client_, socket, port, 0), ECONNABORTED);
  EXPECT_EQ(client_.CallResult(SYS_listen, {socket.object, 1}).error, EINVAL);
}

// What has been passed on takes none of the little room for longer than that.
TEST_F(HostCallsTest, SmallSendBufferIsSoonWritableAgain) {
  uint16_t port = 0;
  const HostSocketEnds listener = Listen(client_, &port, /*in_stack=*/true);
  const HostSocketEnds socket = NewSocket(client_);
  ASSERT_EQ(Connect(client_, socket, port, kHostConnectNotify), 0);
  const UniqueFd accepted = Accept(listener.c);
  constexpr int kSmall = 1;
  std::string memory(reinterpret_cast<const char*>(&kSmall), sizeof kSmall);
  const uint64_t call =
      client_.SendCall(SYS_setsockopt, {socket.object, SOL_SOCKET, SO_SNDBUF, 0, sizeof kSmall});
  ASSERT_EQ(client_.Finish(call, &memory).error, 0);
  const auto size =
      static_cast<int>(client_.CallResult(kSysHostSendBuffer, {socket.object}).retval[0]);
  ASSERT_EQ(setsockopt(socket.c.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  const auto begin = std::chrono::steady_clock::now();
  std::string buffer(40'000, 'x');
  const auto pass = [&](size_t bytes) {
    pollfd p{.fd = socket.c.get(), .events = POLLOUT, .revents = 0};
    ASSERT_EQ(poll(&p, 1, -1), 1);
    ASSERT_EQ(send(socket.c.get(), buffer.data(), bytes, MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes));
    ASSERT_EQ(recv(accepted.get(), buffer.data(), bytes, MSG_WAITALL), static_cast<ssize_t>(bytes));
  };
  for (int round = 0; round < 10; ++round) {
    pass(32'000);
    for (const size_t bytes : {1, 270, 500, 1030, 4095}) {
      for (int i = 0; i < 20; ++i) pass(bytes);
    }
  }
  // It would be a tenth of a second for each wait.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(2500));
}

TEST_F(HostCallsTest, JunkOnAFreshSocketIsNobodysData) {
  for (const bool direct : {true, false}) {
    const HostSocketEnds listener = NewSocket(client_);
    if (!direct) KeepInStack(client_, listener.object);
    uint16_t port = 0;
    ASSERT_EQ(Bind(client_, listener.object, &port), 0);
    ASSERT_EQ(client_.CallResult(SYS_listen, {listener.object, 1}).error, 0);
    const HostSocketEnds socket = NewSocket(client_);
    EXPECT_EQ(client_.CallResult(kSysHostConnectFill, {socket.object, 1}).error, ENOTCONN);
    ASSERT_EQ(Connect(client_, socket, port, kHostConnectNotify), 0);
    const UniqueFd accepted = Accept(listener.c);
    EXPECT_EQ(send(socket.c.get(), "x", 1, MSG_NOSIGNAL), 1);
    char bytes[2] = {};
    EXPECT_EQ(recv(accepted.get(), bytes, sizeof bytes, 0), 1) << direct;
    EXPECT_EQ(bytes[0], 'x');
    EXPECT_EQ(send(accepted.get(), "y", 1, MSG_NOSIGNAL), 1);
    EXPECT_EQ(recv(socket.c.get(), bytes, sizeof bytes, 0), 1) << direct;
    EXPECT_EQ(bytes[0], 'y');
  }
}

// Sockets made while connections are direct pairs have none, and are not connected without.
TEST_F(HostCallsTest, ConnectionInTheStackNeedsAByte) {
  uint16_t direct_port = 0;
  const HostSocketEnds direct_listener = Listen(client_, &direct_port);
  uint16_t port = 0;
  const HostSocketEnds listener = Listen(client_, &port, /*in_stack=*/true);
  const HostSocketEnds direct = NewSocket(client_);
  ASSERT_EQ(Connect(client_, direct, direct_port, kHostConnectNotify), 0);
  const UniqueFd direct_accepted = Accept(direct_listener.c);
  const HostSocketEnds socket = NewSocket(client_);
  const auto connect = [&](uint64_t flags) {
    std::string memory = Address(port);
    const uint64_t call =
        client_.SendCall(kSysHostConnect, {socket.object, 0, memory.size(), flags, AF_INET});
    return client_.Finish(call, &memory);
  };
  for (int i = 0; i < 3; ++i) {
    const SyscallResultPayload result = connect(kHostConnectNotify);
    EXPECT_EQ(result.error, 0);
    EXPECT_EQ(result.retval[0], kHostConnectNeedsByte);
    EXPECT_FALSE(client_.TakeFd().valid()) << "no spare for what is not connected";
  }
  char bytes[8];
  EXPECT_EQ(recv(listener.c.get(), bytes, sizeof bytes, MSG_DONTWAIT), -1) << "nobody connects";
  ASSERT_EQ(send(socket.c.get(), "", 1, MSG_NOSIGNAL), 1);
  const SyscallResultPayload result = connect(kHostConnectNotify | kHostConnectByte);
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.retval[0], kHostConnectedAtOnce);
  const UniqueFd accepted = Accept(listener.c);
  ASSERT_EQ(send(socket.c.get(), "ab", 2, MSG_NOSIGNAL), 2);
  EXPECT_EQ(recv(accepted.get(), bytes, sizeof bytes, 0), 2);
}

}  // namespace
}  // namespace rump
