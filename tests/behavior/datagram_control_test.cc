// What comes and goes beside the bytes of datagrams: ip(7), ipv6(7), recvmsg(2), sendmsg(2).
#include <sys/time.h>
#include <time.h>

// Needs timespec.
#include <linux/errqueue.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// A UDP socket bound to the loopback address of its domain.
Fd Bound(int domain = AF_INET) {
  Fd fd(socket(domain, SOCK_DGRAM, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  const sockaddr_in in = Loopback(0);
  if (domain == AF_INET) {
    EXPECT_THAT(bind(fd.get(), Addr(in), sizeof in), Succeeds());
  } else {
    EXPECT_THAT(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), Succeeds());
  }
  return fd;
}

void Set(const Fd& fd, int level, int option, int value = 1) {
  ASSERT_THAT(setsockopt(fd.get(), level, option, &value, sizeof value), Succeeds());
}

// A datagram with all that came with it.
struct Message {
  std::string data;
  int flags = 0;
  sockaddr_in6 from{};  // large enough for both
  size_t control_size = 0;
  struct Control {
    int level;
    int type;
    std::string value;
  };
  std::vector<Control> control;

  template <typename T>
  std::optional<T> Get(int level, int type) const {
    for (const Control& c : control) {
      if (c.level != level || c.type != type) continue;
      EXPECT_EQ(c.value.size(), sizeof(T));
      T value;
      memcpy(&value, c.value.data(), sizeof value);
      return value;
    }
    return std::nullopt;
  }
};

std::optional<Message> Receive(const Fd& fd, int flags = 0, size_t control_room = 512) {
  alignas(cmsghdr) char control[512];
  char data[64];
  iovec iov{data, sizeof data};
  Message message;
  msghdr msg{};
  msg.msg_name = &message.from;
  msg.msg_namelen = sizeof message.from;
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = control_room;
  const ssize_t n = recvmsg(fd.get(), &msg, flags);
  if (n < 0) return std::nullopt;
  message.data.assign(data, static_cast<size_t>(n));
  message.flags = msg.msg_flags;
  message.control_size = msg.msg_controllen;
  for (cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr; c = CMSG_NXTHDR(&msg, c)) {
    const auto* value = reinterpret_cast<const char*>(CMSG_DATA(c));
    message.control.push_back(
        {c->cmsg_level, c->cmsg_type, std::string(value, c->cmsg_len - CMSG_LEN(0))});
  }
  return message;
}

template <typename T>
ssize_t SendWith(const Fd& fd, const sockaddr* to, socklen_t to_len, int level, int type,
                 const T& value) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof value)] = {};
  char data[] = "data";
  iovec iov{data, 4};
  msghdr msg{};
  msg.msg_name = const_cast<sockaddr*>(to);
  msg.msg_namelen = to_len;
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&msg);
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(sizeof value);
  memcpy(CMSG_DATA(c), &value, sizeof value);
  return sendmsg(fd.get(), &msg, 0);
}

void SendTo(const Fd& from, uint16_t port) {
  const sockaddr_in to = Loopback(port);
  ASSERT_EQ(sendto(from.get(), "data", 4, 0, Addr(to), sizeof to), 4);
}

sockaddr_in6 NameOf(const Fd& fd) {
  sockaddr_in6 name{};
  socklen_t size = sizeof name;
  EXPECT_THAT(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size), Succeeds());
  return name;
}

TEST(Control, NothingIsToldUnasked) {
  const Fd fd = Bound();
  SendTo(fd, PortOf(fd));
  const auto message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->data, "data");
  EXPECT_EQ(message->control_size, 0U);
  EXPECT_EQ(message->flags, 0);
}

TEST(Control, PacketInfo) {
  const Fd fd(socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in any = Loopback(0);
  any.sin_addr.s_addr = INADDR_ANY;
  ASSERT_THAT(bind(fd.get(), Addr(any), sizeof any), Succeeds());
  Set(fd, IPPROTO_IP, IP_PKTINFO);
  sockaddr_in to = Loopback(PortOf(fd));
  to.sin_addr.s_addr = htonl(0x7f000007);
  ASSERT_EQ(sendto(fd.get(), "x", 1, 0, Addr(to), sizeof to), 1);
  const auto message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  const auto info = message->Get<in_pktinfo>(IPPROTO_IP, IP_PKTINFO);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->ipi_ifindex, 1);
  EXPECT_EQ(info->ipi_addr.s_addr, to.sin_addr.s_addr);
  EXPECT_EQ(info->ipi_spec_dst.s_addr, to.sin_addr.s_addr);
}

