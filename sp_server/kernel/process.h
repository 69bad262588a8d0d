// A process of the built-in kernel, and the context that each of its system calls runs in.
#ifndef SP_SERVER_KERNEL_PROCESS_H_
#define SP_SERVER_KERNEL_PROCESS_H_

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/fd_table.h"
#include "sp_server/kernel/limits.h"
#include "sp_server/server/kernel_interface.h"

namespace rump {

class BuiltinKernel;
class CallContext;

using Pid = int;
inline constexpr Pid kInitPid = 1;

// The calls in flight of one process, newest first. An intrusive list: most calls are in it for a
// moment only.
class CallList {
 public:
  bool empty() const { return first_ == nullptr; }
  CallContext* first() const { return first_; }
  void Add(CallContext* call);
  void Remove(CallContext* call);

 private:
  CallContext* first_ = nullptr;
};

// Shared by its client's session and by the calls in flight, which outlive the session by the
// moment that they need to end.
struct Process {
  // All calls in flight of one process may hold as much of `memory`.
  static constexpr size_t kCallMemory = 16 << 20;

  // `fd_entries`: see FdTable. `memory`: BuiltinKernel::memory.
  Process(const KernelLimits& limits, std::shared_ptr<Budget> fd_entries,
          std::shared_ptr<Budget> memory)
      : fds(limits.process_files, std::move(fd_entries)),
        objects_made(std::make_shared<Budget>(limits.process_objects)),
        call_memory(std::make_shared<Budget>(kCallMemory, std::move(memory))) {}

  Pid pid = 0;
  Pid ppid = kInitPid;
  std::unordered_set<Pid> children;  // init takes them over when the process ends
  size_t copies = 0;                 // of these, those that no client has claimed
  std::string command;
  FdTable fds;
  // Objects of the "hostfd" extension that this process may use: it made them, inherited them by
  // fork or proved to hold them. Added to by BuiltinKernel::AllowObject; some are gone already.
  // By id, each with its C's SO_COOKIE, since ids are used again.
  std::unordered_map<uint64_t, uint64_t> objects;
  size_t prune_objects_at = 64;
  // Whether the last of its connections was a direct pair at once: the next may be so, too.
  bool connects_directly = false;
  // What objects that the process makes come out of.
  const std::shared_ptr<Budget> objects_made;
  // Whether objects that it has not asked for leave it as many as it has.
  bool HasRoomForSpare() const { return objects_made->used() < objects_made->limit() / 2; }
  // What CallMemory gives to calls.
  const std::shared_ptr<Budget> call_memory;
  const ClientInfo* client = nullptr;
  // Signals that came while no call was in flight, bit n-1 for signal n: the next call brings them.
  uint64_t pending_signals = 0;
  CallList calls;
  // Waits for the last call in flight to end; see KernelProcess::Exec.
  std::function<void()> on_drained;
};

// The descriptor in an argument's slot; -1, which none has, for one that no int stands in. An
// object's id must not pass for the descriptor that is its lower half.
inline int DescriptorIn(uint64_t slot) {
  const auto value = static_cast<int64_t>(slot);
  return value >= INT_MIN && value <= UINT32_MAX ? static_cast<int>(slot) : -1;
}

// What can wait inside a call, and be told to stop waiting.
class Interruptible {
 public:
  virtual void Interrupt() = 0;

 protected:
  ~Interruptible() = default;
};

// One system call in flight in the built-in kernel.
class CallContext {
 public:
  CallContext(BuiltinKernel* kernel, std::shared_ptr<Process> process, std::shared_ptr<Call> call)
      : kernel_(kernel), process_(std::move(process)), call_(std::move(call)) {
    process_->calls.Add(this);
  }
  CallContext(const CallContext&) = delete;
  CallContext& operator=(const CallContext&) = delete;
  ~CallContext() {
    process_->calls.Remove(this);
    if (process_->calls.empty() && process_->on_drained) {
      std::exchange(process_->on_drained, nullptr)();
    }
  }

  BuiltinKernel& kernel() const { return *kernel_; }
  Process& process() const { return *process_; }
  const std::shared_ptr<Process>& shared_process() const { return process_; }
  Call& call() const { return *call_; }
  uint64_t arg(size_t i) const { return call_->arg(i); }
  int int_arg(size_t i) const { return static_cast<int>(call_->arg(i)); }
  int fd_arg(size_t i) const { return DescriptorIn(call_->arg(i)); }

  bool interrupted() const { return interrupted_; }
  // Makes the call's present wait, and all later ones, end with EINTR.
  void Interrupt() {
    interrupted_ = true;
    if (waiting_ != nullptr) std::exchange(waiting_, nullptr)->Interrupt();
  }
  // What the call waits on, nullptr if it runs.
  void set_waiting(Interruptible* waiting) { waiting_ = waiting; }
  bool waiting() const { return waiting_ != nullptr; }

  // The next one of its process.
  CallContext* next() const { return next_; }

 private:
  friend class CallList;

  BuiltinKernel* const kernel_;
  const std::shared_ptr<Process> process_;
  const std::shared_ptr<Call> call_;
  bool interrupted_ = false;
  Interruptible* waiting_ = nullptr;
  CallContext* previous_ = nullptr;
  CallContext* next_ = nullptr;
};

inline void CallList::Add(CallContext* call) {
  call->next_ = first_;
  if (first_ != nullptr) first_->previous_ = call;
  first_ = call;
}

inline void CallList::Remove(CallContext* call) {
  (call->previous_ != nullptr ? call->previous_->next_ : first_) = call->next_;
  if (call->next_ != nullptr) call->next_->previous_ = call->previous_;
}

}  // namespace rump

#endif  // SP_SERVER_KERNEL_PROCESS_H_
