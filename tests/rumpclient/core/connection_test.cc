#include "rumpclient/core/connection.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {
namespace {

// What the library that preloads the client does: no constructor may have to run.
constinit Connection static_connection;

constexpr uint64_t kAnyFd = 7;

uint64_t Address(const void* p) { return reinterpret_cast<uint64_t>(p); }

std::string_view BytesAt(const void* p, size_t n) { return {static_cast<const char*>(p), n}; }

Call MakeCall(uint32_t number, std::vector<uint64_t> args = {}) {
  Call call;
  call.number = number;
  call.nargs = args.size();
  std::copy(args.begin(), args.end(), call.args);
  return call;
}

Call Read(void* to, size_t n) { return MakeCall(SYS_read, {kAnyFd, Address(to), n}); }
Call Write(const void* from, size_t n) { return MakeCall(SYS_write, {kAnyFd, Address(from), n}); }

// A connection whose GUEST handshake was accepted.
class Client {
 public:
  explicit Client(const FakeServer& server) {
    EXPECT_EQ(0, connection_.Open(server.endpoint()));
    EXPECT_EQ(0, connection_.Guest("test"));
  }
  ~Client() { connection_.Abandon(); }
  Connection& operator*() { return connection_; }
  Connection* operator->() { return &connection_; }

  // Issues and expects an outcome.
  void Succeed(Call call, uint64_t retval) {
    EXPECT_EQ(0, connection_.Issue(&call));
    EXPECT_EQ(0, call.error);
    EXPECT_EQ(retval, call.retval[0]);
  }
  void Fail(Call call, int error) {
    EXPECT_EQ(0, connection_.Issue(&call));
    EXPECT_EQ(error, call.error);
  }
  void Lose(Call call) {
    EXPECT_EQ(-ENOTCONN, connection_.Issue(&call));
    EXPECT_FALSE(connection_.open());
  }

