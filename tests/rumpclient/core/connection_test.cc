#include "rumpclient/core/connection.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <future>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/rumpclient/core/test_client.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {
namespace {

// What the library that preloads the client does: no constructor may have to run.
constinit Connection static_connection;

TEST(OpenTest, DescriptorIsHighAndCloseOnExec) {
  FakeServer server([](FakePeer* peer) {
    peer->Send(kLinuxBanner);
    peer->ExpectEnd();
  });
  ASSERT_EQ(0, static_connection.Open(server.endpoint()));
  EXPECT_TRUE(static_connection.open());
  EXPECT_GE(static_connection.fd(), 1000);
  EXPECT_EQ(FD_CLOEXEC, fcntl(static_connection.fd(), F_GETFD));
  EXPECT_EQ(-EALREADY, static_connection.Open(server.endpoint()));
  static_connection.Abandon();
  EXPECT_FALSE(static_connection.open());
}

TEST(OpenTest, DescriptorIsAsHighAsTheLimitAllows) {
  FakeServer server([](FakePeer* peer) {
    peer->Send(kLinuxBanner);
    peer->ExpectEnd();
  });
  rlimit limit;
  ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
  const rlimit low = {200, limit.rlim_max};
  ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &low));
  Connection connection;
  EXPECT_EQ(0, connection.Open(server.endpoint()));
  ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
  EXPECT_EQ(199, connection.fd());
  connection.Abandon();
}

TEST(OpenTest, AnnouncedExtensions) {
  FakeServer server([](FakePeer* peer) {
    peer->Send("RUMPSP-0.4-Linux-6.1.0/x86_64 +hostfd+unheard-of\n");
    peer->ExpectEnd();
  });
  Connection connection;
  ASSERT_EQ(0, connection.Open(server.endpoint()));
  EXPECT_EQ(kExtensionHostFd, connection.extensions());
  connection.Abandon();
  EXPECT_EQ(0u, connection.extensions());
}

TEST(OpenTest, NoServer) {
  Endpoint endpoint;
  ASSERT_EQ(UrlError::kNone, ParseUrl("unix:///tmp/rh-there-is-none", "", &endpoint));
  Connection connection;
  EXPECT_EQ(-ENOENT, connection.Open(endpoint));
  EXPECT_FALSE(connection.open());
  Call call = MakeCall(SYS_getpid);
  EXPECT_EQ(-ENOTCONN, connection.Issue(&call));
  EXPECT_EQ(-ENOTCONN, connection.Guest("test"));
}

struct BadBanner {
  std::string_view text;
  long result;
};

class BadBannerTest : public testing::TestWithParam<BadBanner> {};

TEST_P(BadBannerTest, IsRefused) {
  FakeServer server([&](FakePeer* peer) {
    peer->Send(GetParam().text);
    peer->Close();
  });
  Connection connection;
  EXPECT_EQ(GetParam().result, connection.Open(server.endpoint()));
  EXPECT_FALSE(connection.open());
}

INSTANTIATE_TEST_SUITE_P(
    All, BadBannerTest,
    testing::Values(BadBanner{"RUMPSP-1.0-Linux-6.1.0/x86_64\n", -EPROTONOSUPPORT},
                    BadBanner{"SSH-2.0-OpenSSH_9.2\r\n", -EPROTO}, BadBanner{"\n", -EPROTO},
                    BadBanner{"", -EPROTO}, BadBanner{"RUMPSP-0.4-Linux", -EPROTO}));

TEST(OpenTest, BannerWithoutEnd) {
  FakeServer server([](FakePeer* peer) {
    peer->Send("RUMPSP-0.4-Linux-" + std::string(kMaxBanner, '6'));
    peer->Read(1);
  });
  Connection connection;
  EXPECT_EQ(-EPROTO, connection.Open(server.endpoint()));
}

