// Finds the system calls on sockets that should have been the library's and reached the kernel.
#ifndef TOOLS_AUDIT_ESCAPE_AUDIT_H_
#define TOOLS_AUDIT_ESCAPE_AUDIT_H_

#include <stdint.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "hijack/config.h"
#include "tools/audit/tracer.h"

namespace rump {

// A call has escaped if it
//  - makes a socket of a family that is hijacked;
//  - makes one of NETLINK_ROUTE or a ring of io_uring(7) where those of the internet are;
//  - is one that the library takes, on a hijacked descriptor, and was made without asking the
//    library: by somebody else than the library and libc, or by a libc at a place that is not
//    rewritten. Of a libc that is not rewritten at all nobody can tell whether the library had a
//    say, since its symbols lead on to libc.
// A program that does not load the library, a static one, may move bytes on a hijacked descriptor
// that it has been given: that is what such a descriptor is good for, and is listed apart.
class EscapeAudit : public CallObserver {
 public:
  // `library` is the path of librumphijack.so as processes have it mapped. The views in `config`
  // are not used.
  EscapeAudit(std::string library, const HijackConfig& config);
  ~EscapeAudit() override;

  void OnCall(const TracedCall& call) override;
  void OnNewProgram(pid_t process) override;

  uint64_t escaped() const { return escaped_; }
  // What escaped, most often first, with who did it; one line each, and one before with the sums.
  // Behind it, what programs without the library did.
  std::string Report() const;

 private:
  struct Process;

  enum class Verdict { kGood, kEscaped, kWithoutLibrary };
  Verdict Judge(const TracedCall& call, Process* process) const;
  std::string Describe(const TracedCall& call, Process* process) const;
  Process* FindProcess(pid_t pid);

  const std::string library_;
  const HijackConfig config_;
  std::unordered_map<pid_t, std::unique_ptr<Process>> processes_;
  std::map<std::string, uint64_t> escapes_;
  std::map<std::string, uint64_t> without_library_;
  uint64_t seen_ = 0;
  uint64_t escaped_ = 0;
};

}  // namespace rump

#endif  // TOOLS_AUDIT_ESCAPE_AUDIT_H_
