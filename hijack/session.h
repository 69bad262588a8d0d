// This process's connection to the server, which is made when it is first needed.
#ifndef HIJACK_SESSION_H_
#define HIJACK_SESSION_H_

#include <stdint.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <initializer_list>
#include <string_view>

#include "hijack/retry_policy.h"
#include "hijack/spare_socket.h"
#include "protocol/url.h"
#include "rumpclient/core/connection.h"
#include "rumpclient/core/signal_block.h"

namespace rump::hijack {

// What the environment said at load.
struct ServerAddress {
  std::string_view url;  // RUMP_SERVER as it is, empty if unset
  UrlError url_error = UrlError::kNone;
  Endpoint endpoint;
};

// All functions may be called from any thread, in signal handlers, and after any kind of fork. They
// block signals while they talk to the server, which answers at once.
class Session {
 public:
  constexpr Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Once, before anything else; the first two stay the caller's. `command` is the process's name in
  // the server.
  void Configure(const ServerAddress* server, std::string_view command, const RetryPolicy& retry);

  // Whether this process has a connection; false in the child of a fork that has not made its own.
  bool connected() const;

  // Makes `call`, over a new connection if there is none, or if the one that there was is lost and
  // the retry policy allows another. 0: the call's own outcome is in *call. -ENETDOWN: no
  // connection (the first time, a line on stderr says why). Signals are to be blocked; `mask` is
  // the program's own, and signals that it lets in and that have no handler end or stop the program
  // if the server takes long.
  long Issue(client::Call* call, client::SignalSet mask);

  // Makes call `number` on `object`, whose end in this process is `fd` (-1: not to be proved), with
  // `arguments` behind the object. Proves that the process holds the object if the server asks for
  // that. The call's value, or -errno; -ENOTCONN if the object's server is gone.
  long Request(int fd, uint64_t object, uint32_t number,
               std::initializer_list<uint64_t> arguments = {});

  // host_socket(2): the new descriptor, close-on-exec, or -errno. Where the server is lost, it
  // waits for a new one as long as the retry policy says; signals are let in then.
  long NewSocket(int domain, int type, int protocol);
  // The same for TCP, with SOCK_CLOEXEC only if `cloexec`, and remembered as what it is: as a rule
  // without a request.
  long NewTcpSocket(int domain, int protocol, bool cloexec);
  // host_connect(2) of a stream, as Request; the address is at `addr` in the program.
  long ConnectTcp(int fd, uint64_t object, uint64_t addr, uint64_t len, uint64_t flags);

  // Calls `fork`, which has the outcomes of fork(2) as the kernel gives them, and forks the process
  // in the server too if there is one.
  template <typename F>
  long Fork(const F& fork) {
    return ForkBy({[](const void* f) { return (*static_cast<const F*>(f))(); }, &fork});
  }

  // Whether an exec of this thread's process could keep the process in the server.
  bool CanHandOn() const;
  // Calls `exec`, which returns only if it fails, with what Adopt has to be told in the next
  // program, so that this keeps the process in the server; with "" if !`keep` or there is none.
  template <typename F>
  long Exec(bool keep, const F& exec) {
    const client::SignalBlock block;
    char inherited[kInheritedSize] = "";
    const bool handed_on = keep && HandOn(inherited, block.before());
    // The next program starts with the mask that it finds.
    client::SetSignalMask(block.before());
    const long result = exec(static_cast<const char*>(inherited));
    client::SetSignalMask(client::kAllSignals);
    if (handed_on) TakeBack();
    return result;
  }
  // Takes over the connection that an exec has left open, at load. Nothing happens if `inherited`
  // is not of this process.
  void Adopt(std::string_view inherited);

  // Whether `fd` is one of the library's own, which the program does not know of: the connection's
  // or the spare socket's.
  bool Owns(int fd) const { return fd >= 0 && (fd == connection_.fd() || fd == spare_.fd()); }
  // The library's own descriptors, -1 for those that there are not.
  std::array<int, 2> own_fds() const { return {connection_.fd(), spare_.fd()}; }
  bool owns_any() const { return connection_.fd() >= 0 || spare_.fd() >= 0; }
  // Where they are kept, for code that cannot call.
  constexpr const std::atomic<int>* own_fd_address() const { return connection_.fd_address(); }
  constexpr const std::atomic<int>* spare_fd_address() const { return spare_.fd_address(); }
  // The connection's descriptor makes way for the program, which wants its number. 0 or -errno.
  // Signals are to be blocked, as for Issue.
  long MoveConnection(client::SignalSet mask);
  bool OwnsConnection(int fd) const { return fd >= 0 && fd == connection_.fd(); }
  SpareSocket& spare() { return spare_; }

 private:
  static constexpr size_t kInheritedSize = 48;
  bool HandOn(char* inherited, client::SignalSet mask);
  void TakeBack();

  struct Forker {
    long (*fork)(const void* arg);
    const void* arg;
  };
  // As Request, which makes `call` of its arguments; signals are to be blocked, as for Issue.
  long IssueOn(int fd, uint64_t object, client::Call* call, client::SignalSet mask);
  long ForkBy(const Forker& forker);
  void BecomeChild();
  bool execs() const;
  // As Issue, but in silence and with the -errno of why there is no connection; -ENOTCONN: it is
  // lost, and there shall be no other.
  long TryIssue(client::Call* call, client::SignalSet mask);
  long IssuePatiently(client::Call* call, client::SignalSet mask);
  bool Retries() const;
  long Connect(client::SignalSet mask);
  long ConnectAs(std::string_view command, client::SignalSet mask);
  void NoteLoss();
  // The server of an object cannot be reached: its calls' outcome.
  long Unreachable(long error);
  void ComplainOnce(int error);

  const ServerAddress* server_ = nullptr;
  std::string_view command_;
  RetryPolicy retry_;
  client::Connection connection_;
  SpareSocket spare_;
  // Outside of the process's page: the children of forks know it as well.
  std::atomic<bool> lost_{false};
  std::atomic<bool> complained_{false};
  // The thread that execs: between two frames the connection is its alone, and not even its signal
  // handlers may use it.
  std::atomic<const void*> exec_thread_{nullptr};
};

// The process's one.
extern Session session;

}  // namespace rump::hijack

#endif  // HIJACK_SESSION_H_
