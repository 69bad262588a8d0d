// The few lines that the library may write to the program's stderr.
#ifndef HIJACK_DIAGNOSTIC_H_
#define HIJACK_DIAGNOSTIC_H_

#include <initializer_list>
#include <string_view>

namespace rump::hijack {

// The name for Complain's lines; stays the caller's.
void SetProgramName(std::string_view name);

// Writes "rumphijack: NAME[PID]: ", the parts and a newline to descriptor 2 with one system call;
// what exceeds 1 KiB is cut.
void Complain(std::initializer_list<std::string_view> parts);

// Words for the errors that connecting to a server ends with, such as "connection refused".
std::string_view DescribeErrno(int error);

}  // namespace rump::hijack

#endif  // HIJACK_DIAGNOSTIC_H_
