// What a process and its forked copies share, and what a copy that nobody claims lets go of.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

constexpr uint32_t kExec = static_cast<uint32_t>(HandshakeKind::kExec);
constexpr uint32_t kFork = static_cast<uint32_t>(HandshakeKind::kFork);

// The payload of a FORK handshake, its cookie first.
std::string ForkOf(const std::string& cookie, int32_t cancel) {
  return cookie + std::string(reinterpret_cast<const char*>(&cancel), sizeof cancel);
}

class ForkTest : public testing::Test {
 protected:
  void StartServer(const ServerOptions& options = {}) {
    server_ = std::make_unique<ServerThread>(options);
    parent_ = std::make_unique<TestProgram>(server_->path());
  }
  // Parks a copy of the parent; returns its cookie.
  std::string Prefork() {
    parent_->client().Send({.reqno = 900, .type = FrameType::kPrefork});
    const std::optional<RawFrame> answer = parent_->client().Receive();
    EXPECT_TRUE(answer && answer->header.cls == FrameClass::kResponse);
    return answer ? answer->payload : "";
  }
  // A connection that is a copy of the parent already; invalid if it is refused.
  UniqueFd ConnectedCopy() {
    parent_->client().Send({.reqno = 902, .type = FrameType::kPrefork, .u = kPreforkConnected});
    const std::optional<RawFrame> answer = parent_->client().Receive();
    EXPECT_TRUE(answer.has_value());
    UniqueFd fd = parent_->client().TakeFd();
    if (answer) {
      EXPECT_EQ(answer->header.cls == FrameClass::kResponse, fd.valid());
      if (!fd.valid()) {
        EXPECT_EQ(answer->header.u, static_cast<uint32_t>(WireError::kNoMemory));
      }
    }
    return fd;
  }
  // Whether a FORK handshake with the cookie was granted to `child`, which is fresh.
  static bool Claim(RawClient& child, const std::string& cookie) {
    child.Send({.reqno = 1, .u = kFork}, ForkOf(cookie, 0));
    const std::optional<RawFrame> answer = child.Receive();
    return answer && answer->header.cls == FrameClass::kResponse;
  }
  static int64_t Result(const SyscallResultPayload& result) {
    return result.error != 0 ? -result.error : static_cast<int64_t>(result.retval[0]);
  }

  std::unique_ptr<ServerThread> server_;
  std::unique_ptr<TestProgram> parent_;
};

TEST_F(ForkTest, CopyHasTheDescriptorsOfItsMoment) {
  StartServer();
  const auto [reader, writer] = parent_->Pipe();
  const std::string cookie = Prefork();
  ASSERT_EQ(parent_->Close(writer), 0);
  const int later = static_cast<int>(parent_->Call(SYS_dup2, reader, 20));
  RawClient child(server_->path());
  ASSERT_TRUE(Claim(child, cookie));
  EXPECT_EQ(Result(child.CallResult(SYS_close, {static_cast<uint64_t>(later)})), -EBADF);
  EXPECT_EQ(Result(child.CallResult(SYS_close, {static_cast<uint64_t>(writer)})), 0);
  EXPECT_EQ(parent_->Read(reader), "") << "the copy's was the last one to write to";
}

TEST_F(ForkTest, OpenFilesAreShared) {
  StartServer();
  const auto [reader, writer] = parent_->Pipe();
  RawClient child(server_->path());
  ASSERT_TRUE(Claim(child, Prefork()));
  ASSERT_EQ(
      Result(child.CallResult(SYS_fcntl, {static_cast<uint64_t>(reader), F_SETFL, O_NONBLOCK})), 0);
  EXPECT_EQ(parent_->Read(reader), "errno " + std::to_string(EAGAIN));
  ASSERT_EQ(
      Result(child.CallResult(SYS_fcntl, {static_cast<uint64_t>(reader), F_SETFD, FD_CLOEXEC})), 0);
  EXPECT_EQ(parent_->Call(SYS_fcntl, reader, F_GETFD, 0), 0) << "descriptors are each one's own";
}

TEST_F(ForkTest, CookiesAreNotGuessedFromEachOther) {
  StartServer();
  std::string first = Prefork();
  const std::string second = Prefork();
  ASSERT_EQ(first.size(), sizeof(PreforkCookie));
  EXPECT_NE(first.substr(0, 8), second.substr(0, 8));
  EXPECT_NE(first.substr(8), second.substr(8));
  first.back() = static_cast<char>(first.back() ^ 1);
  RawClient guesser(server_->path());
  EXPECT_FALSE(Claim(guesser, first));
}

TEST_F(ForkTest, CopiesThatAreGoneMakeRoom) {
  ServerOptions options;
  options.max_preforks = 1;
  StartServer(options);
  for (const int32_t cancel : {0, 1, 0}) {
    const std::string cookie = Prefork();
    parent_->client().Send({.reqno = 901, .type = FrameType::kPrefork});
    const std::optional<RawFrame> refused = parent_->client().Receive();
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(refused->header.u, static_cast<uint32_t>(WireError::kNoMemory));
    RawClient child(server_->path());
    child.Send({.reqno = 1, .u = kFork}, ForkOf(cookie, cancel));
    EXPECT_EQ(child.Receive().has_value(), cancel == 0);
  }
}

// The three ways of a copy that nobody claims; each time its descriptor is the last one that could
// write, so a read tells when it is gone.

TEST_F(ForkTest, CancelledCopyLetsGo) {
  StartServer();
  const auto [reader, writer] = parent_->Pipe();
  const std::string cookie = Prefork();
  ASSERT_EQ(parent_->Close(writer), 0);
  const uint64_t read = parent_->StartBlocked(SYS_read, reader, 0, 8);
  EXPECT_FALSE(parent_->HasFinished(read)) << "the copy can still write";
  RawClient cancel(server_->path());
  cancel.Send({.reqno = 1, .u = kFork}, ForkOf(cookie, 1));
  EXPECT_TRUE(cancel.AtEnd());
  EXPECT_EQ(parent_->Finish(read), 0);
}

