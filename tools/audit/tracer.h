// Runs a program, and all that it starts, and looks at each system call that the hijack library
// takes when it reaches the kernel.
#ifndef TOOLS_AUDIT_TRACER_H_
#define TOOLS_AUDIT_TRACER_H_

#include <stdint.h>
#include <sys/types.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rump {

// A system call that a stopped thread is about to make.
struct TracedCall {
  pid_t process = 0;
  uint64_t number = 0;
  std::array<uint64_t, 6> args = {};
  uint64_t next_instruction = 0;
  uint64_t stack = 0;
};

class CallObserver {
 public:
  virtual ~CallObserver() = default;
  virtual void OnCall(const TracedCall& call) = 0;
  // `process` runs another program from now on, or has ended.
  virtual void OnNewProgram(pid_t process) = 0;
};

// The tracer of the processes that it has started and of all their children, which it kills if it
// ends before them. All functions are to be called on one thread.
class Tracer {
 public:
  // `observer` must outlive it.
  explicit Tracer(CallObserver* observer) : observer_(*observer) {}
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  // Forks; the child runs `exec`, which is not to return, under the tracer.
  absl::StatusOr<pid_t> Start(const std::function<void()>& exec);

  // Takes in all that has happened and lets stopped threads go on, without waiting.
  void HandleEvents();

  // Whether processes are left.
  bool active() const { return !threads_.empty(); }
  // The wait status of the child, once it has ended.
  int wait_status() const { return wait_status_; }

 private:
  void HandleStop(pid_t thread, int status);
  void Forget(pid_t thread);
  pid_t ProcessOf(pid_t thread);

  CallObserver& observer_;
  pid_t child_ = -1;
  int wait_status_ = 0;
  std::unordered_map<pid_t, pid_t> threads_;  // thread -> its process
};

}  // namespace rump

#endif  // TOOLS_AUDIT_TRACER_H_