// Sends the same over and over, with pauses, until the client has had enough.
void Trickle(FakePeer* peer, std::string_view bytes) {
  while (peer->Send(bytes)) usleep(500'000);
}

// Neither signals nor what leads nowhere start the time anew. All at once, since it is long.
TEST(BeginningTest, ServerThatDoesNotAnswerIsGivenUp) {
  struct sigaction handled = {};
  handled.sa_handler = [](int) {};
  ASSERT_EQ(0, sigaction(SIGUSR1, &handled, nullptr));
  const std::string nobodys = HandshakeAnswer(~uint64_t{0}, 0);
  const std::function<void(FakePeer*)> scripts[] = {[](FakePeer* peer) { peer->ExpectEnd(); },
                                                    [](FakePeer* peer) {
                                                      peer->Send("RUMPSP-0.4-Linux-");
                                                      Trickle(peer, "6");
                                                    },
                                                    [](FakePeer* peer) {
                                                      peer->Send(kLinuxBanner);
                                                      peer->Read(kHeaderSize);
                                                      peer->Read(kHeaderSize * kHeaderSize);
                                                    },
                                                    [&](FakePeer* peer) {
                                                      peer->Send(kLinuxBanner);
                                                      Trickle(peer, nobodys);
                                                    }};
  std::vector<std::thread> threads;
  std::atomic<int> waiting{0};
  for (const auto& script : scripts) {
    ++waiting;
    threads.emplace_back([&] {
      FakeServer server(script);
      Connection connection;
      long result = connection.Open(server.endpoint());
      if (result == 0) result = connection.Guest("test");
      EXPECT_EQ(-ETIMEDOUT, result);
      connection.Abandon();
      --waiting;
    });
  }
  while (waiting > 0) {
    usleep(100'000);
    for (std::thread& thread : threads) pthread_kill(thread.native_handle(), SIGUSR1);
  }
  for (std::thread& thread : threads) thread.join();
}

// Longer than the socket's timeout for sending, which connect(2) heeds, too.
TEST(OpenTest, WaitsForItsTurn) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  const socklen_t size = sizeof(sa_family_t);  // the kernel chooses a name
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(0, bind(listener, reinterpret_cast<sockaddr*>(&name), size));
  ASSERT_EQ(0, listen(listener, 0));
  Endpoint endpoint;
  endpoint.len = sizeof endpoint.un;
  ASSERT_EQ(0, getsockname(listener, &endpoint.any, &endpoint.len));
  const int first = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(0, connect(first, &endpoint.any, endpoint.len));
  auto opened = std::async(std::launch::async, [&] {
    Connection connection;
    const long result = connection.Open(endpoint);
    connection.Abandon();
    return result;
  });
  EXPECT_EQ(std::future_status::timeout, opened.wait_for(std::chrono::milliseconds(300)));
  close(accept(listener, nullptr, nullptr));
  const int second = accept(listener, nullptr, nullptr);
  EXPECT_EQ(static_cast<ssize_t>(kLinuxBanner.size()),
            write(second, kLinuxBanner.data(), kLinuxBanner.size()));
  EXPECT_EQ(0, opened.get());
  for (const int fd : {listener, first, second}) close(fd);
}

TEST(OpenTest, BannerInPieces) {
  const int splits = static_cast<int>(kLinuxBanner.size()) - 1;
  size_t at = 0;
  FakeServer server(
      [&](FakePeer* peer) {
        ++at;
        peer->Send(kLinuxBanner.substr(0, at));
        peer->Drain();
        peer->Welcome(kLinuxBanner.substr(at));
        peer->ExpectEnd();
      },
      splits);
  for (int i = 0; i < splits; ++i) Client client(server);
}

TEST(HandshakeTest, Errors) {
  FakeServer server([](FakePeer* peer) {
    peer->Send(kLinuxBanner);
    uint64_t reqno = peer->ExpectRequest(FrameType::kHandshake).header.reqno;
    peer->Send(HandshakeAnswer(reqno, ENOMEM));
    reqno = peer->ExpectRequest(FrameType::kHandshake).header.reqno;
    peer->Send(Frame(FrameClass::kError, FrameType::kHandshake, reqno,
                     static_cast<uint32_t>(WireError::kInvalidPrefork), ""));
    peer->ExpectEnd();
  });
  Connection connection;
  ASSERT_EQ(0, connection.Open(server.endpoint()));
  EXPECT_EQ(-ENOMEM, connection.Guest("test"));
  EXPECT_EQ(-ESRCH, connection.Fork(PreforkCookie{{1, 2, 3, 4}}, false));
  connection.Abandon();
}

TEST(HandshakeTest, CommandNameIsCutAndEndsInOneNul) {
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    const auto exec = peer->ExpectRequest(FrameType::kHandshake);
    EXPECT_EQ(static_cast<uint32_t>(HandshakeKind::kExec), exec.header.u);
    EXPECT_EQ(std::string(kMaxCommandName - 1, 'x') + '\0', exec.payload);
    peer->Send(HandshakeAnswer(exec.header.reqno, 0));
    peer->ExpectEnd();
  });
  Client client(server);
  EXPECT_EQ(0, client->Exec(std::string(100, 'x')));
}

