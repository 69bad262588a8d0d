#include "sp_server/kernel/kernel.h"

#include <sys/utsname.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "sp_server/kernel/syscalls.h"
#include "sp_server/kernel/unix_socket.h"

namespace rump {
namespace {
// Processes at once; far above what sessions and preforks allow together.
constexpr size_t kMaxProcesses = 100'000;
constexpr Pid kMaxPid = 4'194'304;
}  // namespace

// A process as the server holds it.
class BuiltinKernel::Handle final : public KernelProcess {
 public:
  Handle(BuiltinKernel* kernel, std::shared_ptr<Process> process)
      : kernel_(kernel), process_(std::move(process)) {}

  ~Handle() override {
    process_->client = nullptr;
    process_->on_drained = nullptr;
    kernel_->processes_.erase(process_->pid);
    for (auto& [pid, other] : kernel_->processes_) {
      if (other->ppid == process_->pid) other->ppid = kInitPid;
    }
    InterruptAll();
    process_->fds.CloseAll();
  }

  Result<std::unique_ptr<KernelProcess>> Fork() override {
    if (kernel_->processes_.size() >= kMaxProcesses) return Errno(EAGAIN);
    std::shared_ptr<Process> child = kernel_->NewProcess(process_->command, process_->pid);
    for (const uint64_t id : process_->objects) {
      if (kernel_->objects_.Find(id) != nullptr) child->objects.insert(id);
    }
    child->fds.CopyFrom(process_->fds);
    return std::unique_ptr<KernelProcess>(new Handle(kernel_, std::move(child)));
  }

  void SetClient(const ClientInfo* client) override { process_->client = client; }

  void Exec(std::string_view command, std::function<void(Errno)> done) override {
    process_->on_drained = [process = process_.get(), command = std::string(command),
                            done = std::move(done)] {
      process->fds.Exec();
      process->command = command;
      done(kOk);
    };
    if (process_->calls.empty()) return std::exchange(process_->on_drained, nullptr)();
    InterruptAll();
  }

  void SystemCall(std::shared_ptr<Call> call) override {
    for (int signo = 1; process_->pending_signals != 0; ++signo) {
      const uint64_t bit = uint64_t{1} << (signo - 1);
      if ((process_->pending_signals & bit) != 0) call->Raise(signo);
      process_->pending_signals &= ~bit;
    }
    StartSyscall(std::make_unique<CallContext>(kernel_, process_, std::move(call)));
  }

 private:
  void InterruptAll() {
    for (CallContext* context : process_->calls) context->Interrupt();
  }

  BuiltinKernel* const kernel_;
  const std::shared_ptr<Process> process_;
};

BuiltinKernel::BuiltinKernel(EventLoop* loop, std::function<void()> settle,
                             size_t max_host_objects)
    : loop_(loop), objects_(loop, std::move(settle), max_host_objects) {
  RegisterUnix(&families_);
  utsname host;
  if (uname(&host) == 0) hostname_ = host.nodename;
}

std::shared_ptr<Process> BuiltinKernel::NewProcess(std::string_view command, Pid parent) {
  auto process = std::make_shared<Process>();
  while (processes_.contains(next_pid_)) {
    next_pid_ = next_pid_ >= kMaxPid ? kInitPid + 1 : next_pid_ + 1;
  }
  process->pid = next_pid_;
  next_pid_ = next_pid_ >= kMaxPid ? kInitPid + 1 : next_pid_ + 1;
  process->ppid = parent;
  process->command = command;
  processes_.emplace(process->pid, process);
  return process;
}

Result<std::unique_ptr<KernelProcess>> BuiltinKernel::Spawn(std::string_view command) {
  if (processes_.size() >= kMaxProcesses) return Errno(EAGAIN);
  return std::unique_ptr<KernelProcess>(new Handle(this, NewProcess(command, kInitPid)));
}

Errno BuiltinKernel::Signal(Pid pid, int signo) {
  // init has no client, and takes no signal that it has no handler for.
  if (pid == kInitPid) return kOk;
  auto it = processes_.find(pid);
  if (it == processes_.end()) return Errno(ESRCH);
  if (signo == 0) return kOk;
  Process& process = *it->second;
  if (process.calls.empty()) {
    process.pending_signals |= uint64_t{1} << (signo - 1);
    return kOk;
  }
  // Clients raise signals when a call returns: one that waits has to.
  auto waiting = std::ranges::find_if(process.calls, &CallContext::waiting);
  CallContext* call = waiting != process.calls.end() ? *waiting : *process.calls.begin();
  call->call().Raise(signo);
  if (call->waiting()) call->Interrupt();
  return kOk;
}

std::string BuiltinKernel::ProcessReport(Pid except) const {
  std::string report = absl::StrFormat("%7s %7s %-16s %5s %5s %12s  %s\n", "PID", "PPID",
                                       "COMMAND", "FDS", "CALLS", "BYTES", "CLIENT");
  for (const auto& [pid, process] : processes_) {
    if (pid == except) continue;
    const ClientInfo* client = process->client;
    size_t objects = 0;
    for (const uint64_t id : process->objects) objects += objects_.Find(id) != nullptr ? 1 : 0;
    // A name comes from the client: nothing in it may move the reader's cursor.
    std::string command = process->command;
    for (char& c : command) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    absl::StrAppendFormat(&report, "%7d %7d %-16s %5d %5d %12d  %s\n", pid, process->ppid, command,
                          process->fds.count() + objects,
                          client != nullptr ? client->calls_in_flight() : 0,
                          client != nullptr ? client->bytes_moved() : 0,
                          client != nullptr ? client->Describe() : "waits for its fork handshake");
  }
  return report;
}

}  // namespace rump
