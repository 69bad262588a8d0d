#include "sp_server/kernel/kernel.h"

#include <sys/utsname.h>

#include <algorithm>
#include <utility>

#include "sp_server/kernel/syscalls.h"
#include "sp_server/kernel/unix_socket.h"

namespace rump {
namespace {
constexpr Pid kMaxPid = 4'194'304;
}  // namespace

// A process as the server holds it.
class BuiltinKernel::Handle final : public KernelProcess {
 public:
  Handle(BuiltinKernel* kernel, std::shared_ptr<Process> process)
      : kernel_(kernel), process_(std::move(process)) {}

  ~Handle() override {
    if (unclaimed_) kernel_->UncountCopy(*process_);
    process_->client = nullptr;
    process_->on_drained = nullptr;
    kernel_->RemoveProcess(*process_);
    InterruptAll();
    process_->fds.CloseAll();
    for (const auto& [id, cookie] : process_->objects) {
      if (kernel_->HasObject(id, cookie)) kernel_->objects().Find(id)->LookForByte();
    }
  }

  Result<std::unique_ptr<KernelProcess>> Fork() override {
    if (!kernel_->HasRoomForCopyOf(*process_)) return Errno(EAGAIN);
    std::shared_ptr<Process> child = kernel_->NewProcess(process_->command, process_->pid);
    auto handle = std::make_unique<Handle>(kernel_, child);
    handle->unclaimed_ = true;
    ++process_->copies;
    ++kernel_->copies_;
    if (const Errno error = child->fds.CopyFrom(process_->fds); !error.ok()) return error;
    for (const auto& [id, cookie] : process_->objects) {
      if (kernel_->HasObject(id, cookie)) kernel_->AllowObject(*child, id, cookie);
    }
    return std::unique_ptr<KernelProcess>(std::move(handle));
  }

  void SetClient(const ClientInfo* client) override {
    if (std::exchange(unclaimed_, false)) kernel_->UncountCopy(*process_);
    process_->client = client;
  }

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
    Call& original = *call;
    if (kernel_->tracer_ != nullptr) call = kernel_->tracer_->Trace(process_->pid, std::move(call));
    auto running = std::make_unique<RunningCall>(kernel_, process_, std::move(call));
    original.set_kernel_note(static_cast<CallContext*>(running.get()));
    RunningCall::Start(std::move(running));
  }

  void Interrupt(Call& call) override {
    static_cast<CallContext*>(call.kernel_note())->Interrupt();
  }

 private:
  void InterruptAll() {
    // No call ends by this before the loop goes on.
    for (CallContext* call = process_->calls.first(); call != nullptr; call = call->next()) {
      call->Interrupt();
    }
  }

  BuiltinKernel* const kernel_;
  const std::shared_ptr<Process> process_;
  bool unclaimed_ = false;  // a copy that no client has had yet
};

BuiltinKernel::BuiltinKernel(EventLoop* loop, std::function<void()> settle,
                             const KernelLimits& limits)
    : loop_(loop),
      limits_(limits),
      fd_entries_(std::make_shared<Budget>(limits.files)),
      memory_(std::make_shared<Budget>(limits.memory_bytes)),
      datagram_memory_(std::make_shared<Budget>(limits.datagram_bytes, memory_)),
      objects_(loop, std::move(settle), limits.objects),
      call_counts_(AllSyscalls().size() + 1) {
  RegisterUnix(&families_, memory_);
  utsname host;
  if (uname(&host) == 0) hostname_ = host.nodename;
}

std::shared_ptr<Process> BuiltinKernel::NewProcess(std::string_view command, Pid parent) {
  auto process = std::make_shared<Process>(limits_, fd_entries_, memory_);
  while (processes_.contains(next_pid_)) {
    next_pid_ = next_pid_ >= kMaxPid ? kInitPid + 1 : next_pid_ + 1;
  }
  process->pid = next_pid_;
  next_pid_ = next_pid_ >= kMaxPid ? kInitPid + 1 : next_pid_ + 1;
  process->ppid = parent;
  process->command = command;
  processes_.emplace(process->pid, process);
  if (parent != kInitPid) processes_.at(parent)->children.insert(process->pid);
  return process;
}

