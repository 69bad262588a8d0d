// Starting another program: in place of this process, or as its child.
#ifndef TOOLS_RUMP_PROCESS_H_
#define TOOLS_RUMP_PROCESS_H_

#include <signal.h>
#include <sys/types.h>

#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

// Starts `path` with `arguments` (argv[0] included) and this process's environment instead of this
// process. Returns only if that fails, with the reason.
absl::Status Exec(const std::string& path, std::span<const std::string> arguments);

// A child process. It is killed and reaped with its owner, unless it was reaped before.
class Child {
 public:
  // Forks and runs Exec in the child, after `prepare` (which may only call functions that are safe
  // there). The status is fork's failure or exec's own.
  static absl::StatusOr<Child> Start(const std::string& path,
                                     std::span<const std::string> arguments,
                                     const std::function<void()>& prepare);
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  // Readable once the child has ended.
  int pidfd() const { return pidfd_.get(); }

  // Takes in a change of the child's state, as waitpid(2) with WNOHANG and `options` (stops only
  // with WUNTRACED). Returns false if there was none. After an end, pid() is -1.
  bool Reap(int options, int* wait_status);

  // Asks the child to end by SIGTERM, and kills it if it has not within `patience_ms`.
  void Stop(int patience_ms);

 private:
  Child() = default;

  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

}  // namespace rump

#endif  // TOOLS_RUMP_PROCESS_H_
