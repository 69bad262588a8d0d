#include "rump/rumpclient.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "rump/rump_syscalls.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {
namespace {

std::string_view BytesAt(const void* p, size_t n) { return {static_cast<const char*>(p), n}; }

// Connects to a server that runs `script` behind the handshake and then ends the connection.
class Process {
 public:
  explicit Process(std::function<void(FakePeer*)> script)
      : server_([script = std::move(script)](FakePeer* peer) {
          peer->Welcome();
          script(peer);
        }) {
    setenv("RUMP_SERVER", server_.url().c_str(), 1);
    EXPECT_EQ(0, rumpclient_init());
  }
  ~Process() {
    EXPECT_EQ(-1, rump_sys_getpid());
    EXPECT_EQ(ENOTCONN, errno);
    unsetenv("RUMP_SERVER");
  }

 private:
  FakeServer server_;
};

// What rumpclient_init() prints when it fails with `error`.
std::string InitFailure(int error) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(-1, rumpclient_init());
  EXPECT_EQ(error, errno);
  std::string printed = testing::internal::GetCapturedStderr();
  EXPECT_EQ(1, std::count(printed.begin(), printed.end(), '\n')) << printed;
  return printed;
}

bool Mentions(const std::string& text, const std::string& word) {
  return text.find(word) != std::string::npos;
}

TEST(InitTest, WithoutAServer) {
  unsetenv("RUMP_SERVER");
  EXPECT_TRUE(Mentions(InitFailure(ENOENT), "RUMP_SERVER is not set"));
  setenv("RUMP_SERVER", "", 1);
  EXPECT_TRUE(Mentions(InitFailure(ENOENT), "RUMP_SERVER is not set"));
  setenv("RUMP_SERVER", "gopher://x", 1);
  EXPECT_TRUE(Mentions(InitFailure(EINVAL), "RUMP_SERVER=gopher://x"));
  setenv("RUMP_SERVER", "unix:///tmp/rh-there-is-none", 1);
  const std::string printed = InitFailure(ENOENT);
  EXPECT_TRUE(Mentions(printed, "RUMP_SERVER=unix:///tmp/rh-there-is-none")) << printed;
  EXPECT_TRUE(Mentions(printed, "start rump_server")) << printed;
  long retval[2];
  EXPECT_EQ(ENOTCONN, rumpclient_syscall(SYS_getpid, nullptr, 0, retval));
}

TEST(InitTest, WithAnotherKindOfServer) {
  FakeServer server([](FakePeer* peer) {
    peer->Send("220 mail\r\n");
    peer->ExpectEnd();
  });
  setenv("RUMP_SERVER", server.url().c_str(), 1);
  EXPECT_TRUE(Mentions(InitFailure(EPROTO), "not a rump kernel server"));
}

TEST(InitTest, RefusedByTheServer) {
  FakeServer server([](FakePeer* peer) {
    peer->Send(kLinuxBanner);
    const auto guest = peer->ExpectRequest(FrameType::kHandshake);
    peer->Send(HandshakeAnswer(guest.header.reqno, EAGAIN));
    peer->ExpectEnd();
  });
  setenv("RUMP_SERVER", server.url().c_str(), 1);
  EXPECT_TRUE(Mentions(InitFailure(EAGAIN), "refused"));
}

TEST(InitTest, RelativePathAndOwnName) {
  FakeServer server([](FakePeer* peer) {
    peer->Send(kLinuxBanner);
    const auto guest = peer->ExpectRequest(FrameType::kHandshake);
    EXPECT_EQ(program_invocation_short_name, std::string(guest.payload.c_str()));
    peer->Send(HandshakeAnswer(guest.header.reqno, 0));
  });
  const std::string directory = server.url().substr(strlen("unix://"), strlen("/tmp/rhXXXXXX"));
  char before[4096];
  ASSERT_NE(nullptr, getcwd(before, sizeof before));
  ASSERT_EQ(0, chdir(directory.c_str()));
  setenv("RUMP_SERVER", "unix://s", 1);
  EXPECT_EQ(0, rumpclient_init());
  EXPECT_EQ(0, chdir(before));
  EXPECT_EQ(-1, rump_sys_getpid());
  EXPECT_EQ(ENOTCONN, errno);
}

TEST(InitTest, TwiceIsOnce) {
  Process process(
      [](FakePeer* peer) { peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 12); });
  EXPECT_EQ(0, rumpclient_init());
  EXPECT_EQ(12, rump_sys_getpid());
}

