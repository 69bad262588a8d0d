#include "hijack/diagnostic.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "protocol/text.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {

namespace {
constinit std::string_view program_name;
}  // namespace

void SetProgramName(std::string_view name) { program_name = name; }

void Complain(std::initializer_list<std::string_view> parts) {
  char line[1024];
  TextWriter text(std::span<char>(line, sizeof line - 1));
  text << "rumphijack: " << program_name << "["
       << static_cast<uint32_t>(client::RawSyscall(SYS_getpid)) << "]: ";
  for (const std::string_view part : parts) text << part;
  const size_t size = text.size();
  line[size] = '\n';
  client::RawSyscall(SYS_write, 2, line, size + 1);
}

std::string_view DescribeErrno(int error) {
  switch (error) {
    case ENOENT:
      return "no such socket";
    case ECONNREFUSED:
      return "connection refused";
    case EACCES:
    case EPERM:
      return "permission denied";
    case ENOTDIR:
      return "not a directory on the way";
    case EPROTO:
      return "what listens there is not a rump_server";
    case EPROTONOSUPPORT:
      return "its protocol version is another one";
    case EMFILE:
    case ENFILE:
      return "no file descriptor left";
    case ETIMEDOUT:
      return "what listens there does not answer";
    case EOPNOTSUPP:
      return "it cannot pass file descriptors";
    default:
      return "the connection failed";
  }
}

}  // namespace rump::hijack
