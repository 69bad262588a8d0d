// What a seccomp filter thinks of a system call.
#ifndef HIJACK_SECCOMP_FILTER_H_
#define HIJACK_SECCOMP_FILTER_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>

namespace rump::hijack {

// What `filter`, which the kernel has accepted, answers for `call`: SECCOMP_RET_*, with its data.
uint32_t RunFilter(const sock_fprog& filter, const seccomp_data& call);

// Whether `filter` lets a thread make system call `number`, with arguments of no importance, as if
// there were no filter.
bool FilterAllows(const sock_fprog& filter, int number);

}  // namespace rump::hijack

#endif  // HIJACK_SECCOMP_FILTER_H_
