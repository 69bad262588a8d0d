// Which system calls of a traced program its tracer is asked about.
#ifndef TOOLS_AUDIT_CALL_FILTER_H_
#define TOOLS_AUDIT_CALL_FILTER_H_

#include <linux/filter.h>

#include <vector>

namespace rump {

// The calls that librumphijack.so takes.
std::vector<int> DispatchedCalls();

// A seccomp(2) filter that stops a thread for its tracer at the calls of these numbers, and lets
// all others pass. Fewer than 200 numbers.
std::vector<sock_filter> CallFilter(const std::vector<int>& numbers);

// Installs it, for this process and all that it starts. Whoever is not root gives up set-user-ID
// programs by that. Between fork and exec: makes system calls only. 0 or an errno.
int InstallCallFilter(const std::vector<sock_filter>& filter);

}  // namespace rump

#endif  // TOOLS_AUDIT_CALL_FILTER_H_
