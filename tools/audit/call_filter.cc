#include "tools/audit/call_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace rump {

std::vector<int> DispatchedCalls() {
  return {
#define CALL(name, ...) SYS_##name,
#include "hijack/dispatched_calls.inc"
#undef CALL
  };
}

std::vector<sock_filter> CallFilter(const std::vector<int>& numbers) {
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (size_t i = 0; i < numbers.size(); ++i) {
    // To the last instruction, over the one that lets pass.
    const auto to_trace = static_cast<uint8_t>(numbers.size() - i);
    filter.push_back(
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(numbers[i]), to_trace, 0));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
  return filter;
}

int InstallCallFilter(const std::vector<sock_filter>& filter) {
  const sock_fprog program = {.len = static_cast<unsigned short>(filter.size()),
                              .filter = const_cast<sock_filter*>(filter.data())};
  const auto install = [&program] {
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
  };
  if (install() == 0) return 0;
  if (errno != EACCES || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  return install() == 0 ? 0 : errno;
}

}  // namespace rump
