#include "tools/audit/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "sp_server/loop/unique_fd.h"
#include "tools/audit/call_filter.h"

namespace rump {
namespace {

constexpr long kOptions = PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEEXEC |
                          PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;

// Waits until whoever holds the other end of the pipe has closed it.
void AwaitClose(int fd) {
  char byte;
  while (read(fd, &byte, 1) < 0 && errno == EINTR) {
  }
}

bool IsStopSignal(int signal) {
  return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

bool ReadCall(pid_t thread, TracedCall* call) {
  __ptrace_syscall_info info = {};
  if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) < 0 ||
      info.op != PTRACE_SYSCALL_INFO_SECCOMP) {
    return false;
  }
  call->number = info.seccomp.nr;
  std::ranges::copy(info.seccomp.args, call->args.begin());
  call->next_instruction = info.instruction_pointer;
  call->stack = info.stack_pointer;
  return true;
}

}  // namespace

absl::StatusOr<pid_t> Tracer::Start(const std::function<void()>& exec) {
  const std::vector<sock_filter> filter = CallFilter(DispatchedCalls());
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const UniqueFd held(ends[0]);
  UniqueFd hold(ends[1]);
  child_ = fork();
  if (child_ < 0) return absl::ErrnoToStatus(errno, "fork");
  if (child_ == 0) {
    hold.reset();
    AwaitClose(held.get());
    if (InstallCallFilter(filter) == 0) exec();
    _exit(127);
  }
  if (ptrace(PTRACE_SEIZE, child_, nullptr, kOptions) != 0) {
    const int error = errno;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    return absl::ErrnoToStatus(error, "ptrace");
  }
  threads_[child_] = child_;
  return child_;
}

void Tracer::HandleEvents() {
  int status = 0;
  pid_t thread;
  while ((thread = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
    if (WIFSTOPPED(status)) {
      HandleStop(thread, status);
      continue;
    }
    if (thread == child_) wait_status_ = status;
    Forget(thread);
  }
}

void Tracer::Forget(pid_t thread) {
  const auto found = threads_.find(thread);
  if (found == threads_.end()) return;
  if (found->second == thread) observer_.OnNewProgram(thread);
  threads_.erase(found);
}

pid_t Tracer::ProcessOf(pid_t thread) {
  pid_t& process = threads_[thread];
  if (process != 0) return process;
  process = thread;
  std::ifstream in(absl::StrCat("/proc/", thread, "/status"));
  for (std::string line; std::getline(in, line);) {
    if (absl::StartsWith(line, "Tgid:") &&
        absl::SimpleAtoi(absl::string_view(line).substr(5), &process)) {
      break;
    }
  }
  return process;
}

void Tracer::HandleStop(pid_t thread, int status) {
  const pid_t process = ProcessOf(thread);
  const int signal = WSTOPSIG(status);
  const int event = status >> 16;
  long delivered = 0;
  if (event == PTRACE_EVENT_SECCOMP) {
    TracedCall call;
    call.process = process;
    if (ReadCall(thread, &call)) observer_.OnCall(call);
  } else if (event == PTRACE_EVENT_EXEC) {
    // A thread that is not the first takes its number, and nothing is heard of its own any more.
    unsigned long before = 0;
    ptrace(PTRACE_GETEVENTMSG, thread, nullptr, &before);
    if (static_cast<pid_t>(before) != thread) threads_.erase(static_cast<pid_t>(before));
    observer_.OnNewProgram(process);
  } else if (event == PTRACE_EVENT_STOP && IsStopSignal(signal)) {
    ptrace(PTRACE_LISTEN, thread, nullptr, nullptr);
    return;
  } else if (event == 0) {
    delivered = signal;
  }
  ptrace(PTRACE_CONT, thread, nullptr, delivered);
}

}  // namespace rump
