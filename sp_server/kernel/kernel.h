// The built-in kernel: processes, their descriptors, and the system calls.
#ifndef SP_SERVER_KERNEL_KERNEL_H_
#define SP_SERVER_KERNEL_KERNEL_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "sp_server/kernel/host_objects.h"
#include "sp_server/kernel/process.h"
#include "sp_server/kernel/socket.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/server/kernel_interface.h"

namespace rump {

class BuiltinKernel final : public Kernel {
 public:
  // `settle` lets the network stack do what it can do at once, so that a connection inside the
  // stack is decided before the call that asked for it answers. `loop` outlives the kernel.
  BuiltinKernel(EventLoop* loop, std::function<void()> settle,
                size_t max_host_objects = HostObjects::kMaxObjects);

  Result<std::unique_ptr<KernelProcess>> Spawn(std::string_view command) override;

  EventLoop& loop() { return *loop_; }
  SocketFamilies& families() { return families_; }
  HostObjects& objects() { return objects_; }

  // Makes the client of `pid` raise `signo`, at once by way of a call in flight, which it interrupts
  // if it waits, else with the process's next call. 0 only looks for the process. ESRCH.
  Errno Signal(Pid pid, int signo);

  const std::string& hostname() const { return hostname_; }
  void set_hostname(std::string hostname) { hostname_ = std::move(hostname); }

  // The report of `rump ps`: a line a process, `except` left out.
  std::string ProcessReport(Pid except) const;
  // What `halt` does; set by whoever runs the server.
  void set_on_halt(std::function<void()> on_halt) { on_halt_ = std::move(on_halt); }
  void Halt() { on_halt_(); }

 private:
  class Handle;
  std::shared_ptr<Process> NewProcess(std::string_view command, Pid parent);

  EventLoop* const loop_;
  std::function<void()> on_halt_ = [] {};
  SocketFamilies families_;
  HostObjects objects_;
  std::map<Pid, std::shared_ptr<Process>> processes_;
  Pid next_pid_ = kInitPid + 1;
  std::string hostname_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_KERNEL_H_
