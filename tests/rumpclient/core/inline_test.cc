// Requests that carry memory, and answers that do.
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "rumpclient/core/connection.h"
#include "tests/rumpclient/core/test_client.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {
namespace {

constexpr char kBanner[] = "RUMPSP-0.4-Linux-6.1.0/x86_64 +inline\n";

std::string Block(const void* addr, std::string_view bytes) {
  const CopyPayload range = {bytes.size(), Address(addr)};
  return std::string(BytesAt(&range, sizeof range)).append(bytes);
}

std::string Block(const void* bytes, size_t size) { return Block(bytes, BytesAt(bytes, size)); }

// What stands behind the slots of a request.
std::string BlocksOf(const ReceivedFrame& call, uint32_t slots) {
  InlineTrailer trailer;
  EXPECT_LE(slots * sizeof(uint64_t) + sizeof trailer, call.payload.size());
  const size_t end = call.payload.size() - sizeof trailer;
  memcpy(&trailer, call.payload.data() + end, sizeof trailer);
  EXPECT_EQ(slots, trailer.slots);
  const size_t begin = slots * sizeof(uint64_t);
  return trailer.blocks == 0 ? "" : call.payload.substr(begin, end - begin);
}

void Answer(FakePeer* peer, const ReceivedFrame& call, uint64_t retval,
            const std::string& blocks = "") {
  const SyscallResultPayload result = {.retval = {retval, 0}};
  peer->Send(Frame(FrameClass::kResponse, FrameType::kInline, call.header.reqno, 0,
                   std::string(BytesAt(&result, sizeof result)) + blocks));
}

class InlineTest : public testing::TestWithParam<Transport> {};
INSTANTIATE_TEST_SUITE_P(All, InlineTest, testing::Values(Transport::kUnix, Transport::kTcp));

TEST_P(InlineTest, MemoryGoesAlong) {
  const std::string text = "text";
  const std::string most(64 * 1024, 'm');
  char into[16] = "aaaaaaaaaaaaaaa";
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome(kBanner);
        auto call = peer->ExpectRequest(FrameType::kInline);
        EXPECT_EQ(Block(text.data(), text), BlocksOf(call, 3));
        Answer(peer, call, 4);
        call = peer->ExpectRequest(FrameType::kInline);
        EXPECT_TRUE(Block(most.data(), most) == BlocksOf(call, 3));
        Answer(peer, call, most.size());
        call = peer->ExpectRequest(FrameType::kInline);
        EXPECT_EQ("", BlocksOf(call, 3)) << "a read's buffer";
        Answer(peer, call, 3, Block(into + 1, "bc") + Block(into + 4, "d"));
        call = peer->ExpectRequest(FrameType::kSyscall);
        peer->Answer(call, 1);
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  client.Succeed(Write(text.data(), text.size()), 4);
  client.Succeed(Write(most.data(), most.size()), most.size());
  client.Succeed(Read(into, 15), 3);
  EXPECT_STREQ("abcadaaaaaaaaaa", into);
  client.Succeed(MakeCall(SYS_getpid), 1);
}

TEST_P(InlineTest, AnswerOfManyReads) {
  std::string data(64 * 1024, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 / 7);
  std::string into(data.size(), '\0');
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome(kBanner);
        const auto call = peer->ExpectRequest(FrameType::kInline);
        Answer(peer, call, data.size(), Block(into.data(), data));
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  client.Succeed(Read(into.data(), into.size()), data.size());
  EXPECT_TRUE(data == into);
}

TEST(InlineRequestTest, MemoryThatOtherMemoryNames) {
  char head[] = "head";
  char body[] = "body";
  sockaddr name = {};
  iovec parts[2] = {{head, 4}, {body, 4}};
  msghdr message = {};
  message.msg_name = &name;
  message.msg_namelen = sizeof name;
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  socklen_t size = sizeof name;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome(kBanner);
    auto call = peer->ExpectRequest(FrameType::kInline);
    EXPECT_EQ(Block(parts, sizeof parts) + Block(head, 4) + Block(body, 4), BlocksOf(call, 3));
    Answer(peer, call, 8);
    call = peer->ExpectRequest(FrameType::kInline);
    EXPECT_EQ(Block(&message, sizeof message) + Block(&name, sizeof name) +
                  Block(parts, sizeof parts) + Block(head, 4) + Block(body, 4),
              BlocksOf(call, 3));
    Answer(peer, call, 8);
    call = peer->ExpectRequest(FrameType::kInline);
    EXPECT_EQ(Block(&message, sizeof message) + Block(parts, sizeof parts), BlocksOf(call, 3))
        << "to receive, what is named is not read";
    Answer(peer, call, 8);
    call = peer->ExpectRequest(FrameType::kInline);
    EXPECT_EQ(Block(&size, sizeof size), BlocksOf(call, 3));
    Answer(peer, call, 0);
    peer->ExpectEnd();
  });
  Client client(server);
  client.Succeed(MakeCall(SYS_writev, {kAnyFd, Address(parts), 2}), 8);
  client.Succeed(MakeCall(SYS_sendmsg, {kAnyFd, Address(&message), 0}), 8);
  client.Succeed(MakeCall(SYS_recvmsg, {kAnyFd, Address(&message), 0}), 8);
  client.Succeed(MakeCall(SYS_getsockname, {kAnyFd, Address(&name), Address(&size)}), 0);
}