TEST(Control, TtlAndTos) {
  const Fd fd = Bound();
  Set(fd, IPPROTO_IP, IP_RECVTTL);
  Set(fd, IPPROTO_IP, IP_RECVTOS);
  const Fd sender = Bound();
  Set(sender, IPPROTO_IP, IP_TTL, 17);
  Set(sender, IPPROTO_IP, IP_TOS, 0x20);
  SendTo(sender, PortOf(fd));
  const auto message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->Get<int>(IPPROTO_IP, IP_TTL), 17);
  EXPECT_EQ(message->Get<uint8_t>(IPPROTO_IP, IP_TOS), 0x20);
}

TEST(Control, DestinationAddress) {
  const Fd fd = Bound();
  Set(fd, IPPROTO_IP, IP_RECVORIGDSTADDR);
  SendTo(fd, PortOf(fd));
  const auto message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  const auto to = message->Get<sockaddr_in>(IPPROTO_IP, IP_ORIGDSTADDR);
  ASSERT_TRUE(to.has_value());
  EXPECT_EQ(ntohs(to->sin_port), PortOf(fd));
  EXPECT_EQ(ntohl(to->sin_addr.s_addr), INADDR_LOOPBACK);
}

TEST(Control, Timestamps) {
  const Fd fd = Bound();
  timespec before;
  clock_gettime(CLOCK_REALTIME, &before);
  Set(fd, SOL_SOCKET, SO_TIMESTAMP);
  SendTo(fd, PortOf(fd));
  auto message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  const auto micro = message->Get<timeval>(SOL_SOCKET, SCM_TIMESTAMP);
  ASSERT_TRUE(micro.has_value());
  EXPECT_GE(micro->tv_sec, before.tv_sec - 1);
  EXPECT_LT(micro->tv_sec, before.tv_sec + 100);
  Set(fd, SOL_SOCKET, SO_TIMESTAMPNS);
  SendTo(fd, PortOf(fd));
  message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  const auto nano = message->Get<timespec>(SOL_SOCKET, SCM_TIMESTAMPNS);
  ASSERT_TRUE(nano.has_value());
  EXPECT_GE(nano->tv_sec, before.tv_sec);
  EXPECT_FALSE(message->Get<timeval>(SOL_SOCKET, SCM_TIMESTAMP).has_value());
}

TEST(Control, OfIpv6) {
  const Fd fd = Bound(AF_INET6);
  Set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
  Set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
  Set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS);
  const Fd sender = Bound(AF_INET6);
  Set(sender, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
  Set(sender, IPPROTO_IPV6, IPV6_TCLASS, 0x40);
  const sockaddr_in6 to = NameOf(fd);
  const auto* name = reinterpret_cast<const sockaddr*>(&to);
  ASSERT_EQ(sendto(sender.get(), "x", 1, 0, name, sizeof to), 1);
  auto message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  const auto info = message->Get<in6_pktinfo>(IPPROTO_IPV6, IPV6_PKTINFO);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->ipi6_ifindex, 1U);
  EXPECT_TRUE(IN6_IS_ADDR_LOOPBACK(&info->ipi6_addr));
  EXPECT_EQ(message->Get<int>(IPPROTO_IPV6, IPV6_HOPLIMIT), 9);
  EXPECT_EQ(message->Get<int>(IPPROTO_IPV6, IPV6_TCLASS), 0x40);

  EXPECT_EQ(SendWith(sender, name, sizeof to, IPPROTO_IPV6, IPV6_HOPLIMIT, int{3}), 4);
  EXPECT_EQ(Receive(fd)->Get<int>(IPPROTO_IPV6, IPV6_HOPLIMIT), 3);
  EXPECT_EQ(SendWith(sender, name, sizeof to, IPPROTO_IPV6, IPV6_TCLASS, int{8}), 4);
  EXPECT_EQ(Receive(fd)->Get<int>(IPPROTO_IPV6, IPV6_TCLASS), 8);
  EXPECT_THAT(SendWith(sender, name, sizeof to, IPPROTO_IPV6, IPV6_HOPLIMIT, int{256}),
              FailsWith(EINVAL));
  const Fd plain(socket(AF_INET6, SOCK_DGRAM, 0));
  in6_pktinfo source{};
  source.ipi6_addr = in6addr_loopback;
  EXPECT_EQ(SendWith(plain, name, sizeof to, IPPROTO_IPV6, IPV6_PKTINFO, source), 4);
  message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  EXPECT_TRUE(IN6_IS_ADDR_LOOPBACK(&message->from.sin6_addr));
}

