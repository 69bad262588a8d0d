// The lifecycle behind <rump/rumpclient.h>: what may allocate, print and read the environment.
#include "rump/rumpclient.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mutex>

#include "protocol/url.h"
#include "rumpclient/core/connection.h"

#define RUMPCLIENT_EXPORT extern "C" __attribute__((visibility("default")))

namespace rump::client {
namespace {

constinit Connection connection;
constinit std::mutex init_mutex;

// Prints one line and returns -1 with errno = `error`.
__attribute__((format(printf, 2, 3))) int FailInit(int error, const char* format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  fprintf(stderr, "rumpclient: %s\n", line);
  errno = error;
  return -1;
}

const char* Advice(long error) {
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
      return "start rump_server there, or correct RUMP_SERVER";
    case EPROTO:
      return "what answers there is not a rump kernel server; correct RUMP_SERVER";
    case EPROTONOSUPPORT:
      return "the server speaks another version of the protocol; use a server of version 0.4";
    case ETIMEDOUT:
      return "nothing there speaks as a rump kernel server does; correct RUMP_SERVER";
    default:
      return "check RUMP_SERVER";
  }
}

int Init() {
  const std::lock_guard lock(init_mutex);
  if (connection.open()) return 0;
  const char* const url = getenv("RUMP_SERVER");
  if (url == nullptr || *url == '\0') {
    return FailInit(ENOENT,
                    "RUMP_SERVER is not set; set it to the URL of a rump kernel server, such as "
                    "unix:///tmp/rump.sock");
  }
  char cwd[PATH_MAX];
  if (getcwd(cwd, sizeof cwd) == nullptr) *cwd = '\0';
  Endpoint endpoint;
  if (const UrlError error = ParseUrl(url, cwd, &endpoint); error != UrlError::kNone) {
    const std::string_view reason = UrlErrorName(error);
    return FailInit(EINVAL, "RUMP_SERVER=%s: %.*s; set it to unix://path or tcp://address:port/",
                    url, static_cast<int>(reason.size()), reason.data());
  }
  if (const long result = connection.Open(endpoint); result != 0) {
    const int error = static_cast<int>(-result);
    return FailInit(error, "RUMP_SERVER=%s: cannot connect: %s; %s", url, strerror(error),
                    Advice(error));
  }
  if (const long result = connection.Guest(program_invocation_short_name); result != 0) {
    const int error = static_cast<int>(-result);
    connection.Abandon();
    return FailInit(error, "RUMP_SERVER=%s: the server refused a new process: %s; see its log", url,
                    strerror(error));
  }
  return 0;
}

int Syscall(int num, const void* sysarg, size_t argsize, long* retval) {
  Call call;
  if (argsize > sizeof call.args || argsize % sizeof call.args[0] != 0) return EINVAL;
  call.number = static_cast<uint32_t>(num);
  call.nargs = argsize / sizeof call.args[0];
  if (argsize > 0) memcpy(call.args, sysarg, argsize);
  if (const long result = connection.Issue(&call); result != 0) return static_cast<int>(-result);
  if (call.error == 0) memcpy(retval, call.retval, sizeof call.retval);
  return call.error;
}

}  // namespace
}  // namespace rump::client

RUMPCLIENT_EXPORT int rumpclient_init() { return rump::client::Init(); }

RUMPCLIENT_EXPORT int rumpclient_syscall(int num, const void* sysarg, size_t argsize,
                                         long* retval) {
  return rump::client::Syscall(num, sysarg, argsize, retval);
}
