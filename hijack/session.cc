#include "hijack/session.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "hijack/diagnostic.h"
#include "hijack/process_page.h"
#include "hijack/real.h"
#include "protocol/syscalls.h"
#include "rumpclient/core/interruption.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::hijack {

constinit Session session;

namespace {

// Counts a use of the connection, which then is not replaced.
class UseCount {
 public:
  UseCount() { process_page().calls.fetch_add(1, std::memory_order_acq_rel); }
  ~UseCount() { process_page().calls.fetch_sub(1, std::memory_order_acq_rel); }
  UseCount(const UseCount&) = delete;
  UseCount& operator=(const UseCount&) = delete;
};

}  // namespace

void Session::Configure(const ServerAddress* server, std::string_view command) {
  server_ = server;
  command_ = command;
}

bool Session::connected() const { return process_page().connected && connection_.open(); }

long Session::Issue(client::Call* call) {
  // Between the look and the use another thread may lose the connection, and a third replace it.
  constexpr int kAttempts = 3;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (!connected()) {
      if (const long error = Connect(); error != 0) return error;
    }
    const UseCount use;
    if (connected()) return connection_.Issue(call) == 0 ? 0 : -ENETDOWN;
  }
  return -ENETDOWN;
}

long Session::Request(int fd, uint64_t object, uint32_t number,
                      std::initializer_list<uint64_t> arguments) {
  const client::SignalBlock block;
  client::Call call;
  call.number = number;
  call.args[call.nargs++] = object;
  for (const uint64_t argument : arguments) call.args[call.nargs++] = argument;
  if (const long error = Issue(&call); error != 0) return error;
  if (call.error == EBADF && fd >= 0) {
    client::Call proof;
    proof.number = kSysHostProve;
    proof.args[proof.nargs++] = object;
    proof.send_fd = fd;
    if (const long error = Issue(&proof); error != 0) return error;
    if (proof.error != 0) return -proof.error;
    if (const long error = Issue(&call); error != 0) return error;
  }
  return call.error != 0 ? -call.error : static_cast<long>(call.retval[0]);
}

long Session::NewSocket(int domain, int type, int protocol) {
  const client::SignalBlock block;
  client::Call call;
  call.number = kSysHostSocket;
  call.nargs = 3;
  call.args[0] = static_cast<uint64_t>(domain);
  call.args[1] = static_cast<uint64_t>(type);
  call.args[2] = static_cast<uint64_t>(protocol);
  call.wants_fd = true;
  if (const long error = Issue(&call); error != 0) return error;
  if (call.error != 0) return -call.error;
  if (call.received_fd >= 0) return call.received_fd;
  // The kernel drops a descriptor that the process has no room for.
  client::Call release;
  release.number = kSysHostRelease;
  release.args[release.nargs++] = call.retval[0];
  Issue(&release);
  return -EMFILE;
}

long Session::Fork() {
  if (!connected() || !OwnMemory()) {
    const long pid = KernelResult(real.fork());
    if (pid == 0) OwnMemory();
    return pid;
  }
  const client::SignalBlock block;
  client::Interruption interruption;
  interruption.mask = block.before();
  PreforkCookie cookie;
  bool copied;
  {
    const UseCount use;
    copied = connection_.Prefork(&cookie) == 0;
  }
  const long pid = KernelResult(real.fork());
  // While it cannot be a child on this memory that asks first.
  if (pid == 0) OwnMemory();
  if (!copied) return pid;
  if (pid == 0) {
    // The parent's, or one that a fork handler of the program has made already. Closed at last: as
    // long as the parent's is open the server keeps the copy, even if the parent is gone.
    const int inherited = connection_.fd();
    connection_.Forget();
    process_page().connected = connection_.Open(server_->endpoint, &interruption) == 0 &&
                               connection_.Fork(cookie, /*cancel=*/false, &interruption) == 0;
    if (inherited >= 0) client::RawSyscall(SYS_close, inherited);
  } else if (pid < 0) {
    client::Connection canceller;
    if (canceller.Open(server_->endpoint, &interruption) == 0) {
      canceller.Fork(cookie, /*cancel=*/true, &interruption);
    }
    canceller.Abandon();
  }
  return pid;
}

long Session::Connect() {
  ProcessPage& page = process_page();
  const client::FutexLockGuard guard(&page.connect_lock);
  if (connected()) return 0;
  // A lost connection that calls of other threads still hang on cannot be replaced yet.
  if (page.connected && page.calls.load(std::memory_order_acquire) != 0) return -ENETDOWN;
  page.connected = false;
  connection_.Abandon();
  const long error = ConnectAs(command_);
  if (error != 0) {
    connection_.Abandon();
    ComplainOnce(static_cast<int>(-error));
    return -ENETDOWN;
  }
  page.connected = true;
  return 0;
}

long Session::ConnectAs(std::string_view command) {
  if (server_->url.empty() || server_->url_error != UrlError::kNone) return -EDESTADDRREQ;
  if (!server_->endpoint.is_unix()) return -EOPNOTSUPP;
  if (const long error = connection_.Open(server_->endpoint); error != 0) return error;
  if ((connection_.extensions() & kExtensionHostFd) == 0) return -EOPNOTSUPP;
  return connection_.Guest(command);
}

void Session::ComplainOnce(int error) {
  if (complained_.exchange(true)) return;
  if (server_->url.empty()) {
    Complain(
        {"no network: RUMP_SERVER is not set; set it to the URL of a rump_server, such as "
         "unix:///tmp/rump"});
  } else if (server_->url_error != UrlError::kNone) {
    Complain({"no network: RUMP_SERVER=", server_->url,
              " is no URL of a rump_server: ", UrlErrorName(server_->url_error)});
  } else if (!server_->endpoint.is_unix()) {
    Complain({"no network: RUMP_SERVER=", server_->url,
              ": sockets cannot be passed over TCP; use a unix:// URL"});
  } else if (error == EOPNOTSUPP) {
    Complain({"no network: RUMP_SERVER=", server_->url,
              ": the server does not offer the extension hostfd; start a rump_server without "
              "--no-extensions"});
  } else {
    Complain({"no network: RUMP_SERVER=", server_->url, ": ", DescribeErrno(error),
              "; is \"rump_server ", server_->url, "\" running?"});
  }
}

long Session::MoveFd() {
  const client::SignalBlock block;
  client::Interruption interruption;
  interruption.mask = block.before();
  return connection_.MoveFd(&interruption);
}

}  // namespace rump::hijack