TEST_F(ForkTest, ExpiredCopyLetsGo) {
  ServerOptions options;
  options.prefork_lifetime = std::chrono::milliseconds(20);
  StartServer(options);
  const auto [reader, writer] = parent_->Pipe();
  Prefork();
  ASSERT_EQ(parent_->Close(writer), 0);
  EXPECT_EQ(parent_->Read(reader), "");
}

TEST_F(ForkTest, CopyOfAParentThatLeftLetsGo) {
  StartServer();
  const auto [reader, writer] = parent_->Pipe();
  RawClient sibling(server_->path());
  ASSERT_TRUE(Claim(sibling, Prefork()));
  Prefork();
  ASSERT_EQ(Result(sibling.CallResult(SYS_close, {static_cast<uint64_t>(writer)})), 0);
  parent_.reset();
  EXPECT_EQ(Result(sibling.CallResult(SYS_read, {static_cast<uint64_t>(reader), 0, 8})), 0);
  EXPECT_EQ(Result(sibling.CallResult(SYS_getppid, {})), 1) << "init has taken it over";
}

TEST_F(ForkTest, ConnectedCopyNeedsNoHandshake) {
  StartServer();
  const auto [reader, writer] = parent_->Pipe();
  RawClient child(ConnectedCopy());
  ASSERT_TRUE(child.connected());
  ASSERT_EQ(parent_->Close(writer), 0);
  EXPECT_GT(Result(child.CallResult(SYS_getpid, {})), parent_->Call(SYS_getpid));
  EXPECT_EQ(Result(child.CallResult(SYS_getppid, {})), parent_->Call(SYS_getpid));
  const uint64_t read = parent_->StartBlocked(SYS_read, reader, 0, 8);
  EXPECT_FALSE(parent_->HasFinished(read)) << "the copy can still write";
  child.Close();
  EXPECT_EQ(parent_->Finish(read), 0);
}

TEST_F(ForkTest, ConnectedCopyOutlivesItsParent) {
  StartServer();
  RawClient child(ConnectedCopy());
  parent_.reset();
  while (Result(child.CallResult(SYS_getppid, {})) != 1) {
  }
}

TEST_F(ForkTest, ConnectedCopyIsWhoSendsOnIt) {
  StartServer();
  RawClient child(ConnectedCopy());
  const pid_t pid = fork();
  if (pid == 0) _exit(Result(child.CallResult(SYS_getpid, {})) > 0 ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  ASSERT_EQ(status, 0);
  const int64_t size = parent_->Call(kSysQuery, static_cast<int>(QueryKind::kProcessesJson), 4096,
                                     TestProgram::kMemory - 4096, 0);
  ASSERT_GT(size, 0);
  EXPECT_THAT(parent_->Text(4096, static_cast<size_t>(size)),
              testing::HasSubstr("unix pid " + std::to_string(pid) + " uid"));
}

TEST_F(ForkTest, ConnectedCopyIsAClient) {
  ServerOptions options;
  options.max_clients = 2;
  StartServer(options);
  UniqueFd first = ConnectedCopy();
  EXPECT_TRUE(first.valid());
  EXPECT_FALSE(ConnectedCopy().valid());
  // Its end makes room, once the server has seen it.
  first.reset();
  while (!ConnectedCopy().valid()) {
  }
}

TEST_F(ForkTest, ConnectedCopiesAreOfHostFd) {
  ServerOptions options;
  options.extensions = kAllExtensions & ~kExtensionHostFd;
  StartServer(options);
  parent_->client().Send({.reqno = 902, .type = FrameType::kPrefork, .u = kPreforkConnected});
  const std::optional<RawFrame> answer = parent_->client().Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_FALSE(parent_->client().TakeFd().valid());
  RawClient child(server_->path());
  EXPECT_TRUE(Claim(child, answer->payload)) << "as of a server that has never heard of it";
}

TEST_F(ForkTest, ExecKeepsWhatIsNotCloseOnExec) {
  StartServer();
  const auto [reader, writer] = parent_->Pipe();
  ASSERT_EQ(parent_->Call(SYS_fcntl, writer, F_SETFD, FD_CLOEXEC), 0);
  parent_->client().Send({.reqno = 500, .u = kExec}, std::string("new\0", 4));
  const std::optional<RawFrame> answer = parent_->client().Receive();
  ASSERT_TRUE(answer && answer->header.cls == FrameClass::kResponse);
  EXPECT_EQ(parent_->Close(writer), -EBADF);
  EXPECT_EQ(parent_->Read(reader), "");
}

TEST_F(ForkTest, HandshakesAtTheWrongTimeEndTheConnection) {
  StartServer();
  const std::string cookie = Prefork();
  parent_->client().Send({.reqno = 7, .u = kFork}, ForkOf(cookie, 0));
  const std::optional<RawFrame> second = parent_->client().Receive();
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->header.u, static_cast<uint32_t>(WireError::kMalformedRequest));
  EXPECT_TRUE(parent_->client().AtEnd());

  RawClient fresh(server_->path());
  fresh.Send({.reqno = 8, .u = kExec}, std::string("new\0", 4));
  const std::optional<RawFrame> early = fresh.Receive();
  ASSERT_TRUE(early.has_value());
  EXPECT_EQ(early->header.u, static_cast<uint32_t>(WireError::kAuth));
  EXPECT_TRUE(fresh.AtEnd());
}

}  // namespace
}  // namespace rump