 private:
  Connection connection_;
};

// A page that can be used, and behind it one that cannot.
class HalfBadMemory {
 public:
  explicit HalfBadMemory(size_t good) : good_(good) {
    base_ = static_cast<char*>(
        mmap(nullptr, 2 * good, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_EQ(0, mprotect(base_ + good, good, PROT_NONE));
  }
  ~HalfBadMemory() { munmap(base_, 2 * good_); }
  char* good() { return base_; }
  char* bad() { return base_ + good_; }

 private:
  const size_t good_;
  char* base_;
};

// --- Open ---

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

TEST(OpenTest, SilentServerIsGivenUp) {
  FakeServer server([](FakePeer* peer) { peer->ExpectEnd(); });
  Connection connection;
  EXPECT_EQ(-ETIMEDOUT, connection.Open(server.endpoint()));
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

// --- Handshakes ---

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

// --- Copies ---

class CopyTest : public testing::TestWithParam<Transport> {};
INSTANTIATE_TEST_SUITE_P(All, CopyTest, testing::Values(Transport::kUnix, Transport::kTcp));

TEST_P(CopyTest, AreServed) {
  static constexpr char kText[] = "one\0two";
  std::string big(kMaxCopy, '\0');
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 31 / 7);
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        auto call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ(uint32_t{SYS_write}, call.header.u);
        EXPECT_EQ(std::string(kText, sizeof kText), peer->CopyIn(call.arg(1), call.arg(2)));
        EXPECT_EQ("two", peer->CopyIn(call.arg(1) + 4, 3));
        EXPECT_EQ("", peer->CopyIn(call.arg(1), 0));
        EXPECT_EQ(std::string("one\0", 4), peer->CopyInStr(call.arg(1), 1024));
        EXPECT_EQ("on", peer->CopyInStr(call.arg(1), 2));
        peer->Answer(call, 8);
        call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ(big, peer->CopyIn(call.arg(1), call.arg(2)));
        peer->Answer(call, big.size());
        call = peer->ExpectRequest(FrameType::kSyscall);
        peer->CopyOut(call.arg(1) + 1, "little");
        peer->Answer(call, 6);
        call = peer->ExpectRequest(FrameType::kSyscall);
        peer->CopyOut(call.arg(1), big);
        peer->Answer(call, big.size());
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  client.Succeed(Write(kText, sizeof kText), 8);
  client.Succeed(Write(big.data(), big.size()), big.size());
  char small[8] = "xxxxxxx";
  client.Succeed(Read(small, sizeof small), 6);
  EXPECT_STREQ("xlittle", small);
  std::string into(kMaxCopy, '\0');
  client.Succeed(Read(into.data(), into.size()), big.size());
  EXPECT_TRUE(big == into);
}

TEST_P(CopyTest, OutsideTheCallsMemoryIsRefused) {
  char buffer[16] = "aaaaaaaaaaaaaaa";
  const std::string secret = "secret";
  std::string untouched = "untouched";
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        auto call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ("", peer->CopyIn(Address(secret.data()), secret.size()));
        EXPECT_EQ("", peer->CopyInStr(Address(secret.data()), 1024));
        EXPECT_EQ("", peer->CopyIn(call.arg(1), call.arg(2))) << "read's buffer is not to be read";
        EXPECT_EQ("", peer->CopyIn(0, 8));
        EXPECT_EQ("", peer->CopyInStr(8, 8));
        EXPECT_EQ("", peer->CopyIn(call.arg(1), UINT64_MAX));
        peer->CopyOut(Address(untouched.data()), "overwrite");
        peer->CopyOut(Address(untouched.data()), std::string(kMaxCopy, 'x'));
        peer->CopyOut(call.arg(1), std::string(17, 'x'));
        peer->CopyOut(call.arg(1) - 1, "x");
        peer->CopyOut(UINT64_MAX, "x");
        peer->CopyOut(call.arg(1) + 14, "z");
        peer->Answer(call, 1);
        call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ("", peer->CopyIn(call.arg(0), 8));
        peer->Answer(call, 2);
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  client.Succeed(Read(buffer, 15), 1);
  EXPECT_EQ("untouched", untouched);
  EXPECT_STREQ("aaaaaaaaaaaaaaz", buffer);
  client.Succeed(MakeCall(SYS_dup, {Address(buffer)}), 2);
}

TEST_P(CopyTest, BadPointersAreEfault) {
  HalfBadMemory memory(kMaxCopy / 2);
  memset(memory.good(), 'g', kMaxCopy / 2);
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        for (int i = 0; i < 2; ++i) {
          auto call = peer->ExpectRequest(FrameType::kSyscall);
          const std::string copied = peer->CopyIn(call.arg(1), call.arg(2));
          EXPECT_TRUE(copied.empty() || copied.size() == call.arg(2)) << copied.size();
          peer->Answer(call, copied.size());
          peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 99);
        }
        for (int i = 0; i < 4; ++i) {
          auto call = peer->ExpectRequest(FrameType::kSyscall);
          peer->CopyOut(call.arg(1), std::string(call.arg(2), 'o'));
          peer->Answer(call, call.arg(2));
          peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 99);
        }
        auto call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ("", peer->CopyInStr(call.arg(1), 1024));
        peer->Answer(call, 99);
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  for (const Call& call : {Write(memory.bad(), 10), Write(memory.good(), kMaxCopy),
                           Read(memory.bad(), 10), Read(memory.bad() - 5, 10),
                           Read(memory.good(), kMaxCopy), Read(memory.bad(), kMaxCopy / 2)}) {
    client.Fail(call, EFAULT);
    client.Succeed(MakeCall(SYS_getpid), 99);
  }
  client.Succeed(Write(memory.bad(), 1024), 99);
}

TEST(FrameTest, InTwoPieces) {
  const std::string data = "twenty bytes of data";
  const size_t size = CopyOutFrame(0, 0, data).size() + SyscallAnswer(0, 0, 0).size();
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    for (size_t at = 1; at < size; ++at) {
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      const std::string bytes =
          CopyOutFrame(at, call.arg(1), data) + SyscallAnswer(call.header.reqno, 0, at);
      peer->Send(bytes.substr(0, at));
      peer->Drain();
      peer->Send(bytes.substr(at));
    }
    peer->ExpectEnd();
  });
  Client client(server);
  for (size_t at = 1; at < size; ++at) {
    std::string into(data.size(), '\0');
    client.Succeed(Read(into.data(), into.size()), at);
    EXPECT_EQ(data, into) << "split at " << at;
  }
}

TEST(FrameTest, ByteByByte) {
  const std::string data(9000, 'd');
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    const std::string bytes =
        CopyOutFrame(0, call.arg(1), data) + SyscallAnswer(call.header.reqno, 0, 5);
    for (char byte : bytes) {
      peer->Send({&byte, 1});
      peer->Drain();
    }
    peer->ExpectEnd();
  });
  Client client(server);
  std::string into(data.size(), '\0');
  client.Succeed(Read(into.data(), into.size()), 5);
  EXPECT_EQ(data, into);
}

