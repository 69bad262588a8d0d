// A call can be unwound from each of its instructions, as profilers do and pthread_cancel(3): the
// caller is always found. The calls are stepped through by the trap flag, so they are such as block
// no signals on their way.
#include <signal.h>
#include <sys/ioctl.h>
#include <ucontext.h>
#include <unwind.h>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

struct Steps {
  int all = 0;
  int lost = 0;  // from where the caller is not found
  uintptr_t first_lost = 0;
};
Steps steps;
long (*volatile current)(int fd) = nullptr;

constexpr unsigned long kTrapFlag = 0x100;

// Not functions of their own, as they are stepped through as well.
[[gnu::always_inline]] inline void SetTrapFlag() {
  __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | kTrapFlag);
}

[[gnu::always_inline]] inline void ClearTrapFlag() {
  __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~kTrapFlag);
}

_Unwind_Reason_Code LookForCaller(_Unwind_Context* context, void* found) {
  if (_Unwind_GetRegionStart(context) != reinterpret_cast<uintptr_t>(current)) {
    return _URC_NO_REASON;
  }
  *static_cast<bool*>(found) = true;
  return _URC_END_OF_STACK;
}

void Step(int /*signo*/, siginfo_t* /*info*/, void* context) {
  bool found = false;
  _Unwind_Backtrace(LookForCaller, &found);
  ++steps.all;
  if (found) return;
  if (steps.lost++ == 0) {
    steps.first_lost =
        static_cast<uintptr_t>(static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
  }
}

[[gnu::noinline]] long ReadOne(int fd) {
  char byte;
  SetTrapFlag();
  const long result = read(fd, &byte, 1);
  ClearTrapFlag();
  return result;
}

[[gnu::noinline]] long Control(int fd) {
  int on = 0;
  SetTrapFlag();
  const long result = ioctl(fd, FIONBIO, &on);
  ClearTrapFlag();
  return result;
}

[[gnu::noinline]] long Duplicate(int fd) {
  SetTrapFlag();
  const long result = dup(fd);
  ClearTrapFlag();
  return result;
}

class UnwindTest : public ::testing::Test {
 protected:
  UnwindTest() {
    struct sigaction action = {};
    action.sa_sigaction = Step;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &action, nullptr);
  }
  ~UnwindTest() override { signal(SIGTRAP, SIG_DFL); }

  static long StepThrough(long (*function)(int fd), int fd) {
    current = function;
    function(fd);  // so that everything is bound and known
    steps = {};
    const long result = function(fd);
    EXPECT_GT(steps.all, 5);
    EXPECT_EQ(steps.lost, 0) << "first at " << std::hex << steps.first_lost;
    return result;
  }
};

TEST_F(UnwindTest, FromACallOfTheHost) {
  const Fd zero(open("/dev/zero", O_RDONLY));
  EXPECT_EQ(StepThrough(ReadOne, zero.get()), 1);
}

TEST_F(UnwindTest, FromACallThatIsLookedAt) {
  const Fd udp(socket(AF_INET, SOCK_DGRAM, 0));
  EXPECT_EQ(StepThrough(Control, udp.get()), 0);
}

TEST_F(UnwindTest, FromACallThatIsMadeForTheProgram) {
  const Fd udp(socket(AF_INET, SOCK_DGRAM, 0));
  const Fd copy(static_cast<int>(StepThrough(Duplicate, udp.get())));
  EXPECT_THAT(copy.get(), Succeeds());
}

}  // namespace
}  // namespace rump
