// The process's forks and execs.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"
#include "rumpclient/process.h"

namespace rump::client {
namespace {

bool Names(const char* entry, const char* variable) {
  const size_t length = strlen(variable);
  return strncmp(entry, variable, length) == 0 && entry[length] == '=';
}

// A copy of an environment with two variables replaced. From mmap(2), since a child of vfork may
// not allocate.
class Environment {
 public:
  Environment(char* const* from, char* exec_fd, char* parsed_server) {
    size_t count = 0;
    while (from != nullptr && from[count] != nullptr) ++count;
    size_ = (count + 3) * sizeof(char*);
    void* const memory =
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    entries_ = static_cast<char**>(memory);
    char** to = entries_;
    for (size_t i = 0; i < count; ++i) {
      if (!Names(from[i], kExecFdVariable) && !Names(from[i], kParsedServerVariable)) {
        *to++ = from[i];
      }
    }
    if (exec_fd == nullptr) return;
    *to++ = exec_fd;
    *to++ = parsed_server;
  }
  ~Environment() {
    if (entries_ != nullptr) munmap(entries_, size_);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  char** entries() const { return entries_; }  // nullptr: no memory

 private:
  size_t size_ = 0;
  char** entries_ = nullptr;
};

int ClaimAt(const Endpoint& endpoint, const PreforkCookie& cookie, const Interruption& interruption,
            Connection* own) {
  own->Abandon();
  long result = own->Open(endpoint, &interruption);
  if (result == 0) result = own->Fork(cookie, /*cancel=*/false, &interruption);
  if (result != 0) own->Abandon();
  return static_cast<int>(-result);
}

}  // namespace

int Process::Prefork(PreforkCookie* cookie) {
  if (page_ == nullptr) return ENOTCONN;
  const SignalBlock block;
  Interruption interruption;
  interruption.mask = block.before();
  uint32_t generation;
  if (!Enter(block.before(), &generation)) return ENOTCONN;
  const long result = connection().Prefork(cookie, &interruption);
  Leave();
  return static_cast<int>(-result);
}

int Process::Claim(const PreforkCookie& cookie, const SignalBlock& block) {
  if (page_ == nullptr) return ENOTCONN;
  Interruption interruption;
  interruption.mask = block.before();
  const pid_t pid = getpid();
  const pid_t owner = page_->owner.load();
  if (owner != 0 && owner != pid) return ClaimOnSharedMemory(cookie, interruption);
  if (owner == pid && page_->users.load() != 0) return EBUSY;
  const uint32_t active = active_.load();
  const int error = ClaimAt(endpoint_, cookie, interruption, &connections_[1 - active]);
  // Only now: as long as it is open, the server keeps what its process has preforked.
  if (error == 0 || owner == 0) connections_[active].Abandon();
  if (error != 0) return error;
  active_.store(1 - active);
  page_->owner.store(pid);
  page_->generation.fetch_add(1);
  page_->state.store(kConnected);
  return 0;
}

int Process::ClaimOnSharedMemory(const PreforkCookie& cookie, const Interruption& interruption) {
  // There is one connection for all such children, so that a second one at the same time has none.
  const void* const self = ThreadPointer();
  const void* other = nullptr;
  if (!sharing_child_.compare_exchange_strong(other, self)) return EBUSY;
  const uint32_t active = active_.load();
  const int error = ClaimAt(endpoint_, cookie, interruption, &connections_[1 - active]);
  if (error == 0) {
    close(connections_[active].fd());
  } else {
    sharing_child_.store(nullptr);
  }
  return error;
}

int Process::CancelFork(const PreforkCookie& cookie, const SignalBlock& block) {
  Interruption interruption;
  interruption.mask = block.before();
  Connection canceller;
  long result = canceller.Open(endpoint_, &interruption);
  if (result == 0) result = canceller.Fork(cookie, /*cancel=*/true, &interruption);
  canceller.Abandon();
  return static_cast<int>(-result);
}

void Process::ForgetSharingChild() {
  if (!in_sharing_child()) return;
  connection().Forget();
  sharing_child_.store(nullptr);
  // Left so by a child that is another program by now.
  execing_.store(nullptr);
}

pid_t Process::Fork(pid_t (*fork_function)()) {
  PreforkCookie cookie;
  if (const int error = Prefork(&cookie); error != 0) {
    errno = error;
    return -1;
  }
  // Handlers find the child's connection, never its parent's.
  const SignalBlock block;
  const pid_t pid = fork_function();
  if (pid < 0) {
    const int error = errno;
    CancelFork(cookie, block);
    errno = error;
  } else if (pid == 0) {
    if (const int error = Claim(cookie, block); error != 0) {
      Complain("the child of a fork got no process in the server: %s: exiting", strerror(error));
      _exit(1);
    }
  }
  return pid;
}

bool Process::Suspend(const Interruption& interruption) {
  if (page_ == nullptr || !owns_connection()) return false;
  // Nobody else uses the connection of a child on its parent's memory, and what it counted there
  // before its exec would stay so.
  const bool counts = !in_sharing_child();
  uint32_t generation;
  if (counts && !TryEnter(&generation)) return false;
  if (connection().Suspend(&interruption)) {
    execing_.store(ThreadPointer());
    return true;
  }
  if (counts) Leave();
  return false;
}

void Process::Resume() {
  connection().Resume();
  execing_.store(nullptr);
  if (!in_sharing_child()) Leave();
}

int Process::Exec(const char* path, char* const argv[], char* const envp[]) {
  char exec_fd[64];
  char parsed_server[160];
  const SignalBlock block;
  Interruption interruption;
  interruption.mask = block.before();
  const bool suspended = Suspend(interruption);
  if (suspended) {
    const Connection::Inheritance inherited = connection().inheritance();
    snprintf(exec_fd, sizeof exec_fd, "%s=%d,%u,%u", kExecFdVariable, inherited.fd,
             inherited.extensions, unsigned{inherited.linux_abi});
    char url[128] = "";
    FormatUrl(endpoint_, url, sizeof url);
    snprintf(parsed_server, sizeof parsed_server, "%s=%s", kParsedServerVariable, url);
  }
  int error = ENOMEM;
  const Environment environment(envp, suspended ? exec_fd : nullptr, parsed_server);
  if (environment.entries() != nullptr) {
    if (suspended) connection().SetCloseOnExec(false);
    // The next program starts with the mask that it finds.
    SetSignalMask(block.before());
    execve(path, argv, environment.entries());
    error = errno;
    SetSignalMask(kAllSignals);
    if (suspended) connection().SetCloseOnExec(true);
  }
  if (suspended) Resume();
  return error;
}

}  // namespace rump::client