// --- What else the server may send ---

TEST(FrameTest, WireErrorsBecomeErrnos) {
  const std::map<uint32_t, int> errors = {{0, EIO},    {1, EAGAIN}, {2, EPERM},
                                          {3, ESRCH},  {4, EIO},    {5, EBUSY},
                                          {6, ENOMEM}, {7, EINVAL}, {8, EIO}};
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    for (const auto& [wire, error] : errors) {
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      peer->Send(Frame(FrameClass::kError, FrameType::kSyscall, call.header.reqno, wire, ""));
    }
    peer->ExpectEnd();
  });
  Client client(server);
  for (const auto& [wire, error] : errors) client.Fail(MakeCall(SYS_getpid), error);
}

TEST(FrameTest, FramesForNobodyAreIgnored) {
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    peer->Send(SyscallAnswer(call.header.reqno + 1, 0, 1));
    peer->Send(Frame(FrameClass::kError, FrameType::kSyscall, 0, 1, ""));
    peer->Send(Frame(FrameClass::kRequest, FrameType::kSyscall, 1, SYS_getpid, ""));
    peer->Send(Frame(static_cast<FrameClass>(3), FrameType::kSyscall, call.header.reqno, 0, "x"));
    peer->Send(Frame(FrameClass::kRequest, static_cast<FrameType>(9), 1, 0,
                     std::string(kMaxFrame - kHeaderSize, 'x')));
    peer->Send(Frame(FrameClass::kRequest, FrameType::kRaise, 1, 0, ""));
    peer->Send(Frame(FrameClass::kRequest, FrameType::kRaise, 1, 65, ""));
    peer->Answer(call, 42);
    peer->ExpectEnd();
  });
  Client client(server);
  client.Succeed(MakeCall(SYS_getpid), 42);
}

TEST(FrameTest, GarbageEndsTheConnection) {
  const auto with_len = [](uint64_t len) {
    std::string frame = SyscallAnswer(2, 0, 0);
    memcpy(frame.data(), &len, sizeof len);
    return frame;
  };
  const std::vector<std::string> garbage = {
      with_len(0),
      with_len(kHeaderSize - 1),
      with_len(kMaxFrame + 1),
      with_len(UINT64_MAX),
      Frame(FrameClass::kResponse, FrameType::kHandshake, 2, 0, std::string(4, '\0')),
      Frame(FrameClass::kResponse, FrameType::kSyscall, 2, 0, std::string(25, '\0')),
      Frame(FrameClass::kResponse, FrameType::kSyscall, 2, 0, std::string(23, '\0')),
      Frame(FrameClass::kRequest, FrameType::kCopyIn, 2, 0, std::string(15, '\0')),
      Frame(FrameClass::kRequest, FrameType::kCopyOut, 2, 0, std::string(15, '\0')),
      Frame(FrameClass::kRequest, FrameType::kCopyOut, 2, 0, std::string(17, '\0')),
      Frame(FrameClass::kRequest, FrameType::kAnonMmap, 2, 0, std::string(7, '\0')),
  };
  size_t next = 0;
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        peer->ExpectRequest(FrameType::kSyscall);
        peer->Send(garbage[next++]);
        peer->ExpectEnd();
      },
      static_cast<int>(garbage.size()));
  for (size_t i = 0; i < garbage.size(); ++i) {
    SCOPED_TRACE(i);
    Client client(server);
    client.Lose(MakeCall(SYS_getpid));
    client.Lose(MakeCall(SYS_getpid));
  }
}

TEST(FrameTest, AnonymousMemory) {
  const auto ask = [](FakePeer* peer, uint64_t len) {
    peer->Send(Frame(FrameClass::kRequest, FrameType::kAnonMmap, 0, 0, BytesAt(&len, sizeof len)));
    const std::string answer = peer->ExpectResponse(FrameType::kAnonMmap).payload;
    uint64_t addr = 1;
    EXPECT_EQ(sizeof addr, answer.size());
    memcpy(&addr, answer.data(), sizeof addr);
    return addr;
  };
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    constexpr uint64_t kMost = uint64_t{1} << 30;
    EXPECT_EQ(0u, ask(peer, 0));
    EXPECT_EQ(0u, ask(peer, kMost + 1));
    const uint64_t addr = ask(peer, 8192);
    EXPECT_EQ(0u, ask(peer, kMost - 8191)) << "the bound holds for all of them together";
    peer->Answer(call, addr);
    peer->ExpectEnd();
  });
  Client client(server);
  Call call = MakeCall(SYS_getpid);
  ASSERT_EQ(0, client->Issue(&call));
  ASSERT_NE(0u, call.retval[0]);
  char* const memory = reinterpret_cast<char*>(call.retval[0]);
  memset(memory, 'm', 8192);
  EXPECT_EQ(0, munmap(memory, 8192));
}