TEST(HandshakeTest, PreforkAndFork) {
  const PreforkCookie cookie = {{1, 2, 3, 0xffffffff}};
  int connections = 0;
  FakeServer server(
      [&](FakePeer* peer) {
        switch (connections++) {
          case 0: {
            peer->Welcome();
            const auto prefork = peer->ExpectRequest(FrameType::kPrefork);
            EXPECT_EQ("", prefork.payload);
            peer->Send(Frame(FrameClass::kResponse, FrameType::kPrefork, prefork.header.reqno, 0,
                             BytesAt(&cookie, sizeof cookie)));
            break;
          }
          default: {
            peer->Send(kLinuxBanner);
            const auto fork = peer->ExpectRequest(FrameType::kHandshake);
            EXPECT_EQ(static_cast<uint32_t>(HandshakeKind::kFork), fork.header.u);
            ForkPayload expected = {cookie, connections - 2};
            EXPECT_EQ(BytesAt(&expected, sizeof expected), fork.payload);
            if (expected.cancel == 0) peer->Send(HandshakeAnswer(fork.header.reqno, 0));
          }
        }
        peer->ExpectEnd();
      },
      3);
  PreforkCookie got;
  {
    Client parent(server);
    ASSERT_EQ(0, parent->Prefork(&got));
    EXPECT_EQ(cookie, got);
  }
  Connection child;
  ASSERT_EQ(0, child.Open(server.endpoint()));
  EXPECT_EQ(0, child.Fork(got, false));
  EXPECT_TRUE(child.open());
  child.Abandon();
  ASSERT_EQ(0, child.Open(server.endpoint()));
  EXPECT_EQ(0, child.Fork(got, true));
  EXPECT_FALSE(child.open());
}

Interruption WithinOneSecond() {
  Interruption interruption;
  interruption.mask = kAllSignals;
  interruption.deadline = Deadline::After(1);
  return interruption;
}

TEST(HandshakeTest, PreforkEndsAtItsDeadline) {
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    const auto late = peer->ExpectRequest(FrameType::kPrefork);
    const auto next = peer->ExpectRequest(FrameType::kPrefork);
    for (const uint64_t reqno : {late.header.reqno, next.header.reqno}) {
      peer->Send(Frame(FrameClass::kResponse, FrameType::kPrefork, reqno, 0,
                       std::string(sizeof(PreforkCookie), reqno == next.header.reqno ? 'n' : 'l')));
    }
    peer->ExpectEnd();
  });
  Client client(server);
  PreforkCookie cookie;
  Interruption interruption = WithinOneSecond();
  EXPECT_EQ(-ETIMEDOUT, client->Prefork(&cookie, &interruption));
  ASSERT_TRUE(client->open());
  ASSERT_EQ(0, client->Prefork(&cookie));
  EXPECT_EQ(std::string(sizeof cookie, 'n'), BytesAt(&cookie, sizeof cookie));
}

// Another thread reads, whose call is answered after that.
TEST(HandshakeTest, PreforkEndsAtItsDeadlineWhoeverReads) {
  std::promise<void> asked, ended;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    asked.set_value();
    peer->ExpectRequest(FrameType::kPrefork);
    ended.get_future().wait();
    peer->Answer(call, 7);
    peer->ExpectEnd();
  });
  Client client(server);
  Call call;
  std::thread caller([&] { EXPECT_EQ(0, client->Issue(&call)); });
  asked.get_future().wait();
  PreforkCookie cookie;
  Interruption interruption = WithinOneSecond();
  EXPECT_EQ(-ETIMEDOUT, client->Prefork(&cookie, &interruption));
  ended.set_value();
  caller.join();
  EXPECT_EQ(7U, call.retval[0]);
}

TEST(HandshakeTest, PreforkEndsInAFrameThatStalls) {
  std::promise<void> ended;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto prefork = peer->ExpectRequest(FrameType::kPrefork);
    const std::string answer =
        Frame(FrameClass::kResponse, FrameType::kPrefork, prefork.header.reqno, 0,
              std::string(sizeof(PreforkCookie), 'c'));
    peer->Send(answer.substr(0, answer.size() - 1));
    ended.get_future().wait();
  });
  Client client(server);
  PreforkCookie cookie;
  Interruption interruption = WithinOneSecond();
  EXPECT_EQ(-ENOTCONN, client->Prefork(&cookie, &interruption));
  EXPECT_FALSE(client->open());
  ended.set_value();
}

}  // namespace
}  // namespace rump::client
