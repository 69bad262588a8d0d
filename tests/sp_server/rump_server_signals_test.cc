// rump_server as a process with clients whose calls block: signals, its log, and a crowd.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "sp_server/loop/unique_fd.h"
#include "tests/sp_server/raw_client.h"

namespace rump {
namespace {

using testing::HasSubstr;

constexpr const char* kServer = "sp_server/rump_server";

// A started rump_server and what it says.
class ServerProcess {
 public:
  explicit ServerProcess(std::vector<std::string> arguments) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) abort();
    log_ = UniqueFd(ends[0]);
    const UniqueFd writer(ends[1]);
    arguments.insert(arguments.begin(), kServer);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ != 0) return;
    dup2(writer.get(), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  ~ServerProcess() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  void Signal(int signo) const { kill(pid_, signo); }
  // Waits for its end; its exit status, or -1 if it was killed.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  // What it says up to the end of a line, or of its life.
  std::string ReadLine() const {
    std::string line;
    char c;
    while (!line.ends_with('\n') && read(log_.get(), &c, 1) == 1) line.push_back(c);
    return line;
  }

 private:
  UniqueFd log_;
  pid_t pid_ = -1;
};

class RumpServerTest : public testing::Test {
 protected:
  RumpServerTest() {
    char folder[] = "/tmp/rhXXXXXX";
    folder_ = mkdtemp(folder);
    path_ = folder_ + "/s";
  }
  ~RumpServerTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Start(std::vector<std::string> options = {}) {
    options.insert(options.begin(), "-s");
    options.push_back("unix://" + path_);
    server_ = std::make_unique<ServerProcess>(std::move(options));
    while (!RawClient(path_).connected()) {
      ASSERT_EQ(waitpid(server_->pid(), nullptr, WNOHANG), 0);
    }
  }
  // A process with a pipe, and `reads` calls that wait for it.
  std::unique_ptr<RawClient> StartBlocked(int reads) const {
    auto client = std::make_unique<RawClient>(path_);
    EXPECT_TRUE(client->Guest());
    std::string memory(8, '\0');
    EXPECT_EQ(client->Finish(client->SendCall(SYS_pipe, {0}), &memory).error, 0);
    for (int i = 0; i < reads; ++i) client->SendCall(SYS_read, {0, 0, 8});
    // Answered behind them.
    EXPECT_EQ(client->CallResult(SYS_getppid, {}).retval[0], 1U);
    return client;
  }

  std::string folder_;
  std::string path_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(RumpServerTest, SigtermAndSigintEndItWithCallsInFlight) {
  for (const int signo : {SIGTERM, SIGINT}) {
    Start();
    const auto client = StartBlocked(3);
    const uint64_t copying = client->SendCall(SYS_write, {1, 0, 8});
    ASSERT_NE(copying, 0U);
    server_->Signal(signo);
    EXPECT_EQ(server_->Wait(), 0);
    EXPECT_FALSE(std::filesystem::exists(path_));
    while (const auto frame = client->Receive()) {
      EXPECT_NE(frame->header.type, FrameType::kSyscall) << "no call has a result any more";
    }
  }
}

TEST_F(RumpServerTest, HaltEndsItWithCallsInFlight) {
  Start();
  const auto client = StartBlocked(3);
  RawClient stopper(path_);
  ASSERT_TRUE(stopper.Guest());
  EXPECT_EQ(stopper.CallResult(kSysHalt, {}).error, 0);
  EXPECT_EQ(server_->Wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_TRUE(client->AtEnd());
}

TEST_F(RumpServerTest, SighupDisturbsNoCall) {
  Start();
  const auto client = StartBlocked(1);
  server_->Signal(SIGHUP);
  std::string memory(8, 'x');
  ASSERT_EQ(client->Finish(client->SendCall(SYS_write, {1, 0, 8}), &memory).retval[0], 8U);
  EXPECT_EQ(client->CallResult(SYS_getpid, {}).error, 0);
}

TEST_F(RumpServerTest, SecondOneNamesTheFirst) {
  Start();
  ServerProcess second({"-s", "unix://" + path_});
  EXPECT_THAT(second.ReadLine(), HasSubstr("process " + std::to_string(server_->pid()) + ";"));
  EXPECT_EQ(second.Wait(), 1);
  EXPECT_TRUE(RawClient(path_).Guest());
}

TEST_F(RumpServerTest, SaysWhomItCutsOff) {
  Start({"--max-output", "65536"});
  RawClient slow(path_);
  ASSERT_TRUE(slow.Guest());
  // The server ends the connection long before all is sent.
  const FrameHeader header{.len = kHeaderSize, .type = FrameType::kSyscall, .u = SYS_getpid};
  std::string requests;
  constexpr int kRequests = 100'000;
  for (int i = 0; i < kRequests; ++i) {
    std::string frame(kHeaderSize, '\0');
    EncodeHeader(header, reinterpret_cast<std::byte*>(frame.data()));
    requests += frame;
  }
  slow.SendBytes(requests);
  EXPECT_THAT(server_->ReadLine(),
              HasSubstr("client unix pid " + std::to_string(getpid()) + " uid " +
                        std::to_string(getuid()) + " does not read its replies"));
}

// More clients than a byte counts, and more blocked calls than any pool of threads.
TEST_F(RumpServerTest, CrowdOfBlockedClientsStopsNobody) {
  constexpr int kClients = 300;
  constexpr int kReads = 4;
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  Start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(StartBlocked(kReads));
  RawClient last(path_);
  ASSERT_TRUE(last.Guest());
  EXPECT_EQ(last.CallResult(SYS_getpid, {}).error, 0);
  size_t threads = 0;
  for ([[maybe_unused]] const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(server_->pid()) + "/task")) {
    ++threads;
  }
  EXPECT_LE(threads, 16U);
  // Each of them goes on where it was.
  std::string memory(8, 'x');
  for (const auto& client : clients) {
    ASSERT_EQ(client->Finish(client->SendCall(SYS_write, {1, 0, 8}), &memory).retval[0], 8U);
  }
}

}  // namespace
}  // namespace rump
