// How a program becomes a process of the server: what may allocate and reads the environment.
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "protocol/url.h"
#include "rumpclient/process.h"

namespace rump::client {

constinit Process process;

void Complain(const char* format, ...) {
  static constexpr char kPrefix[] = "rumpclient: ";
  char line[1024] = "rumpclient: ";
  constexpr size_t kStart = sizeof kPrefix - 1;
  va_list args;
  va_start(args, format);
  vsnprintf(line + kStart, sizeof line - kStart - 1, format, args);
  va_end(args);
  const size_t size = strlen(line);
  line[size] = '\n';
  (void)!write(STDERR_FILENO, line, size + 1);
}

namespace {

const char* Advice(int error) {
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

// Takes the variable out of the environment, since it is for this program only.
bool TakeVariable(const char* name, char* value, size_t size) {
  const char* const found = getenv(name);
  if (found == nullptr) return false;
  snprintf(value, size, "%s", found);
  unsetenv(name);
  return true;
}

}  // namespace

bool Process::MapPage() {
  static constinit std::atomic<Page*> mapped{nullptr};
  if (page_ != nullptr) return true;
  void* const memory =
      mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  Page* before = nullptr;
  if (madvise(memory, sizeof(Page), MADV_WIPEONFORK) != 0 ||
      !mapped.compare_exchange_strong(before, static_cast<Page*>(memory))) {
    munmap(memory, sizeof(Page));
    if (before == nullptr) return false;
  }
  page_ = mapped.load();
  return true;
}

int Process::Init() {
  if (!MapPage()) {
    Complain("no memory at the start of the program");
    return ENOMEM;
  }
  const FutexLockGuard lock(&page_->init_lock);
  if (in_sharing_child()) return connection().open() ? 0 : ENOTCONN;
  uint32_t state;
  do {
    while ((state = page_->state.load()) == kConnecting) FutexWait(&page_->state, state);
    if (state == kConnected && connection().open()) return 0;
  } while (!BeginConnecting(state));
  // Looked at from time to time, since a wake-up would be a system call for every call.
  while (page_->users.load() != 0) usleep(1000);
  connection().Abandon();
  const int error = Connect();
  if (error == 0) {
    page_->owner.store(getpid());
    page_->generation.fetch_add(1);
    announced_ = false;
  } else {
    connection().Abandon();
  }
  EndConnecting(error == 0 ? kConnected : kNone);
  return error;
}

int Process::Connect() {
  char descriptor[64];
  char server[PATH_MAX] = "";
  const bool inherits = TakeVariable(kExecFdVariable, descriptor, sizeof descriptor);
  const bool parsed = TakeVariable(kParsedServerVariable, server, sizeof server);
  if (inherits && parsed && ParseUrl(server, "", &endpoint_) == UrlError::kNone) {
    return Inherit(descriptor);
  }
  const char* const url = getenv("RUMP_SERVER");
  if (url == nullptr || *url == '\0') {
    Complain(
        "RUMP_SERVER is not set; set it to the URL of a rump kernel server, such as "
        "unix:///tmp/rump.sock");
    return ENOENT;
  }
  return ConnectTo(url);
}

int Process::Inherit(const char* descriptor) {
  Connection::Inheritance inherited;
  unsigned linux_abi = 0;
  if (sscanf(descriptor, "%d,%u,%u", &inherited.fd, &inherited.extensions, &linux_abi) != 3) {
    Complain("%s=%s cannot be read; rumpclient_exec() sets it, nobody else may", kExecFdVariable,
             descriptor);
    return EINVAL;
  }
  inherited.linux_abi = linux_abi != 0;
  long result = connection().Adopt(inherited);
  if (result == 0) result = connection().Exec(program_invocation_short_name);
  if (result != 0) {
    Complain("%s=%s: the connection of the program before does not go on: %s", kExecFdVariable,
             descriptor, strerror(static_cast<int>(-result)));
  }
  return static_cast<int>(-result);
}

int Process::ConnectTo(const char* url) {
  char cwd[PATH_MAX];
  if (getcwd(cwd, sizeof cwd) == nullptr) *cwd = '\0';
  if (const UrlError error = ParseUrl(url, cwd, &endpoint_); error != UrlError::kNone) {
    const std::string_view reason = UrlErrorName(error);
    Complain("RUMP_SERVER=%s: %.*s; set it to unix://path or tcp://address:port/", url,
             static_cast<int>(reason.size()), reason.data());
    return EINVAL;
  }
  if (const long result = connection().Open(endpoint_); result != 0) {
    const int error = static_cast<int>(-result);
    Complain("RUMP_SERVER=%s: cannot connect: %s; %s", url, strerror(error), Advice(error));
    return error;
  }
  if (const long result = connection().Guest(program_invocation_short_name); result != 0) {
    const int error = static_cast<int>(-result);
    Complain("RUMP_SERVER=%s: the server refused a new process: %s; see its log", url,
             strerror(error));
    return error;
  }
  return 0;
}

}  // namespace rump::client