constinit std::atomic<int> raised{0};

TEST(FrameTest, SignalIsRaisedWhenTheCallReturns) {
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    peer->Send(Frame(FrameClass::kRequest, FrameType::kRaise, 0, SIGUSR1, ""));
    EXPECT_EQ("data", peer->CopyIn(call.arg(1), 4));
    EXPECT_EQ(0, raised) << "the call has not returned";
    peer->Fail(call, EPIPE);
    peer->ExpectEnd();
  });
  Client client(server);
  struct sigaction action = {};
  struct sigaction before;
  action.sa_handler = [](int) { raised.fetch_add(1); };
  ASSERT_EQ(0, sigaction(SIGUSR1, &action, &before));
  client.Fail(Write("data", 4), EPIPE);
  EXPECT_EQ(1, raised);
  ASSERT_EQ(0, sigaction(SIGUSR1, &before, nullptr));
}

// --- Descriptors ---

struct Pipe {
  Pipe() { EXPECT_EQ(0, pipe2(ends, O_CLOEXEC)); }
  ~Pipe() {
    close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
  }
  int ends[2];
};

bool SameFile(int a, int b) {
  struct stat sa;
  struct stat sb;
  return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_ino == sb.st_ino &&
         sa.st_dev == sb.st_dev;
}

TEST(DescriptorTest, GoesWithTheRequest) {
  Pipe pipe;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    EXPECT_TRUE(SameFile(pipe.ends[0], call.fd));
    close(call.fd);
    peer->Answer(call, 0);
    peer->ExpectEnd();
  });
  Client client(server);
  Call call = MakeCall(kSysHostProve, {kFirstObjectId});
  call.send_fd = pipe.ends[0];
  client.Succeed(call, 0);
  call.send_fd = 999;
  client.Fail(call, EBADF);
  EXPECT_TRUE(client->open());
}

// The answer's first byte, and with it the descriptor, may be read in one go with the end of the
// frame before it, whether that goes to the receive buffer or straight to the caller's memory.
TEST(DescriptorTest, ComesWithTheResponse) {
  Pipe pipe;
  const std::vector<size_t> sizes = {1, 5000, 8192 - 40, 20000};
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    for (const size_t size : sizes) {
      for (const bool drain : {false, true}) {
        const auto call = peer->ExpectRequest(FrameType::kSyscall);
        const std::string copy = CopyOutFrame(0, call.arg(1), std::string(size, 'c'));
        peer->Send(copy.substr(0, copy.size() - 1));
        if (drain) peer->Drain();
        peer->Send(copy.substr(copy.size() - 1));
        peer->Answer(call, 0, pipe.ends[0]);
      }
    }
    peer->ExpectEnd();
  });
  Client client(server);
  for (const size_t size : sizes) {
    for (int i = 0; i < 2; ++i) {
      std::string into(size, '\0');
      Call call = Read(into.data(), into.size());
      call.wants_fd = true;
      ASSERT_EQ(0, client->Issue(&call));
      EXPECT_EQ(std::string(size, 'c'), into);
      ASSERT_TRUE(SameFile(pipe.ends[0], call.received_fd));
      EXPECT_EQ(FD_CLOEXEC, fcntl(call.received_fd, F_GETFD));
      close(call.received_fd);
    }
  }
}

TEST(DescriptorTest, UnwantedOnesAreClosed) {
  Pipe pipe;
  FakeServer server([writer = pipe.ends[1]](FakePeer* peer) {
    peer->Welcome();
    const auto plain = peer->ExpectRequest(FrameType::kSyscall);
    peer->Answer(plain, 0, writer);
    const auto failing = peer->ExpectRequest(FrameType::kSyscall);
    peer->Send(SyscallAnswer(failing.header.reqno, ENFILE, 0), writer);
    const auto flooded = peer->ExpectRequest(FrameType::kSyscall);
    const std::string answer = SyscallAnswer(flooded.header.reqno, 0, 0);
    for (const char& byte : answer) {
      peer->Send({&byte, 1}, writer);
      peer->Drain();
    }
    peer->ExpectEnd();
  });
  Client client(server);
  client.Succeed(MakeCall(SYS_getpid), 0);
  Call call = MakeCall(kSysHostSocket, {2, 1, 0});
  call.wants_fd = true;
  ASSERT_EQ(0, client->Issue(&call));
  EXPECT_EQ(ENFILE, call.error);
  EXPECT_EQ(-1, call.received_fd);
  ASSERT_EQ(0, client->Issue(&call));
  EXPECT_TRUE(SameFile(pipe.ends[1], call.received_fd));
  close(call.received_fd);
  close(std::exchange(pipe.ends[1], -1));
  char byte;
  EXPECT_EQ(0, read(pipe.ends[0], &byte, 1)) << "no other writer is left";
}

