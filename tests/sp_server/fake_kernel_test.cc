// The server with another kernel behind it: one of a few calls, whose blocking ones block on
// threads of their own.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/server/kernel_interface.h"
#include "sp_server/server/server.h"
#include "tests/sp_server/raw_client.h"

namespace rump {
namespace {

enum FakeCall : uint32_t {
  kEcho = 1,    // echo(from, to): copies a string in and out
  kMap = 2,     // map(len) -> address of memory that the client mapped
  kRaise = 3,   // raise(signo)
  kBlock = 4,   // block(): returns 7 when the gate opens
  kInsist = 5,  // the same, and nothing interrupts it
};

// What blocked calls wait for on their threads.
class Gate {
 public:
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // One thread's wait; Interrupt ends it from another.
  struct Wait {
    bool interrupted = false;
  };
  // False if it was interrupted.
  bool Await(const std::shared_ptr<Wait>& wait) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_ || wait->interrupted; });
    return !wait->interrupted;
  }
  void Interrupt(const std::shared_ptr<Wait>& wait) {
    const std::lock_guard lock(mutex_);
    wait->interrupted = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

class FakeKernel final : public Kernel {
 public:
  explicit FakeKernel(EventLoop* loop) : loop_(loop) {}
  ~FakeKernel() override {
    for (std::thread& thread : threads_) thread.join();
  }

  Result<std::unique_ptr<KernelProcess>> Spawn(std::string_view command) override;

  Gate& gate() { return gate_; }
  std::atomic<int> running{0};  // threads that have not ended

 private:
  class Process;
  friend class Process;

  EventLoop* const loop_;
  Gate gate_;
  std::vector<std::thread> threads_;
};

class FakeKernel::Process final : public KernelProcess {
 public:
  explicit Process(FakeKernel* kernel) : kernel_(kernel) { state_->process = this; }
  ~Process() override {
    state_->process = nullptr;
    InterruptAll();
  }

  Result<std::unique_ptr<KernelProcess>> Fork() override { return Errno(EAGAIN); }
  void SetClient(const ClientInfo*) override {}
  void Exec(std::string_view, std::function<void(Errno)> done) override {
    on_drained_ = std::move(done);
    InterruptAll();
    CheckDrained();
  }
  void SystemCall(std::shared_ptr<Call> call) override {
    switch (call->number()) {
      case kEcho:
        return Echo::Start(std::move(call));
      case kMap:
        return Map::Start(std::move(call));
      case kRaise:
        call->Raise(static_cast<int>(call->arg(0)));
        return call->Complete(kOk, 0, 0);
      case kBlock:
      case kInsist:
        return Block(std::move(call));
      default:
        return call->Complete(Errno(ENOSYS), 0, 0);
    }
  }
  void Interrupt(Call& call) override {
    if (auto wait = state_->waits.find(&call); wait != state_->waits.end()) {
      Interrupt(call, wait->second);
    }
  }

 private:
  // An answer of the client's that a call ends with.
  struct Echo final : CopyInSink {
    static void Start(std::shared_ptr<Call> call) {
      auto* echo = new Echo;
      echo->call = std::move(call);
      echo->call->CopyInStr(echo->call->arg(0), 16, echo);
    }
    void OnCopyIn(Errno error, std::span<const std::byte> data) override {
      if (error.ok()) {
        call->CopyOutStr(call->arg(1),
                         {reinterpret_cast<const char*>(data.data()), data.size() - 1});
      }
      call->Complete(error, data.size(), 0);
      delete this;
    }
    std::shared_ptr<Call> call;
  };
  struct Map final : CopyInSink {
    static void Start(std::shared_ptr<Call> call) {
      auto* map = new Map;
      map->call = std::move(call);
      map->call->AnonMmap(map->call->arg(0), map);
    }
    void OnCopyIn(Errno error, std::span<const std::byte> data) override {
      uint64_t address = 0;
      if (error.ok()) memcpy(&address, data.data(), sizeof address);
      call->Complete(error, address, 0);
      delete this;
    }
    std::shared_ptr<Call> call;
  };

  // Outlives the process while calls run. Belongs to the loop's thread.
  struct State {
    std::unordered_map<const Call*, std::shared_ptr<Gate::Wait>> waits;
    Process* process = nullptr;  // nullptr once it is gone
  };

  void Block(std::shared_ptr<Call> call) {
    auto wait = std::make_shared<Gate::Wait>();
    state_->waits.emplace(call.get(), wait);
    ++kernel_->running;
    kernel_->threads_.emplace_back(
        [kernel = kernel_, state = state_, wait, call = std::move(call)]() mutable {
          const bool opened = kernel->gate_.Await(wait);
          kernel->loop_->Post([state = std::move(state), call = std::move(call), opened] {
            state->waits.erase(call.get());
            call->Complete(opened ? kOk : Errno(EINTR), opened ? 7 : 0, 0);
            if (state->process != nullptr) state->process->CheckDrained();
          });
          --kernel->running;
        });
  }

  void Interrupt(const Call& call, const std::shared_ptr<Gate::Wait>& wait) {
    if (call.number() != kInsist) kernel_->gate_.Interrupt(wait);
  }
  void InterruptAll() {
    for (auto& [call, wait] : state_->waits) Interrupt(*call, wait);
  }
  void CheckDrained() {
    if (on_drained_ && state_->waits.empty()) std::exchange(on_drained_, nullptr)(kOk);
  }

  FakeKernel* const kernel_;
  std::function<void(Errno)> on_drained_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

Result<std::unique_ptr<KernelProcess>> FakeKernel::Spawn(std::string_view) {
  return std::unique_ptr<KernelProcess>(new Process(this));
}

class FakeKernelTest : public testing::Test {
 protected:
  FakeKernelTest() {
    char folder[] = "/tmp/rhXXXXXX";
    folder_ = mkdtemp(folder);
    path_ = folder_ + "/s";
    std::promise<void> ready;
    thread_ = std::thread([this, &ready] {
      auto server = std::make_unique<Server>(&loop_, &kernel_, ServerOptions());
      if (!server->Listen("unix://" + path_).ok()) abort();
      ready.set_value();
      loop_.Run();
      server.reset();
      while (kernel_.running > 0) std::this_thread::yield();
      loop_.RunOnce(EventLoop::Clock::duration::zero());
    });
    ready.get_future().wait();
    client_.emplace(path_);
    EXPECT_TRUE(client_->Guest());
  }
  ~FakeKernelTest() override {
    loop_.Stop();
    thread_.join();
    rmdir(folder_.c_str());
  }

  std::string folder_;
  std::string path_;
  EventLoop loop_;
  FakeKernel kernel_{&loop_};
  std::thread thread_;
  std::optional<RawClient> client_;
  std::string memory_;
};

TEST_F(FakeKernelTest, StringsTravelBothWays) {
  const uint64_t call = client_->SendCall(kEcho, {100, 200});
  const std::optional<RawFrame> asked = client_->Receive();
  ASSERT_TRUE(asked && asked->header.type == FrameType::kCopyInStr);
  client_->Send(
      {.reqno = asked->header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn},
      std::string("hello\0", 6));
  const std::optional<RawFrame> copied = client_->Receive();
  ASSERT_TRUE(copied && copied->header.type == FrameType::kCopyOutStr);
  EXPECT_EQ(copied->payload.substr(sizeof(CopyPayload)), std::string("hello\0", 6));
  EXPECT_EQ(client_->Finish(call, &memory_).retval[0], 6U);
}

TEST_F(FakeKernelTest, StringsAreChecked) {
  const std::pair<std::string, int> answers[] = {
      {"", EFAULT}, {"no end", ENAMETOOLONG}, {std::string(17, '\0'), ENAMETOOLONG}};
  for (const auto& [answer, error] : answers) {
    const uint64_t call = client_->SendCall(kEcho, {100, 200});
    const std::optional<RawFrame> asked = client_->Receive();
    ASSERT_TRUE(asked.has_value());
    client_->Send(
        {.reqno = asked->header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn},
        answer);
    EXPECT_EQ(client_->Finish(call, &memory_).error, error) << answer;
  }
}

TEST_F(FakeKernelTest, ClientMapsMemory) {
  for (const uint64_t address : {uint64_t{0x7000'0000}, uint64_t{0}}) {
    const uint64_t call = client_->SendCall(kMap, {8192});
    const std::optional<RawFrame> asked = client_->Receive();
    ASSERT_TRUE(asked && asked->header.type == FrameType::kAnonMmap);
    uint64_t length = 0;
    memcpy(&length, asked->payload.data(), sizeof length);
    EXPECT_EQ(length, 8192U);
    client_->Send(
        {.reqno = asked->header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kAnonMmap},
        {reinterpret_cast<const char*>(&address), sizeof address});
    const SyscallResultPayload result = client_->Finish(call, &memory_);
    EXPECT_EQ(result.error, address == 0 ? ENOMEM : 0);
    EXPECT_EQ(result.retval[0], address);
  }
}

TEST_F(FakeKernelTest, RaiseComesBeforeTheAnswer) {
  client_->SendCall(kRaise, {SIGUSR1});
  const std::optional<RawFrame> raise = client_->Receive();
  ASSERT_TRUE(raise && raise->header.type == FrameType::kRaise);
  EXPECT_EQ(raise->header.u, static_cast<uint32_t>(SIGUSR1));
  const std::optional<RawFrame> answer = client_->Receive();
  EXPECT_TRUE(answer && answer->header.type == FrameType::kSyscall);
}

TEST_F(FakeKernelTest, BlockedThreadsKeepNobodyWaiting) {
  std::vector<uint64_t> blocked;
  for (int i = 0; i < 20; ++i) blocked.push_back(client_->SendCall(kBlock, {}));
  EXPECT_EQ(client_->CallResult(kRaise + 100, {}).error, ENOSYS);
  kernel_.gate().Open();
  size_t answered = 0;
  for (; answered < blocked.size(); ++answered) {
    const std::optional<RawFrame> frame = client_->Receive();
    ASSERT_TRUE(frame.has_value());
    EXPECT_THAT(blocked, testing::Contains(frame->header.reqno));
  }
}

TEST_F(FakeKernelTest, CancelInterruptsAThread) {
  const uint64_t other = client_->SendCall(kBlock, {});
  const uint64_t call = client_->SendCall(kBlock, {});
  client_->Send({.type = FrameType::kCancel}, {reinterpret_cast<const char*>(&call), sizeof call});
  EXPECT_EQ(client_->Finish(call, &memory_).error, EINTR);
  kernel_.gate().Open();
  EXPECT_EQ(client_->Finish(other, &memory_).retval[0], 7U);
}

TEST_F(FakeKernelTest, ExecDrainsThreads) {
  for (int i = 0; i < 5; ++i) client_->SendCall(kBlock, {});
  client_->Send({.reqno = 500, .u = static_cast<uint32_t>(HandshakeKind::kExec)},
                std::string("new\0", 4));
  const std::optional<RawFrame> answer = client_->Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.reqno, 500U) << "drained calls do not answer";
}

TEST_F(FakeKernelTest, ExecInProgressBearsNoOtherRequest) {
  const uint64_t insisting = client_->SendCall(kInsist, {});
  client_->Send({.reqno = 500, .u = static_cast<uint32_t>(HandshakeKind::kExec)},
                std::string("new\0", 4));
  const auto expect_in_exec = [&](uint64_t reqno) {
    const std::optional<RawFrame> frame = client_->Receive();
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(frame->header.cls, FrameClass::kError);
    EXPECT_EQ(frame->header.reqno, reqno);
    EXPECT_EQ(frame->header.u, static_cast<uint32_t>(WireError::kInExec));
  };
  expect_in_exec(client_->SendCall(kRaise, {SIGUSR1}));
  kernel_.gate().Open();
  const std::optional<RawFrame> answer = client_->Receive();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.reqno, 500U) << insisting << " must not answer";
  EXPECT_EQ(client_->CallResult(kRaise + 100, {}).error, ENOSYS);
}

TEST_F(FakeKernelTest, ExecAndPreforkDuringAnExecEndTheConnection) {
  for (const FrameHeader& second :
       {FrameHeader{.reqno = 501, .u = static_cast<uint32_t>(HandshakeKind::kExec)},
        FrameHeader{.reqno = 501, .type = FrameType::kPrefork}}) {
    RawClient client(path_);
    ASSERT_TRUE(client.Guest());
    client.SendCall(kInsist, {});
    client.Send({.reqno = 500, .u = static_cast<uint32_t>(HandshakeKind::kExec)},
                std::string("new\0", 4));
    client.Send(second,
                second.type == FrameType::kPrefork ? std::string() : std::string("newer\0", 6));
    const std::optional<RawFrame> frame = client.Receive();
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(frame->header.reqno, 501U);
    EXPECT_EQ(frame->header.u, static_cast<uint32_t>(WireError::kInExec));
    EXPECT_TRUE(client.AtEnd());
  }
  kernel_.gate().Open();
}

TEST_F(FakeKernelTest, ForkThatFailsIsToldSo) {
  client_->Send({.reqno = 9, .type = FrameType::kPrefork});
  const std::optional<RawFrame> frame = client_->Receive();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->header.cls, FrameClass::kError);
  EXPECT_EQ(frame->header.u, static_cast<uint32_t>(WireError::kForkFailed));
  EXPECT_EQ(client_->CallResult(kRaise + 100, {}).error, ENOSYS) << "the connection lives on";
}

TEST_F(FakeKernelTest, DisconnectEndsThreads) {
  for (int i = 0; i < 5; ++i) client_->SendCall(kBlock, {});
  client_->SendCall(kEcho, {1, 2});
  ASSERT_TRUE(client_->Receive().has_value());
  EXPECT_EQ(kernel_.running, 5);
  client_.reset();
  while (kernel_.running > 0) std::this_thread::yield();
  EXPECT_TRUE(RawClient(path_).Guest());
}

}  // namespace
}  // namespace rump