// What does not go along is asked for: more than a frame carries, more buffers than it has blocks.
TEST(InlineRequestTest, Bounds) {
  const std::string long_text(kMaxBlockBytes + 1, 'l');
  char bytes[2 * kMaxBlocks] = {};
  std::vector<iovec> parts;
  for (char& byte : bytes) parts.push_back({&byte, 1});
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome(kBanner);
    auto call = peer->ExpectRequest(FrameType::kInline);
    EXPECT_EQ("", BlocksOf(call, 3));
    EXPECT_TRUE(long_text == peer->CopyIn(call.arg(1), call.arg(2)));
    Answer(peer, call, long_text.size());
    call = peer->ExpectRequest(FrameType::kInline);
    std::string expected = Block(parts.data(), parts.size() * sizeof(iovec));
    for (size_t i = 0; i + 1 < kMaxBlocks; ++i) expected += Block(&bytes[i], 1);
    EXPECT_EQ(expected, BlocksOf(call, 3));
    Answer(peer, call, sizeof bytes);
    peer->ExpectEnd();
  });
  Client client(server);
  client.Succeed(Write(long_text.data(), long_text.size()), long_text.size());
  client.Succeed(MakeCall(SYS_writev, {kAnyFd, Address(parts.data()), parts.size()}), sizeof bytes);
}

TEST_P(InlineTest, BadPointersAreTheServersToFind) {
  constexpr size_t kGood = 60 * 1024 / 4096 * 4096;
  HalfBadMemory memory(kGood);
  const auto vector = iovec{memory.bad(), 8};
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome(kBanner);
        for (int i = 0; i < 3; ++i) {
          auto call = peer->ExpectRequest(FrameType::kInline);
          if (i < 2) {
            EXPECT_EQ("", BlocksOf(call, 3)) << "none that counts";
          }
          Answer(peer, call, 99);
          Answer(peer, peer->ExpectRequest(FrameType::kInline), 4);
        }
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  for (const Call& call : {Write(memory.bad(), 10), Write(memory.good() + 4096, kGood),
                           MakeCall(SYS_writev, {kAnyFd, Address(&vector), 1})}) {
    client.Succeed(call, 99);
    client.Succeed(Write("next", 4), 4);
  }
}