TEST(Control, SentPacketInfoChoosesTheSource) {
  const Fd fd = Bound();
  const Fd sender(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in to = Loopback(PortOf(fd));
  in_pktinfo info{};
  info.ipi_spec_dst.s_addr = htonl(0x7f000009);
  ASSERT_EQ(SendWith(sender, Addr(to), sizeof to, IPPROTO_IP, IP_PKTINFO, info), 4);
  const auto message = Receive(fd);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(reinterpret_cast<const sockaddr_in&>(message->from).sin_addr.s_addr,
            info.ipi_spec_dst.s_addr);
}

TEST(Control, SentTtlAndTosHoldForOneDatagram) {
  const Fd fd = Bound();
  Set(fd, IPPROTO_IP, IP_RECVTTL);
  Set(fd, IPPROTO_IP, IP_RECVTOS);
  const Fd sender = Bound();
  const sockaddr_in to = Loopback(PortOf(fd));
  ASSERT_EQ(SendWith(sender, Addr(to), sizeof to, IPPROTO_IP, IP_TTL, int{5}), 4);
  EXPECT_EQ(Receive(fd)->Get<int>(IPPROTO_IP, IP_TTL), 5);
  ASSERT_EQ(SendWith(sender, Addr(to), sizeof to, IPPROTO_IP, IP_TOS, int{0x10}), 4);
  EXPECT_EQ(Receive(fd)->Get<uint8_t>(IPPROTO_IP, IP_TOS), 0x10);
  ASSERT_EQ(SendWith(sender, Addr(to), sizeof to, IPPROTO_IP, IP_TOS, uint8_t{0x18}), 4);
  EXPECT_EQ(Receive(fd)->Get<uint8_t>(IPPROTO_IP, IP_TOS), 0x18);
  SendTo(sender, PortOf(fd));
  EXPECT_EQ(Receive(fd)->Get<int>(IPPROTO_IP, IP_TTL), 64);
}

TEST(Control, BadOnesAreRefused) {
  const Fd fd = Bound();
  const sockaddr_in to = Loopback(PortOf(fd));
  EXPECT_THAT(SendWith(fd, Addr(to), sizeof to, IPPROTO_IP, IP_TTL, int{0}), FailsWith(EINVAL));
  EXPECT_THAT(SendWith(fd, Addr(to), sizeof to, IPPROTO_IP, IP_TTL, int{256}), FailsWith(EINVAL));
  EXPECT_THAT(SendWith(fd, Addr(to), sizeof to, IPPROTO_IP, 99, int{1}), FailsWith(EINVAL));
  // Of another protocol they are nobody's business.
  EXPECT_EQ(SendWith(fd, Addr(to), sizeof to, IPPROTO_TCP, 99, int{1}), 4);
  alignas(cmsghdr) char control[CMSG_SPACE(4)] = {};
  char data[] = "x";
  iovec iov{data, 1};
  msghdr msg{};
  msg.msg_name = const_cast<sockaddr_in*>(&to);
  msg.msg_namelen = sizeof to;
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  for (const size_t length : {size_t{0}, size_t{15}, size_t{1000}}) {
    CMSG_FIRSTHDR(&msg)->cmsg_len = length;
    EXPECT_THAT(sendmsg(fd.get(), &msg, 0), FailsWith(EINVAL)) << length;
  }
}

TEST(Control, WhatHasNoRoomIsCut) {
  const Fd fd = Bound();
  Set(fd, IPPROTO_IP, IP_PKTINFO);
  Set(fd, IPPROTO_IP, IP_RECVTTL);
  const auto receive = [&](size_t room) {
    SendTo(fd, PortOf(fd));
    return *Receive(fd, 0, room);
  };
  Message message = receive(CMSG_SPACE(sizeof(in_pktinfo)));
  EXPECT_EQ(message.flags, MSG_CTRUNC);
  EXPECT_EQ(message.control_size, CMSG_SPACE(sizeof(in_pktinfo)));
  ASSERT_EQ(message.control.size(), 1U);
  // A part of the first one.
  message = receive(CMSG_LEN(4));
  EXPECT_EQ(message.flags, MSG_CTRUNC);
  EXPECT_EQ(message.control_size, CMSG_LEN(4));
  ASSERT_EQ(message.control.size(), 1U);
  EXPECT_EQ(message.control[0].value.size(), 4U);
  // Nothing but the padding behind the last one.
  constexpr size_t kUnpadded = CMSG_SPACE(sizeof(in_pktinfo)) + CMSG_LEN(sizeof(int));
  message = receive(kUnpadded);
  EXPECT_EQ(message.flags, 0);
  EXPECT_EQ(message.control_size, kUnpadded);
  EXPECT_EQ(message.control.size(), 2U);
  EXPECT_EQ(message.Get<int>(IPPROTO_IP, IP_TTL), 64);
  message = receive(8);
  EXPECT_EQ(message.flags, MSG_CTRUNC);
  EXPECT_EQ(message.control_size, 0U);
  EXPECT_EQ(message.data, "data");
}

TEST(Control, PeekTellsItToo) {
  const Fd fd = Bound();
  Set(fd, IPPROTO_IP, IP_RECVTTL);
  SendTo(fd, PortOf(fd));
  EXPECT_EQ(Receive(fd, MSG_PEEK)->Get<int>(IPPROTO_IP, IP_TTL), 64);
  EXPECT_EQ(Receive(fd)->Get<int>(IPPROTO_IP, IP_TTL), 64);
}

TEST(Control, OfSeveralMessagesAtOnce) {
  const Fd fd = Bound();
  Set(fd, IPPROTO_IP, IP_RECVTTL);
  const Fd sender = Bound();
  const sockaddr_in to = Loopback(PortOf(fd));
  constexpr int kCount = 3;
  struct Slot {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    char data[8];
    iovec iov;
  };
  std::array<Slot, kCount> slots{};
  std::array<mmsghdr, kCount> messages{};
  for (int i = 0; i < kCount; ++i) {
    slots[i].data[0] = static_cast<char>('a' + i);
    slots[i].iov = {slots[i].data, static_cast<size_t>(i + 1)};
    msghdr& header = messages[i].msg_hdr;
    header.msg_name = const_cast<sockaddr_in*>(&to);
    header.msg_namelen = sizeof to;
    header.msg_iov = &slots[i].iov;
    header.msg_iovlen = 1;
    header.msg_control = slots[i].control;
    header.msg_controllen = sizeof slots[i].control;
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = IPPROTO_IP;
    c->cmsg_type = IP_TTL;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    const int ttl = 10 + i;
    memcpy(CMSG_DATA(c), &ttl, sizeof ttl);
  }
  ASSERT_EQ(sendmmsg(sender.get(), messages.data(), kCount, 0), kCount);
  for (int i = 0; i < kCount; ++i) EXPECT_EQ(messages[i].msg_len, static_cast<unsigned>(i + 1));
  for (int i = 0; i < kCount; ++i) {
    slots[i] = {};
    slots[i].iov = {slots[i].data, sizeof slots[i].data};
    messages[i].msg_hdr.msg_name = nullptr;
  }
  ASSERT_EQ(recvmmsg(fd.get(), messages.data(), kCount, 0, nullptr), kCount);
  for (int i = 0; i < kCount; ++i) {
    EXPECT_EQ(messages[i].msg_len, static_cast<unsigned>(i + 1));
    EXPECT_EQ(slots[i].data[0], 'a' + i);
    const cmsghdr* c = CMSG_FIRSTHDR(&messages[i].msg_hdr);
    ASSERT_NE(c, nullptr);
    int ttl;
    memcpy(&ttl, CMSG_DATA(c), sizeof ttl);
    EXPECT_EQ(ttl, 10 + i);
  }
}

// --- Errors ---

uint16_t ClosedPort() {
  const Fd gone = Bound();
  return PortOf(gone);
}

TEST(ErrorQueue, IsEmptyAndNeverWaits) {
  const Fd fd = Bound();
  EXPECT_FALSE(Receive(fd, MSG_ERRQUEUE).has_value());
  EXPECT_EQ(errno, EAGAIN);
}

TEST(ErrorQueue, UnconnectedSocketsHearOfErrorsOnRequestOnly) {
  const Fd fd = Bound();
  SendTo(fd, ClosedPort());
  EXPECT_EQ(PollFor(fd.get(), POLLIN, kBriefly), 0);
  Set(fd, IPPROTO_IP, IP_RECVERR);
  SendTo(fd, ClosedPort());
  EXPECT_NE(PollFor(fd.get(), POLLIN, kPatience), 0);
  EXPECT_FALSE(Receive(fd).has_value());
  EXPECT_EQ(errno, ECONNREFUSED);
}

TEST(ErrorQueue, TellsWhatBecameOfADatagram) {
  const Fd fd = Bound();
  Set(fd, IPPROTO_IP, IP_RECVERR);
  const uint16_t port = ClosedPort();
  SendTo(fd, port);
  EXPECT_NE(PollFor(fd.get(), POLLIN, kPatience), 0);
  const auto message = Receive(fd, MSG_ERRQUEUE);
  ASSERT_TRUE(message.has_value());
  EXPECT_NE(message->flags & MSG_ERRQUEUE, 0);
  EXPECT_EQ(ntohs(reinterpret_cast<const sockaddr_in&>(message->from).sin_port), port);
  struct Error {
    sock_extended_err error;
    sockaddr_in offender;
  };
  const auto error = message->Get<Error>(IPPROTO_IP, IP_RECVERR);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->error.ee_errno, static_cast<uint32_t>(ECONNREFUSED));
  EXPECT_EQ(error->error.ee_origin, SO_EE_ORIGIN_ICMP);
  EXPECT_EQ(error->error.ee_type, 3);
  EXPECT_EQ(error->error.ee_code, 3);
  EXPECT_EQ(ntohl(error->offender.sin_addr.s_addr), INADDR_LOOPBACK);
  // Once.
  EXPECT_FALSE(Receive(fd, MSG_ERRQUEUE).has_value());
  EXPECT_FALSE(Receive(fd, MSG_DONTWAIT).has_value());
  EXPECT_EQ(errno, EAGAIN);
}