// --- The server's death ---

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

// --- Threads ---

TEST(ThreadTest, AnswersOutOfOrder) {
  constexpr int kThreads = 8;
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    std::vector<ReceivedFrame> calls;
    for (int i = 0; i < kThreads; ++i) {
      calls.push_back(peer->ExpectRequest(FrameType::kSyscall));
    }
    while (!calls.empty()) {
      peer->Answer(calls.back(), calls.back().arg(0));
      calls.pop_back();
    }
    peer->ExpectEnd();
  });
  Client client(server);
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&client, i] { client.Succeed(MakeCall(SYS_dup, {i}), i); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ThreadTest, BlockedCallDelaysNoOther) {
  constexpr int kOthers = 100;
  std::promise<void> blocked;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto write = peer->ExpectRequest(FrameType::kSyscall);
    blocked.set_value();
    for (int i = 0; i < kOthers; ++i) {
      const auto other = peer->ExpectRequest(FrameType::kSyscall);
      EXPECT_EQ("blocked", peer->CopyIn(write.arg(1), write.arg(2)));
      peer->Answer(other, 1);
    }
    peer->Answer(write, 7);
    peer->ExpectEnd();
  });
  Client client(server);
  std::thread thread([&] { client.Succeed(Write("blocked", 7), 7); });
  blocked.get_future().wait();
  for (int i = 0; i < kOthers; ++i) client.Succeed(MakeCall(SYS_getpid), 1);
  thread.join();
}

TEST(ThreadTest, ManyCalls) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 1000;
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    std::map<uint64_t, ReceivedFrame> writes;  // by our COPYIN's number
    uint64_t copies = 0;
    for (;;) {
      const ReceivedFrame frame = peer->ReadFrame();
      if (frame.header.len == 0) return;
      if (frame.header.cls == FrameClass::kResponse) {
        const auto write = writes.extract(frame.header.reqno);
        ASSERT_FALSE(write.empty());
        const std::string& data = frame.payload;
        ASSERT_EQ(write.mapped().arg(2), data.size());
        EXPECT_EQ(std::string::npos,
                  data.find_first_not_of(static_cast<char>('a' + data.size() % 26)));
        peer->Answer(write.mapped(), data.size());
        continue;
      }
      switch (frame.header.u) {
        case SYS_read: {
          const size_t n = frame.arg(2);
          peer->CopyOut(frame.arg(1), std::string(n, static_cast<char>('A' + n % 26)));
          peer->Answer(frame, n);
          break;
        }
        case SYS_write: {
          const CopyPayload range = {frame.arg(2), frame.arg(1)};
          writes[copies] = frame;
          peer->Send(Frame(FrameClass::kRequest, FrameType::kCopyIn, copies++, 0,
                           BytesAt(&range, sizeof range)));
          break;
        }
        default:
          peer->Answer(frame, frame.arg(0) + 1);
      }
    }
  });
  std::vector<std::thread> threads;
  Client client(server);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&client, t] {
      std::vector<char> buffer(12000);
      for (int i = 0; i < kRounds; ++i) {
        const size_t n = 1 + (t * 977 + i * 131) % buffer.size();
        switch (i % 3) {
          case 0: {
            client.Succeed(Read(buffer.data(), n), n);
            const auto wrong = std::string_view(buffer.data(), n)
                                   .find_first_not_of(static_cast<char>('A' + n % 26));
            EXPECT_EQ(std::string_view::npos, wrong);
            break;
          }
          case 1:
            memset(buffer.data(), static_cast<char>('a' + n % 26), n);
            client.Succeed(Write(buffer.data(), n), n);
            break;
          default:
            client.Succeed(MakeCall(SYS_dup, {n}), n + 1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  client->Abandon();
}

}  // namespace
}  // namespace rump::client
