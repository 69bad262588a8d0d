#include "hijack/session.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <span>

#include "hijack/clock.h"
#include "hijack/diagnostic.h"
#include "hijack/fd_cache.h"
#include "hijack/process_page.h"
#include "protocol/syscalls.h"
#include "protocol/text.h"
#include "rumpclient/core/interruption.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/signal_block.h"

namespace rump::hijack {

constinit Session session;

namespace {

// How long a fork waits for the server to copy the process, in seconds.
constexpr long kForkPatience = 10;
// How long a new socket waits from one try to connect again to the next, in milliseconds.
constexpr long kFirstPause = 10;
constexpr long kLongestPause = 1000;
// How often a thread looks whether the others have left a lost connection, which takes them a
// moment. A child on this memory that was killed in a call never does.
constexpr int kMaxLooks = 10'000;

// Counts a use of the connection, which then is not replaced.
class UseCount {
 public:
  UseCount() { process_page().calls.fetch_add(1, std::memory_order_acq_rel); }
  ~UseCount() { process_page().calls.fetch_sub(1, std::memory_order_acq_rel); }
  UseCount(const UseCount&) = delete;
  UseCount& operator=(const UseCount&) = delete;
};

// Keeps other threads from forking. The child has a page of its own, where the lock is free.
class ForkTurn {
 public:
  ForkTurn() : page_(process_page()), within_(page_.forker == client::ThreadPointer()) {
    if (within_) return;
    page_.fork_lock.Lock();
    page_.forker = client::ThreadPointer();
  }
  ~ForkTurn() {
    if (within_ || page_.forker == nullptr) return;
    page_.forker = nullptr;
    page_.fork_lock.Unlock();
  }
  ForkTurn(const ForkTurn&) = delete;
  ForkTurn& operator=(const ForkTurn&) = delete;

 private:
  ProcessPage& page_;
  const bool within_;
};

// For calls that the server answers at once: a program must be able to end also if it does not.
client::Interruption WithoutHandlers(client::SignalSet mask) {
  client::Interruption interruption;
  interruption.mask = mask;
  interruption.keeps_handlers_out = true;
  return interruption;
}

}  // namespace

void Session::Configure(const ServerAddress* server, std::string_view command,
                        const RetryPolicy& retry) {
  server_ = server;
  command_ = command;
  retry_ = retry;
}

bool Session::connected() const { return process_page().connected && connection_.open(); }

bool Session::execs() const {
  return exec_thread_.load(std::memory_order_relaxed) == client::ThreadPointer();
}

long Session::TryIssue(client::Call* call, client::SignalSet mask) {
  // Between the look and the use another thread may lose the connection, and a third replace it. A
  // call that meets the loss is made again: what the lost server has done of it is lost as well.
  constexpr int kAttempts = 3;
  if (execs()) return -ENOTCONN;
  client::Interruption interruption = WithoutHandlers(mask);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (!connected()) {
      if (const long error = Connect(mask); error != 0) return error;
    }
    const UseCount use;
    if (connected() && connection_.Issue(call, &interruption) == 0) return 0;
  }
  return -ENOTCONN;
}

long Session::Issue(client::Call* call, client::SignalSet mask) {
  const long error = TryIssue(call, mask);
  if (error == 0) return 0;
  ComplainOnce(static_cast<int>(-error));
  return -ENETDOWN;
}

bool Session::Retries() const {
  if (!lost_.load(std::memory_order_relaxed) || retry_.never()) return false;
  return retry_.kind == RetryPolicy::Kind::kForever || retry_.kind == RetryPolicy::Kind::kSeconds;
}

long Session::IssuePatiently(client::Call* call, client::SignalSet mask) {
  long error = TryIssue(call, mask);
  if (error == 0 || !Retries()) return error;
  Complain({"the connection to the server at ", server_->url, " is lost: reconnecting"});
  const int64_t start = Now();
  for (long pause = kFirstPause; Retries(); pause = std::min(2 * pause, kLongestPause)) {
    if (retry_.kind == RetryPolicy::Kind::kSeconds && Now() - start >= retry_.seconds) return error;
    client::SetSignalMask(mask);
    Sleep(pause);
    client::SetSignalMask(client::kAllSignals);
    error = TryIssue(call, mask);
    if (error != 0 && error != -EOPNOTSUPP) continue;
    if (error == 0) Complain({"connected again to the server at ", server_->url});
    return error;
  }
  return TryIssue(call, mask);
}

long Session::Request(int fd, uint64_t object, uint32_t number,
                      std::initializer_list<uint64_t> arguments) {
  const client::SignalBlock block;
  client::Call call;
  call.number = number;
  call.args[call.nargs++] = object;
  for (const uint64_t argument : arguments) call.args[call.nargs++] = argument;
  return IssueOn(fd, object, &call, block.before());
}