TEST(SyscallTest, PassesArgumentsAndBothResults) {
  Process process([](FakePeer* peer) {
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    EXPECT_EQ(394u, call.header.u);
    EXPECT_EQ(8u, call.payload.size() / sizeof(uint64_t));
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(~i, call.arg(i));
    const SyscallResultPayload result = {.error = 0, .retval = {5, 6}};
    peer->Send(Frame(FrameClass::kResponse, FrameType::kSyscall, call.header.reqno, 0,
                     BytesAt(&result, sizeof result)));
    peer->Fail(peer->ExpectRequest(FrameType::kSyscall), 77);
  });
  uint64_t args[9];
  for (size_t i = 0; i < 9; ++i) args[i] = ~i;
  long retval[2] = {};
  EXPECT_EQ(0, rumpclient_syscall(394, args, 8 * sizeof args[0], retval));
  EXPECT_EQ(5, retval[0]);
  EXPECT_EQ(6, retval[1]);
  errno = 0;
  EXPECT_EQ(77, rumpclient_syscall(394, nullptr, 0, retval));
  EXPECT_EQ(EINVAL, rumpclient_syscall(394, args, 7, retval));
  EXPECT_EQ(EINVAL, rumpclient_syscall(394, args, sizeof args, retval));
  EXPECT_EQ(0, errno) << "the error is the result only";
}

// Answers calls with 100, 101... in the order of `numbers`, and checks their arguments' count.
std::function<void(FakePeer*)> AnswerAll(std::vector<uint32_t> numbers) {
  return [numbers = std::move(numbers)](FakePeer* peer) {
    uint64_t answer = 100;
    for (const uint32_t number : numbers) {
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      EXPECT_EQ(number, call.header.u);
      const SyscallSpec* const row = FindSyscall(number);
      ASSERT_NE(nullptr, row);
      EXPECT_EQ(row->nargs, call.payload.size() / sizeof(uint64_t)) << row->name;
      peer->Answer(call, answer++);
    }
  };
}

TEST(StubsTest, AreTheCallsOfTheTable) {
  Process process(
      AnswerAll({SYS_getpid, SYS_close, SYS_socket, SYS_bind, SYS_listen, SYS_accept, SYS_connect,
                 SYS_getsockname, SYS_getpeername, SYS_read, SYS_write, SYS_pipe}));
  sockaddr_in in = {};
  auto* const addr = reinterpret_cast<sockaddr*>(&in);
  socklen_t len = sizeof in;
  char byte = 0;
  int fds[2];
  EXPECT_EQ(100, rump_sys_getpid());
  EXPECT_EQ(101, rump_sys_close(3));
  EXPECT_EQ(102, rump_sys_socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(103, rump_sys_bind(3, addr, len));
  EXPECT_EQ(104, rump_sys_listen(3, 1));
  EXPECT_EQ(105, rump_sys_accept(3, addr, &len));
  EXPECT_EQ(106, rump_sys_connect(3, addr, len));
  EXPECT_EQ(107, rump_sys_getsockname(3, addr, &len));
  EXPECT_EQ(108, rump_sys_getpeername(3, addr, &len));
  EXPECT_EQ(109, rump_sys_read(3, &byte, 1));
  EXPECT_EQ(110, rump_sys_write(3, &byte, 1));
  EXPECT_EQ(111, rump_sys_pipe(fds));
}

TEST(StubsTest, MoveData) {
  const sockaddr_in peer_name = {.sin_family = AF_INET,
                                 .sin_port = htons(80),
                                 .sin_addr = {htonl(INADDR_LOOPBACK)},
                                 .sin_zero = {}};
  Process process([&](FakePeer* peer) {
    auto call = peer->ExpectRequest(FrameType::kSyscall);
    const int fds[2] = {3, 4};
    peer->CopyOut(call.arg(0), BytesAt(fds, sizeof fds));
    peer->Answer(call, 0);
    call = peer->ExpectRequest(FrameType::kSyscall);
    EXPECT_EQ(static_cast<uint64_t>(-4), call.arg(0)) << "an int is sign-extended";
    EXPECT_EQ("data", peer->CopyIn(call.arg(1), call.arg(2)));
    peer->Answer(call, 4);
    call = peer->ExpectRequest(FrameType::kSyscall);
    const std::string len = peer->CopyIn(call.arg(2), sizeof(socklen_t));
    EXPECT_EQ(BytesAt("\x20\0\0", 4), len);
    peer->CopyOut(call.arg(1), BytesAt(&peer_name, sizeof peer_name));
    peer->CopyOut(call.arg(2), BytesAt("\x10\0\0", 4));
    peer->Answer(call, 5);
    peer->Fail(peer->ExpectRequest(FrameType::kSyscall), EBADF);
  });
  int fds[2] = {};
  EXPECT_EQ(0, rump_sys_pipe(fds));
  EXPECT_EQ(3, fds[0]);
  EXPECT_EQ(4, fds[1]);
  EXPECT_EQ(4, rump_sys_write(-4, "data", 4));
  char name[0x20] = {};
  socklen_t len = sizeof name;
  EXPECT_EQ(5, rump_sys_accept(3, reinterpret_cast<sockaddr*>(name), &len));
  EXPECT_EQ(sizeof peer_name, len);
  EXPECT_EQ(0, memcmp(name, &peer_name, sizeof peer_name));
  EXPECT_EQ(-1, rump_sys_close(9));
  EXPECT_EQ(EBADF, errno);
}

}  // namespace
}  // namespace rump::client