void BuiltinKernel::RemoveProcess(const Process& process) {
  for (const Pid child : process.children) processes_.at(child)->ppid = kInitPid;
  if (process.ppid != kInitPid) processes_.at(process.ppid)->children.erase(process.pid);
  processes_.erase(process.pid);
}

bool BuiltinKernel::HasRoomForCopyOf(const Process& process) const {
  // Copies cost a client nothing, so they never get at the other half. No process has more of them
  // than it leaves to all others: the more they are, the less each gets, and a newcomer gets some.
  const size_t room = limits_.processes / 2 - copies_;
  return process.copies < room && processes_.size() < limits_.processes;
}

void BuiltinKernel::UncountCopy(const Process& copy) {
  --copies_;
  if (copy.ppid != kInitPid) --processes_.at(copy.ppid)->copies;
}

Result<std::unique_ptr<KernelProcess>> BuiltinKernel::Spawn(std::string_view command) {
  if (processes_.size() >= limits_.processes) return Errno(EAGAIN);
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
  CallContext* call = process.calls.first();
  while (call != nullptr && !call->waiting()) call = call->next();
  if (call == nullptr) call = process.calls.first();
  call->call().Raise(signo);
  if (call->waiting()) call->Interrupt();
  return kOk;
}

bool BuiltinKernel::HasObject(uint64_t id, uint64_t cookie) const {
  const std::shared_ptr<HostSocket> object = objects_.Find(id);
  return object != nullptr && object->c_cookie() == cookie;
}

void BuiltinKernel::AllowObject(Process& process, uint64_t id, uint64_t cookie) {
  // A program that opens and closes for ever must not add up what it had. Looking only when their
  // number has doubled makes it cheap.
  if (process.objects.size() >= process.prune_objects_at) {
    std::erase_if(process.objects,
                  [this](const auto& held) { return !HasObject(held.first, held.second); });
    process.prune_objects_at = std::max(process.prune_objects_at, 2 * process.objects.size());
  }
  process.objects.insert_or_assign(id, cookie);
}

std::optional<std::string> BuiltinKernel::Report(uint64_t kind, Pid except) const {
  switch (static_cast<QueryKind>(kind)) {
    case QueryKind::kProcesses:
      return FormatProcesses(ReportProcesses(except));
    case QueryKind::kProcessesJson:
      return FormatProcessesJson(ReportProcesses(except));
    case QueryKind::kStatistics:
      return FormatStatistics(ReportStatistics());
    case QueryKind::kStatisticsJson:
      return FormatStatisticsJson(ReportStatistics());
    case QueryKind::kResolverConfig:
      return resolver_config_;
  }
  return std::nullopt;
}

std::vector<ProcessReport> BuiltinKernel::ReportProcesses(Pid except) const {
  std::vector<ProcessReport> reports;
  for (const auto& [pid, process] : processes_) {
    if (pid == except) continue;
    size_t fds = process->fds.count();
    for (const auto& [id, cookie] : process->objects) fds += HasObject(id, cookie) ? 1 : 0;
    reports.push_back({pid, process->ppid, process->command, fds, process->client});
  }
  return reports;
}

StatisticsReport BuiltinKernel::ReportStatistics() const {
  StatisticsReport report;
  if (server_ != nullptr) {
    report.clients = server_->clients();
    report.preforks = server_->preforks();
    report.counted = server_->counted();
  }
  report.processes = processes_.size();
  report.objects = objects_.count();
  report.fd_entries = fd_entries_->used();
  report.memory = memory_->used();
  report.closing = loop_->closer().pending();
  report.calls = call_counts_;
  return report;
}

void BuiltinKernel::SetTrace(UniqueFd file) {
  tracer_ = file.valid() ? std::make_shared<Tracer>(loop_, std::move(file)) : nullptr;
}

}  // namespace rump