long Session::IssueOn(int fd, uint64_t object, client::Call* call, client::SignalSet mask) {
  if (const long error = TryIssue(call, mask); error != 0) return Unreachable(error);
  if (call->error == EBADF && fd >= 0) {
    client::Call proof;
    proof.number = kSysHostProve;
    proof.args[proof.nargs++] = object;
    proof.send_fd = fd;
    if (const long error = TryIssue(&proof, mask); error != 0) return Unreachable(error);
    // One of another server, most likely of one that is gone.
    if (proof.error == EBADF) return -ENOTCONN;
    if (proof.error != 0) return -proof.error;
    if (const long error = TryIssue(call, mask); error != 0) return Unreachable(error);
  }
  return call->error != 0 ? -call->error : static_cast<long>(call->retval[0]);
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
  if (const long error = IssuePatiently(&call, block.before()); error != 0) {
    ComplainOnce(static_cast<int>(-error));
    return -ENETDOWN;
  }
  if (call.error != 0) return -call.error;
  if (call.received_fd >= 0) return call.received_fd;
  // The kernel drops a descriptor that the process has no room for.
  client::Call release;
  release.number = kSysHostRelease;
  release.args[release.nargs++] = call.retval[0];
  Issue(&release, block.before());
  return -EMFILE;
}

long Session::NewTcpSocket(int domain, int protocol, bool cloexec) {
  if (const long fd = spare_.Take(domain, cloexec); fd != -EAGAIN) return fd;
  const long fd = NewSocket(domain, SOCK_STREAM, protocol);
  if (fd < 0) return fd;
  if (!cloexec) client::RawSyscall(SYS_fcntl, fd, F_SETFD, 0);
  if (OwnMemory()) {
    fd_cache.Set(static_cast<int>(fd), FdKind::kFresh);
    spare_.CountMiss(domain);
  } else {
    fd_cache.Forget(static_cast<int>(fd));
  }
  return fd;
}

long Session::ConnectTcp(int fd, uint64_t object, uint64_t addr, uint64_t len, uint64_t flags) {
  const client::SignalBlock block;
  const int spare = spare_.Want();
  client::Call call;
  call.number = kSysHostConnect;
  for (const uint64_t argument : {object, addr, len, flags, static_cast<uint64_t>(spare)}) {
    call.args[call.nargs++] = argument;
  }
  call.wants_fd = spare != 0;
  long r = IssueOn(fd, object, &call, block.before());
  if (r == kHostConnectNeedsByte) {
    const char byte = 0;
    r = client::RawSyscall(SYS_sendto, fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL, nullptr, 0);
    if (r == 1) {
      call.args[3] |= kHostConnectByte;
      r = IssueOn(fd, object, &call, block.before());
    }
  }
  if (spare != 0) spare_.Keep(call.received_fd, spare);
  return r;
}

void Session::BecomeChild() {
  // While it cannot be a child on this memory that asks first.
  OwnMemory();
  spare_.Drop();
  // An exec that a handler or another thread has interrupted by the fork is the parent's.
  exec_thread_.store(nullptr, std::memory_order_relaxed);
}

long Session::ForkBy(const Forker& forker) {
  if (!CanHandOn()) {
    const SpareSocket::Hold hold(&spare_);
    const long pid = forker.fork(forker.arg);
    if (pid == 0) BecomeChild();
    return pid;
  }
  const client::SignalBlock block;
  const ForkTurn turn;
  // The copy's connection.
  int fd = -1;
  {
    const UseCount use;
    // No handler is to run in the middle of a fork.
    client::Interruption bounded;
    bounded.mask = block.before();
    bounded.deadline = client::Deadline::After(kForkPatience);
    if (connection_.Prefork(&fd, &bounded) != 0 && !connection_.open()) NoteLoss();
  }
  const SpareSocket::Hold hold(&spare_);
  const long pid = forker.fork(forker.arg);
  if (pid == 0) BecomeChild();
  if (fd < 0) return pid;
  if (pid != 0) {
    // If there is no child, this ends the copy.
    client::RawSyscall(SYS_close, fd);
    return pid;
  }
  // The parent's, or one that a fork handler of the program has made already.
  const int inherited = connection_.fd();
  process_page().connected = connection_.BecomeForked(fd) == 0;
  fd_cache.Forget(connection_.fd());
  if (inherited >= 0) client::RawSyscall(SYS_close, inherited);
  return 0;
}

void Session::NoteLoss() {
  lost_.store(true, std::memory_order_relaxed);
  if (retry_.kind != RetryPolicy::Kind::kDie) return;
  Complain({"the connection to the server at ", server_->url, " is lost: exiting"});
  for (;;) client::RawSyscall(SYS_exit_group, 1);
}

long Session::Unreachable(long error) {
  if (retry_.kind == RetryPolicy::Kind::kDie) NoteLoss();
  ComplainOnce(static_cast<int>(-error));
  return -ENOTCONN;
}

