// The built-in kernel: processes, their descriptors, and the system calls.
#ifndef SP_SERVER_KERNEL_KERNEL_H_
#define SP_SERVER_KERNEL_KERNEL_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/syscalls.h"
#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/host_objects.h"
#include "sp_server/kernel/limits.h"
#include "sp_server/kernel/process.h"
#include "sp_server/kernel/reports.h"
#include "sp_server/kernel/socket.h"
#include "sp_server/kernel/tracer.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/server/kernel_interface.h"

namespace rump {

class BuiltinKernel final : public Kernel {
 public:
  // `settle` lets the network stack do what it can do at once, so that a connection inside the
  // stack is decided before the call that asked for it answers. `loop` outlives the kernel.
  BuiltinKernel(EventLoop* loop, std::function<void()> settle, const KernelLimits& limits = {});

  Result<std::unique_ptr<KernelProcess>> Spawn(std::string_view command) override;

  EventLoop& loop() { return *loop_; }
  SocketFamilies& families() { return families_; }
  HostObjects& objects() { return objects_; }
  // The bytes that processes make the kernel hold.
  const std::shared_ptr<Budget>& memory() const { return memory_; }
  // Of these, the datagrams of the network.
  const std::shared_ptr<Budget>& datagram_memory() const { return datagram_memory_; }
  // Lets `process` use the object `id` whose C has the SO_COOKIE `cookie`.
  void AllowObject(Process& process, uint64_t id, uint64_t cookie);

  // Makes the client of `pid` raise `signo`, at once by way of a call in flight, which it
  // interrupts if it waits, else with the process's next call. 0 only looks for the process. ESRCH.
  Errno Signal(Pid pid, int signo);

  const std::string& hostname() const { return hostname_; }
  void set_hostname(std::string hostname) { hostname_ = std::move(hostname); }

  // What programs are to find at /etc/resolv.conf; empty: what is there.
  void set_resolver_config(std::string config) { resolver_config_ = std::move(config); }

  void SetServer(const ServerInfo* server) override { server_ = server; }

  // Whether the call `number` is one that clients are offered.
  bool Offers(uint32_t number) const {
    return server_ == nullptr || (ExtensionOfCall(number) & ~server_->extensions()) == 0;
  }

  // The report of a QueryKind, nullopt for a kind that is none; `except` is left out of processes.
  std::optional<std::string> Report(uint64_t kind, Pid except) const;
  // Where calls of the row `spec`, nullptr for none, are counted.
  CallCount& CountOf(const SyscallSpec* spec) {
    return spec == nullptr ? call_counts_.back() : call_counts_[spec - AllSyscalls().data()];
  }
  // Traces all calls that start from now on to `file`, or none if that is invalid.
  void SetTrace(UniqueFd file);
  // What `halt` does; set by whoever runs the server.
  void set_on_halt(std::function<void()> on_halt) { on_halt_ = std::move(on_halt); }
  void Halt() { on_halt_(); }

 private:
  class Handle;
  std::shared_ptr<Process> NewProcess(std::string_view command, Pid parent);
  void RemoveProcess(const Process& process);
  bool HasObject(uint64_t id, uint64_t cookie) const;
  bool HasRoomForCopyOf(const Process& process) const;
  void UncountCopy(const Process& copy);
  std::vector<ProcessReport> ReportProcesses(Pid except) const;
  StatisticsReport ReportStatistics() const;

  EventLoop* const loop_;
  const KernelLimits limits_;
  const std::shared_ptr<Budget> fd_entries_;
  const std::shared_ptr<Budget> memory_;
  const std::shared_ptr<Budget> datagram_memory_;
  std::function<void()> on_halt_ = [] {};
  SocketFamilies families_;
  HostObjects objects_;
  std::map<Pid, std::shared_ptr<Process>> processes_;
  size_t copies_ = 0;  // of processes_, those that no client has claimed
  Pid next_pid_ = kInitPid + 1;
  const ServerInfo* server_ = nullptr;
  std::vector<CallCount> call_counts_;  // see StatisticsReport
  std::shared_ptr<Tracer> tracer_;      // nullptr: off
  std::string hostname_;
  std::string resolver_config_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_KERNEL_H_