TEST(InlineAnswerTest, OutsideTheCallsMemoryIsPassedOver) {
  char buffer[16] = "aaaaaaaaaaaaaaa";
  std::string untouched = "untouched";
  const std::string text = "text";
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome(kBanner);
    auto call = peer->ExpectRequest(FrameType::kInline);
    Answer(peer, call, 1,
           Block(untouched.data(), "overwrite") + Block(buffer + 14, "zz") +
               Block(buffer - 1, "z") + Block(nullptr, "z") + Block(buffer + 14, "z") +
               Block(untouched.data(), std::string(60'000, 'x')));
    call = peer->ExpectRequest(FrameType::kInline);
    Answer(peer, call, 4, Block(text.data(), "TEXT") + Block(buffer, "b"));
    call = peer->ExpectRequest(FrameType::kSyscall);
    peer->Answer(call, 5);
    peer->ExpectEnd();
  });
  Client client(server);
  client.Succeed(Read(buffer, 15), 1);
  EXPECT_STREQ("aaaaaaaaaaaaaaz", buffer);
  client.Succeed(Write(text.data(), text.size()), 4);
  EXPECT_EQ("text", text) << "what it reads is not to be written";
  EXPECT_STREQ("aaaaaaaaaaaaaaz", buffer) << "another call's memory";
  EXPECT_EQ("untouched", untouched);
  client.Succeed(MakeCall(SYS_getpid), 5);
}

TEST(InlineAnswerTest, BadMemoryIsEfault) {
  HalfBadMemory memory(4096);
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome(kBanner);
    for (int i = 0; i < 2; ++i) {
      const auto call = peer->ExpectRequest(FrameType::kInline);
      Answer(peer, call, call.arg(2),
             Block(reinterpret_cast<void*>(call.arg(1)), std::string(call.arg(2), 'o')));
    }
    peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 5);
    peer->ExpectEnd();
  });
  Client client(server);
  client.Fail(Read(memory.bad() - 5, 10), EFAULT);
  client.Fail(Read(memory.good(), 8192), EFAULT);
  client.Succeed(MakeCall(SYS_getpid), 5);
}

TEST(InlineAnswerTest, GarbageEndsTheConnection) {
  char into[8] = "";
  std::string past_the_end = Block(into, "abcd");
  past_the_end[0] = 5;
  std::string huge = Block(into, "abcd");
  memset(huge.data(), 0xff, sizeof(uint64_t));
  std::string many;
  for (size_t i = 0; i <= kMaxBlocks; ++i) many += Block(into, "a");
  const std::string half = Block(into, std::string(kMaxBlockBytes / 2 + 1, 'x'));
  const std::string head(sizeof(CopyPayload) - 1, '\0');
  const std::vector<std::string> garbage = {past_the_end, huge, many,
                                            half + half,  head, Block(into, "a") + head};
  size_t next = 0;
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome(kBanner);
        Answer(peer, peer->ExpectRequest(FrameType::kInline), 1, garbage[next++]);
        peer->ExpectEnd();
      },
      static_cast<int>(garbage.size()));
  for (size_t i = 0; i < garbage.size(); ++i) {
    SCOPED_TRACE(i);
    Client client(server);
    client.Lose(Read(into, sizeof into));
  }
}

// A response of the other kind, or one of this kind to a server that has never offered it.
TEST(InlineAnswerTest, KindIsThatOfTheRequest) {
  char into[8] = "";
  constexpr int kServers = 2;
  bool offered = true;  // by the first one
  FakeServer server(
      [&](FakePeer* peer) {
        if (offered) {
          peer->Welcome(kBanner);
          peer->Answer(peer->ExpectRequest(FrameType::kInline), 1);
        } else {
          peer->Welcome();
          Answer(peer, peer->ExpectRequest(FrameType::kSyscall), 1);
        }
        peer->ExpectEnd();
        offered = false;
      },
      kServers);
  for (int i = 0; i < kServers; ++i) {
    Client client(server);
    client.Lose(Read(into, sizeof into));
  }
}

// Whose table of calls we do not have.
TEST(InlineRequestTest, NotForAnotherAbi) {
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome("RUMPSP-0.4-NetBSD-10.0/amd64 +inline\n");
    peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 4);
    peer->ExpectEnd();
  });
  Client client(server);
  client.Succeed(Write("text", 4), 4);
}

}  // namespace
}  // namespace rump::client