bool Session::CanHandOn() const { return connected() && OwnMemory() && !execs(); }

bool Session::HandOn(char* inherited, client::SignalSet mask) {
  if (!CanHandOn()) return false;
  process_page().calls.fetch_add(1, std::memory_order_acq_rel);
  client::Interruption interruption;
  interruption.mask = mask;
  if (!connection_.Suspend(&interruption)) {
    process_page().calls.fetch_sub(1, std::memory_order_acq_rel);
    return false;
  }
  exec_thread_.store(client::ThreadPointer(), std::memory_order_relaxed);
  const client::Connection::Inheritance state = connection_.inheritance();
  TextWriter text(std::span<char>(inherited, kInheritedSize - 1));
  text << static_cast<uint32_t>(client::RawSyscall(SYS_getpid)) << ","
       << static_cast<uint32_t>(state.fd) << "," << state.extensions << ","
       << uint32_t{state.linux_abi};
  inherited[text.size()] = '\0';
  connection_.SetCloseOnExec(false);
  return true;
}

void Session::TakeBack() {
  // In a child that was forked meanwhile.
  if (!execs()) return;
  connection_.SetCloseOnExec(true);
  connection_.Resume();
  exec_thread_.store(nullptr, std::memory_order_relaxed);
  process_page().calls.fetch_sub(1, std::memory_order_acq_rel);
}

void Session::Adopt(std::string_view inherited) {
  uint32_t numbers[4];
  for (uint32_t& number : numbers) {
    if (!ParseDecimal(TakeUntil(&inherited, ','), UINT32_MAX, &number)) return;
  }
  const auto [pid, fd, extensions, linux_abi] = numbers;
  if (!inherited.empty() || client::RawSyscall(SYS_getpid) != pid) return;
  const client::SignalBlock block;
  if (connection_.Adopt({static_cast<int>(fd), extensions, linux_abi != 0}) != 0) return;
  fd_cache.Forget(static_cast<int>(fd));
  if (connection_.Exec(command_) != 0) {
    connection_.Abandon();
    return NoteLoss();
  }
  process_page().connected = true;
}

long Session::Connect(client::SignalSet mask) {
  ProcessPage& page = process_page();
  const client::FutexLockGuard guard(&page.connect_lock);
  if (connected()) return 0;
  if (page.connected) NoteLoss();
  // Calls of other threads still hang on a lost connection, but not for long.
  for (int look = 0; page.connected && page.calls.load(std::memory_order_acquire) != 0; ++look) {
    if (look == kMaxLooks) return -ENOTCONN;
    client::RawSyscall(SYS_sched_yield);
  }
  page.connected = false;
  spare_.Drop();
  connection_.Abandon();
  if (lost_.load(std::memory_order_relaxed) && retry_.never()) return -ENOTCONN;
  const long error = ConnectAs(command_, mask);
  if (error != 0) {
    connection_.Abandon();
    return error;
  }
  page.connected = true;
  lost_.store(false, std::memory_order_relaxed);
  return 0;
}

long Session::ConnectAs(std::string_view command, client::SignalSet mask) {
  if (server_->url.empty() || server_->url_error != UrlError::kNone) return -EDESTADDRREQ;
  if (!server_->endpoint.is_unix()) return -EOPNOTSUPP;
  const client::Interruption interruption = WithoutHandlers(mask);
  const long error = connection_.Open(server_->endpoint, &interruption);
  // Else calls on a number that once was the host's would not be looked at.
  fd_cache.Forget(connection_.fd());
  if (error != 0) return error;
  if ((connection_.extensions() & kExtensionHostFd) == 0) return -EOPNOTSUPP;
  return connection_.Guest(command, &interruption);
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
  } else if (error == ENOTCONN) {
    Complain({"no network: the connection to the server at ", server_->url,
              " is lost; with RUMPHIJACK_RETRYCONNECT=once new sockets connect again"});
  } else if (error == EAGAIN) {
    Complain({"no network: RUMP_SERVER=", server_->url,
              ": the server has as many clients as it takes (rump_server --max-clients)"});
  } else if (error == EOPNOTSUPP) {
    Complain({"no network: RUMP_SERVER=", server_->url,
              ": the server does not offer the extension hostfd; start a rump_server without "
              "--no-extensions"});
  } else {
    Complain({"no network: RUMP_SERVER=", server_->url, ": ", DescribeErrno(error),
              "; is \"rump_server ", server_->url, "\" running?"});
  }
}

long Session::MoveConnection(client::SignalSet mask) {
  client::Interruption interruption;
  interruption.mask = mask;
  const long error = connection_.MoveFd(&interruption);
  fd_cache.Forget(connection_.fd());
  return error;
}

}  // namespace rump::hijack