TEST(ErrorQueue, SoErrorTakesTheErrorOnce) {
  const Fd fd = Bound();
  const sockaddr_in to = Loopback(ClosedPort());
  ASSERT_THAT(connect(fd.get(), Addr(to), sizeof to), Succeeds());
  ASSERT_EQ(send(fd.get(), "x", 1, 0), 1);
  EXPECT_NE(PollFor(fd.get(), POLLIN, kPatience), 0);
  for (const int expected : {ECONNREFUSED, 0}) {
    int error = -1;
    socklen_t size = sizeof error;
    ASSERT_THAT(getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size), Succeeds());
    EXPECT_EQ(error, expected);
  }
  char byte;
  EXPECT_THAT(recv(fd.get(), &byte, 1, MSG_DONTWAIT), FailsWith(EAGAIN));
}

TEST(ErrorQueue, SendingTellsOfTheDatagramBefore) {
  const Fd fd = Bound();
  const sockaddr_in to = Loopback(ClosedPort());
  ASSERT_THAT(connect(fd.get(), Addr(to), sizeof to), Succeeds());
  ASSERT_EQ(send(fd.get(), "x", 1, 0), 1);
  EXPECT_NE(PollFor(fd.get(), POLLIN, kPatience), 0);
  EXPECT_THAT(send(fd.get(), "x", 1, 0), FailsWith(ECONNREFUSED));
  EXPECT_EQ(send(fd.get(), "x", 1, 0), 1);
}

}  // namespace
}  // namespace rump
