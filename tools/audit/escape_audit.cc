#include "tools/audit/escape_audit.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "hijack/object_id.h"
#include "sp_server/loop/unique_fd.h"
#include "tools/audit/call_origin.h"
#include "tools/audit/memory_map.h"

namespace rump {
namespace {

bool ReadMemory(pid_t pid, uint64_t address, std::span<uint8_t> to) {
  const iovec local = {to.data(), to.size()};
  const iovec remote = {reinterpret_cast<void*>(address), to.size()};
  return process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(to.size());
}

std::string CommandOf(pid_t pid) {
  std::string name;
  std::getline(std::ifstream(absl::StrCat("/proc/", pid, "/comm")), name);
  return name;
}

absl::string_view NameOf(uint64_t number) {
  switch (number) {
#define CALL(name, ...) \
  case SYS_##name:      \
    return #name;
#include "hijack/dispatched_calls.inc"
#undef CALL
    default:
      return "?";
  }
}

absl::string_view FamilyOf(uint64_t domain) {
  switch (domain) {
    case AF_INET:
      return "AF_INET";
    case AF_INET6:
      return "AF_INET6";
    case AF_NETLINK:
      return "AF_NETLINK";
    default:
      return "AF_UNIX";
  }
}

// Whether the call means the same on the program's end of a socketpair as on a socket of the
// host's.
bool MovesBytes(const TracedCall& call) {
  switch (call.number) {
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_sendfile:
    case SYS_splice:
    case SYS_close:
    case SYS_close_range:
    case SYS_dup:
    case SYS_dup2:
    case SYS_dup3:
    case SYS_fcntl:
      return true;
    case SYS_ioctl:
      // By which shells find out that it is no terminal.
      return call.args[1] == TCGETS;
    default:
      return false;
  }
}

void AppendLines(const std::map<std::string, uint64_t>& counts, std::string* report) {
  std::vector<std::pair<absl::string_view, uint64_t>> lines(counts.begin(), counts.end());
  std::ranges::stable_sort(lines, std::ranges::greater(), &decltype(lines)::value_type::second);
  for (const auto& [what, count] : lines) absl::StrAppendFormat(report, "%7d  %s\n", count, what);
}

}  // namespace

struct EscapeAudit::Process {
  Process(pid_t id, const std::string& library)
      : pid(id),
        pidfd(static_cast<int>(syscall(SYS_pidfd_open, id, 0))),
        origins(
            library, [id] { return MemoryMap::OfProcess(id); },
            [id](uint64_t address, std::span<uint8_t> to) { return ReadMemory(id, address, to); }) {
  }

  // Whether descriptor `fd` of the process is the program's end of a socket of the server's.
  bool HasHijacked(uint64_t fd) const {
    const UniqueFd copy(
        static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), static_cast<int>(fd), 0)));
    return copy.valid() && hijack::ObjectOf(copy.get()) > 0;
  }

  pid_t pid;
  UniqueFd pidfd;
  CallOrigins origins;
};

EscapeAudit::EscapeAudit(std::string library, const HijackConfig& config)
    : library_(std::move(library)), config_(config) {}

EscapeAudit::~EscapeAudit() = default;

EscapeAudit::Process* EscapeAudit::FindProcess(pid_t pid) {
  std::unique_ptr<Process>& process = processes_[pid];
  if (process == nullptr) process = std::make_unique<Process>(pid, library_);
  return process.get();
}

void EscapeAudit::OnNewProgram(pid_t process) { processes_.erase(process); }

EscapeAudit::Verdict EscapeAudit::Judge(const TracedCall& call, Process* process) const {
  const auto escaped_if = [](bool escaped) { return escaped ? Verdict::kEscaped : Verdict::kGood; };
  if (call.number == SYS_socket) {
    return escaped_if(
        HijacksSocket(config_, static_cast<int>(call.args[0]), static_cast<int>(call.args[2])));
  }
  if (call.number == SYS_io_uring_setup) return escaped_if(HijacksInternet(config_));
  switch (process->origins.Find(call.next_instruction)) {
    case CallOrigin::kLibrary:
    case CallOrigin::kGate:
    case CallOrigin::kUnknown:
      return Verdict::kGood;
    case CallOrigin::kMissed:
    case CallOrigin::kElsewhere:
      break;
  }
  if (!process->HasHijacked(call.args[0]) &&
      (call.number != SYS_splice || !process->HasHijacked(call.args[2]))) {
    return Verdict::kGood;
  }
  if (MovesBytes(call) && !process->origins.HasLibrary()) return Verdict::kWithoutLibrary;
  return Verdict::kEscaped;
}

void EscapeAudit::OnCall(const TracedCall& call) {
  ++seen_;
  Process* const process = FindProcess(call.process);
  switch (Judge(call, process)) {
    case Verdict::kGood:
      break;
    case Verdict::kEscaped:
      ++escaped_;
      ++escapes_[Describe(call, process)];
      break;
    case Verdict::kWithoutLibrary:
      ++without_library_[absl::StrCat(NameOf(call.number), " by ", CommandOf(call.process),
                                      ", without the library")];
      break;
  }
}

std::string EscapeAudit::Describe(const TracedCall& call, Process* process) const {
  std::string text(NameOf(call.number));
  if (call.number == SYS_socket) absl::StrAppend(&text, "(", FamilyOf(call.args[0]), ")");
  absl::StrAppend(&text, " by ", CommandOf(process->pid), " at ",
                  process->origins.Describe(call.next_instruction));
  if (process->origins.Find(call.next_instruction) == CallOrigin::kElsewhere) return text;
  // A function of libc that does little else than make the call has no stack frame.
  uint64_t caller = 0;
  if (ReadMemory(process->pid, call.stack, {reinterpret_cast<uint8_t*>(&caller), sizeof caller}) &&
      process->origins.IsCode(caller)) {
    absl::StrAppend(&text, ", called from ", process->origins.Describe(caller));
  }
  return text;
}

std::string EscapeAudit::Report() const {
  std::string report =
      absl::StrFormat("%d of %d system calls have escaped the library\n", escaped_, seen_);
  AppendLines(escapes_, &report);
  AppendLines(without_library_, &report);
  return report;
}

}  // namespace rump
