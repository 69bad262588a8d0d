#include "hijack/call_stubs.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <span>

#include "hijack/dispatcher.h"
#include "hijack/fd_cache.h"
#include "hijack/session.h"

// The pieces in gates.S, and what they use.
extern "C" {
#define PIECE(name)                                          \
  [[gnu::visibility("hidden")]] extern const uint8_t name[]; \
  [[gnu::visibility("hidden")]] extern const uint8_t name##_end[];
PIECE(rumphijack_gate_Always)
PIECE(rumphijack_gate_Bytes)
PIECE(rumphijack_gate_Close)
PIECE(rumphijack_gate_Host)
PIECE(rumphijack_gate_Ioctl)
PIECE(rumphijack_gate_Named)
PIECE(rumphijack_gate_NoDup)
PIECE(rumphijack_gate_Number)
PIECE(rumphijack_gate_Plain)
PIECE(rumphijack_gate_Reads)
#undef PIECE
[[gnu::visibility("hidden")]] extern const uint8_t rumphijack_enter[];
}

namespace rump::hijack {
namespace {

constexpr size_t kNumbers = 512;
// Where a stub has the address that unwinding goes on with.
constexpr size_t kReturnAddress = 120;

constexpr std::array<bool, kNumbers> DispatchedNumbers() {
  std::array<bool, kNumbers> dispatched = {};
  for (size_t i = 0; i < kNumbers; ++i) dispatched[i] = IsDispatched(static_cast<int64_t>(i));
  return dispatched;
}

// The registers of a system call, as rumphijack_enter stores them.
struct StubCall {
  Args args;
  long number;  // becomes the result
};

static_assert(FdCache::kSlots == 65536 && static_cast<int>(FdKind::kUnknown) == 0 &&
                  static_cast<int>(FdKind::kHost) == 1 &&
                  static_cast<int>(FdKind::kConnected) == 2 &&
                  static_cast<int>(FdKind::kWriteShut) == 3 &&
                  offsetof(msghdr, msg_controllen) == 40 && (MSG_ERRQUEUE | MSG_TRUNC) == 0x2020 &&
                  F_DUPFD == 0 && F_DUPFD_CLOEXEC == 1030 && SIOCGIFNAME >> 8 == 0x89 &&
                  O_RDONLY == 0 && O_CLOEXEC == 0x80000,
              "gates.S knows them as well");

// The program's own sockets come through the symbols first. libc's are of nscd and syslog, which
// are the host's.
bool IsLibcsOwnSocket(const StubCall& call) {
  return call.number == SYS_socket && call.args.get<int>(0) == AF_UNIX;
}

#define PIECE(name) std::span<const uint8_t>(name, name##_end)

std::span<const uint8_t> GateOf(int16_t number) {
  switch (number) {
#define CALL(name, function, gate) \
  case SYS_##name:                 \
    return PIECE(rumphijack_gate_##gate);
#include "hijack/dispatched_calls.inc"
#undef CALL
    default:
      return PIECE(rumphijack_gate_Number);
  }
}

class CodeWriter {
 public:
  explicit CodeWriter(uint8_t* at) : at_(at) {}

  void Copy(std::span<const uint8_t> code) {
    memcpy(at_, code.data(), code.size());
    at_ += code.size();
  }

  void Jump(const uint8_t* target) {
    constexpr uint8_t kJump[] = {0xe9};
    Copy(kJump);
    Distance(target);
  }

  void LoadRcx(const uint8_t* address) {
    constexpr uint8_t kLea[] = {0x48, 0x8d, 0x0d};
    Copy(kLea);
    Distance(address);
  }

  void ShortJump(const uint8_t* target) {
    const uint8_t jump[] = {0xeb, static_cast<uint8_t>(target - (at_ + kShortJumpSize))};
    Copy(jump);
  }

 private:
  // From the end of the instruction, which is that of the distance.
  void Distance(const uint8_t* target) {
    const auto distance = static_cast<int32_t>(target - (at_ + sizeof(int32_t)));
    memcpy(at_, &distance, sizeof distance);
    at_ += sizeof distance;
  }

  uint8_t* at_;
};

}  // namespace

void WriteStub(const CallSite& site, const uint8_t* base, uint8_t* stub) {
  const uint8_t* const syscall = base + site.address;
  CodeWriter code(stub);
  code.Copy({syscall - site.displaced, site.displaced});
  code.Copy(GateOf(site.number));
  code.Jump(syscall);
  code.LoadRcx(syscall + kSyscallSize);
  code.Jump(rumphijack_enter);
  const uint8_t* const return_address = syscall + kSyscallSize;
  memcpy(stub + kReturnAddress, &return_address, sizeof return_address);
}

void WriteJumps(const CallSite& site, uint8_t* base, const uint8_t* stub) {
  CodeWriter code(base + site.address - site.displaced);
  if (site.cave == 0) return code.Jump(stub);
  CodeWriter(base + site.cave).Jump(stub);
  code.ShortJump(base + site.cave);
}

}  // namespace rump::hijack

extern "C" {

// For the gates.
[[gnu::visibility("hidden")]] extern const std::atomic<int>* const rumphijack_own_fd;
constinit const std::atomic<int>* const rumphijack_own_fd = rump::hijack::session.own_fd_address();
[[gnu::visibility("hidden")]] extern const std::atomic<int>* const rumphijack_spare_fd;
constinit const std::atomic<int>* const rumphijack_spare_fd =
    rump::hijack::session.spare_fd_address();

[[gnu::visibility("hidden")]] extern const std::array<bool, rump::hijack::kNumbers>
    rumphijack_dispatched;
constinit const std::array<bool, rump::hijack::kNumbers> rumphijack_dispatched =
    rump::hijack::DispatchedNumbers();

// Returns how far before the end of the syscall instruction libc goes on: 0 if the call is done.
[[gnu::visibility("hidden")]] long rumphijack_dispatch(rump::hijack::StubCall* call) {
  using rump::hijack::kSyscallSize;
  if (rump::hijack::IsLibcsOwnSocket(*call)) return kSyscallSize;
  const rump::hijack::Outcome outcome = rump::hijack::Dispatch(call->number, call->args);
  if (!outcome.handled) return kSyscallSize;
  call->number = outcome.result;
  return 0;
}

}  // extern "C"
