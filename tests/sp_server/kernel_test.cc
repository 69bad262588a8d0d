// What the kernel keeps of a process, and how its calls wait, without a server around them.
#include "sp_server/kernel/kernel.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <optional>

#include "gtest/gtest.h"
#include "sp_server/kernel/process.h"
#include "sp_server/kernel/task.h"
#include "sp_server/kernel/waits.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/net/inet_family.h"
#include "sp_server/net/net_stack.h"

namespace rump {
namespace {

class KernelTest : public testing::Test {
 protected:
  EventLoop loop_;
  BuiltinKernel kernel_{&loop_, [] {}};
  const std::shared_ptr<Process> process_ =
      std::make_shared<Process>(KernelLimits(), nullptr, nullptr);
};

TEST_F(KernelTest, ObjectsThatAreGoneDoNotAddUp) {
  RegisterInet(&kernel_.families(), &NetStack::Get(), kernel_.datagram_memory());
  Result<std::shared_ptr<Socket>> socket =
      kernel_.families().Create(AF_INET, SOCK_DGRAM, 0, O_RDWR);
  ASSERT_TRUE(socket.ok());
  Result<HostObjects::Created> live =
      kernel_.objects().Create(*std::move(socket), nullptr, /*sends_byte=*/false);
  ASSERT_TRUE(live.ok());
  const uint64_t id = live->object->id();
  const uint64_t cookie = live->object->c_cookie();
  kernel_.AllowObject(*process_, id, cookie);
  for (uint64_t gone = 1; gone <= 10'000; ++gone) kernel_.AllowObject(*process_, id + gone, cookie);
  EXPECT_LE(process_->objects.size(), 200U);
  EXPECT_TRUE(process_->objects.contains(id));
}

// Says that it can be read, and cannot.
class Contradiction final : public File {
 public:
  Contradiction() : File(O_RDONLY) {}
  Result<size_t> Read(std::span<std::byte>) override { return Errno(EAGAIN); }
  Result<size_t> Write(std::span<const std::byte>) override { return Errno(EBADF); }
  uint32_t Poll() const override { return POLLIN; }
};

class NoCall final : public Call {
 public:
  void CopyIn(uint64_t, size_t, CopyInSink* sink) override { sink->OnCopyIn(Errno(EFAULT), {}); }
  void CopyInStr(uint64_t, size_t, CopyInSink* sink) override { sink->OnCopyIn(Errno(EFAULT), {}); }
  std::span<const std::byte> InRequest(uint64_t, size_t) const override { return {}; }
  void AnonMmap(size_t, CopyInSink* sink) override { sink->OnCopyIn(Errno(EFAULT), {}); }
  void CancelCopyIn() override {}
  void CopyOut(uint64_t, std::span<const std::byte>) override {}
  void CopyOutStr(uint64_t, std::string_view) override {}
  bool HasOutputRoom() const override { return true; }
  void AwaitOutputRoom(OutputWaiter*) override {}
  void Raise(int) override {}
  UniqueFd TakeFd() override { return UniqueFd(); }
  void AttachFd(UniqueFd) override {}
  void Complete(Errno, uint64_t, uint64_t) override {}
};

Task<Errno> Wait(CallContext& context, EventLoop& loop, File& file) {
  co_return co_await Readiness(context, loop, file, POLLIN, kNever);
}

// Keeps what a task has yielded.
struct Outcome final : TaskSink<Errno>, std::optional<Errno> {
  void OnDone(Errno error) override { emplace(error); }
};

TEST_F(KernelTest, FileThatContradictsItselfLeavesTheLoopItsTurn) {
  Contradiction file;
  CallContext context(&kernel_, process_, std::make_shared<NoCall>());
  Outcome outcome;
  Wait(context, loop_, file).Start(&outcome);
  EXPECT_FALSE(outcome.has_value());
  for (int turn = 0; turn < 3; ++turn) loop_.RunOnce(std::chrono::milliseconds(1));
  EXPECT_EQ(outcome, kOk);
}

TEST_F(KernelTest, WaitForTheNextTurnIsInterrupted) {
  Contradiction file;
  CallContext context(&kernel_, process_, std::make_shared<NoCall>());
  Outcome outcome;
  Wait(context, loop_, file).Start(&outcome);
  context.Interrupt();
  for (int turn = 0; turn < 3; ++turn) loop_.RunOnce(std::chrono::milliseconds(1));
  EXPECT_EQ(outcome, Errno(EINTR));
}

}  // namespace
}  // namespace rump
