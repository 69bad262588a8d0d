// What becomes of calls when the server ends.
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "rumpclient/core/connection.h"
#include "tests/rumpclient/core/test_client.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {
namespace {

TEST(LossTest, AtEveryByteOfAResponse) {
  const std::string data = "data";
  const int size =
      static_cast<int>(CopyOutFrame(0, 0, data).size() + SyscallAnswer(0, 0, 0).size());
  size_t at = 0;
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        const auto call = peer->ExpectRequest(FrameType::kSyscall);
        const std::string bytes =
            CopyOutFrame(0, call.arg(1), data) + SyscallAnswer(call.header.reqno, 0, 4);
        peer->Send(bytes.substr(0, at++));
        peer->Close();
      },
      size + 1);
  for (int i = 0; i < size; ++i) {
    SCOPED_TRACE(i);
    Client client(server);
    char into[4];
    client.Lose(Read(into, sizeof into));
    client.Lose(MakeCall(SYS_getpid));
  }
  Client client(server);
  char into[4];
  client.Succeed(Read(into, sizeof into), 4);
  client.Lose(MakeCall(SYS_getpid));
}

TEST(LossTest, InTheMiddleOfEachKindOfFrame) {
  struct Case {
    FrameClass cls;
    FrameType type;
    size_t payload;
  };
  const std::vector<Case> cases = {
      {FrameClass::kRequest, FrameType::kCopyIn, sizeof(CopyPayload)},
      {FrameClass::kRequest, FrameType::kCopyInStr, sizeof(CopyPayload)},
      {FrameClass::kRequest, FrameType::kCopyOut, sizeof(CopyPayload) + 3},
      {FrameClass::kRequest, FrameType::kCopyOutStr, sizeof(CopyPayload) + 3},
      {FrameClass::kRequest, FrameType::kAnonMmap, sizeof(uint64_t)},
      {FrameClass::kRequest, FrameType::kRaise, 0},
      {FrameClass::kResponse, FrameType::kSyscall, sizeof(SyscallResultPayload)},
      {FrameClass::kError, FrameType::kSyscall, 0},
      {FrameClass::kResponse, FrameType::kHandshake, sizeof(int32_t)},
      {FrameClass::kResponse, FrameType::kPrefork, sizeof(PreforkCookie)},
  };
  size_t connections = 0;
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        const ReceivedFrame request = peer->ReadFrame();
        const Case& one = cases[connections / 2];
        const bool in_header = connections++ % 2 == 0;
        std::string payload(one.payload, '\0');
        if (payload.size() > sizeof(CopyPayload)) {
          const CopyPayload range = {payload.size() - sizeof range, request.arg(1)};
          memcpy(payload.data(), &range, sizeof range);
        }
        const std::string frame =
            Frame(one.cls, one.type, request.header.reqno, 1, std::move(payload));
        peer->Send(frame.substr(0, in_header ? kHeaderSize - 1 : frame.size() - 1));
        peer->Close();
      },
      static_cast<int>(2 * cases.size()));
  for (const Case& one : cases) {
    SCOPED_TRACE(static_cast<int>(one.type));
    for (int i = 0; i < 2; ++i) {
      Client client(server);
      char into[4] = {};
      PreforkCookie cookie;
      switch (one.type) {
        case FrameType::kHandshake:
          EXPECT_EQ(-ENOTCONN, client->Exec("test"));
          break;
        case FrameType::kPrefork:
          EXPECT_EQ(-ENOTCONN, client->Prefork(&cookie));
          break;
        default:
          client.Lose(Read(into, sizeof into));
      }
      client.Lose(MakeCall(SYS_getpid));
    }
  }
}

TEST(LossTest, EndsEveryCallInFlight) {
  constexpr int kThreads = 6;
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    for (int i = 0; i < kThreads; ++i) peer->ExpectRequest(FrameType::kSyscall);
    peer->Close();
  });
  Client client(server);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&client] { client.Lose(MakeCall(SYS_getpid)); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(LossTest, EndsACallWhoseRequestIsStuck) {
  // Nobody reads it: this COPYIN's answer fills the socket and its sender sleeps until the end.
  std::string big(kMaxCopy, 'b');
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    for (uint64_t i = 0; i < 8; ++i) {
      const CopyPayload range = {call.arg(2), call.arg(1)};
      peer->Send(
          Frame(FrameClass::kRequest, FrameType::kCopyIn, i, 0, BytesAt(&range, sizeof range)));
    }
    peer->Read(kHeaderSize);
    peer->Close();
  });
  Client client(server);
  client.Lose(Write(big.data(), big.size()));
}

// A call of a thread of whose stack nothing is left.
void LoseOnStackOfItsOwn(Client* client) {
  constexpr size_t kSize = size_t{8} << 20;  // ThreadSanitizer has need of much
  void* const stack =
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pthread_attr_t attributes;
  ASSERT_EQ(0, pthread_attr_init(&attributes));
  ASSERT_EQ(0, pthread_attr_setstack(&attributes, stack, kSize));
  pthread_t thread;
  ASSERT_EQ(0, pthread_create(
                   &thread, &attributes,
                   [](void* arg) -> void* {
                     Interruption interruption;
                     Call call = MakeCall(SYS_getpid);
                     EXPECT_EQ(-ENOTCONN,
                               (**static_cast<Client*>(arg)).Issue(&call, &interruption));
                     return nullptr;
                   },
                   client));
  EXPECT_EQ(0, pthread_join(thread, nullptr));
  EXPECT_EQ(0, pthread_attr_destroy(&attributes));
  EXPECT_EQ(0, munmap(stack, kSize));
}

TEST(LossTest, CanBeOpenedAgainWithoutTheThreadThatRead) {
  bool first = true;
  FakeServer server(
      [&](FakePeer* peer) {
        if (std::exchange(first, false)) {
          peer->Welcome();
          peer->ExpectRequest(FrameType::kSyscall);
          return;
        }
        // Long enough for signals to be let in.
        usleep(20'000);
        peer->Welcome();
        peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 3);
      },
      2);
  Client client(server);
  LoseOnStackOfItsOwn(&client);
  ASSERT_EQ(0, client->Open(server.endpoint()));
  ASSERT_EQ(0, client->Guest("again"));
  client.Succeed(MakeCall(SYS_getpid), 3);
}

TEST(LossTest, CanBeOpenedAgain) {
  FakeServer server(
      [](FakePeer* peer) {
        peer->Welcome();
        peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 3);
      },
      2);
  Client client(server);
  client.Succeed(MakeCall(SYS_getpid), 3);
  client.Lose(MakeCall(SYS_getpid));
  ASSERT_EQ(0, client->Open(server.endpoint()));
  ASSERT_EQ(0, client->Guest("again"));
  client.Succeed(MakeCall(SYS_getpid), 3);
}

}  // namespace
}  // namespace rump::client
