#include "sp_server/server/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rump {
namespace {

// Connections that wait for accept; a burst of starting clients must fit.
constexpr int kBacklog = 1024;
// After a shortage of descriptors that no client's end has cured.
constexpr std::chrono::milliseconds kPause{100};

absl::Status Failure(const std::string& url, std::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot listen at ", url, ": ", std::string(why)));
}

absl::Status SystemFailure(const std::string& url, std::string_view what) {
  return Failure(url, absl::StrCat(std::string(what), ": ", strerror(errno)));
}

bool IsLoopback(const Endpoint& endpoint) {
  if (endpoint.any.sa_family == AF_INET) {
    return (ntohl(endpoint.in.sin_addr.s_addr) >> 24) == 127;
  }
  return IN6_IS_ADDR_LOOPBACK(&endpoint.in6.sin6_addr);
}

// Removes the socket file at `path` if nobody listens at it any more.
absl::Status RemoveStaleSocket(const std::string& url, const Endpoint& endpoint) {
  const char* path = endpoint.un.sun_path;
  struct stat file;
  if (lstat(path, &file) != 0) {
    return errno == ENOENT ? absl::OkStatus() : SystemFailure(url, path);
  }
  if (!S_ISSOCK(file.st_mode)) {
    return Failure(
        url, absl::StrCat(path, " exists and is not a socket; remove it or choose another path"));
  }
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (connect(probe.get(), &endpoint.any, endpoint.len) == 0 || errno == EAGAIN) {
    ucred peer{};
    socklen_t len = sizeof peer;
    std::string who = "another process";
    if (getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0) {
      who = absl::StrCat("process ", peer.pid);
    }
    return Failure(url, absl::StrCat("address in use by ", who,
                                     "; stop it (rump halt) or choose another path"));
  }
  if (errno != ECONNREFUSED) return SystemFailure(url, path);
  if (unlink(path) != 0) return SystemFailure(url, absl::StrCat("cannot remove the stale ", path));
  return absl::OkStatus();
}

Peer PeerOf(int fd) {
  sockaddr_storage address{};
  socklen_t len = sizeof address;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &len) != 0) return {"gone", false};
  if (address.ss_family == AF_UNIX) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return {"gone", false};
    return UnixPeer(peer);
  }
  Endpoint endpoint;
  memcpy(&endpoint.in6, &address, sizeof endpoint.in6);
  endpoint.len = len;
  char text[128];
  const size_t n = FormatUrl(endpoint, text, sizeof text);
  return {std::string(text, n), false};
}

bool IsShortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

Peer UnixPeer(const ucred& credentials) {
  return {absl::StrCat("unix pid ", credentials.pid, " uid ", credentials.uid),
          credentials.uid == 0 || credentials.uid == geteuid()};
}

absl::StatusOr<std::unique_ptr<Listener>> Listener::Open(EventLoop* loop, const std::string& url,
                                                         bool allow_remote, AcceptFn on_accept) {
  char cwd[PATH_MAX];
  if (getcwd(cwd, sizeof cwd) == nullptr) cwd[0] = '\0';
  Endpoint endpoint;
  if (const UrlError error = ParseUrl(url, cwd, &endpoint); error != UrlError::kNone) {
    return absl::InvalidArgumentError(absl::StrCat("bad URL ", url, ": ",
                                                   std::string(UrlErrorName(error)),
                                                   " (unix://path or tcp://address:port/)"));
  }
  if (!endpoint.is_unix() && !allow_remote && !IsLoopback(endpoint)) {
    return Failure(url,
                   "the address is not loopback, and there is no authentication yet: whoever "
                   "reaches it controls the server; say --allow-remote if that is meant");
  }
  if (endpoint.is_unix()) {
    if (absl::Status status = RemoveStaleSocket(url, endpoint); !status.ok()) return status;
  }
  UniqueFd socket(::socket(endpoint.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return SystemFailure(url, "socket");
  if (!endpoint.is_unix()) {
    const int on = 1;
    setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  }
  if (bind(socket.get(), &endpoint.any, endpoint.len) != 0) {
    return SystemFailure(url, endpoint.is_unix() ? endpoint.un.sun_path : "bind");
  }
  if (listen(socket.get(), kBacklog) != 0) return SystemFailure(url, "listen");
  auto listener = std::unique_ptr<Listener>(
      new Listener(loop, std::move(socket), endpoint, url, std::move(on_accept)));
  if (const Errno error = loop->Watch(listener->socket_.get(), EPOLLIN, listener.get());
      !error.ok()) {
    return Failure(url, strerror(error.value()));
  }
  return listener;
}

Listener::Listener(EventLoop* loop, UniqueFd socket, const Endpoint& endpoint, std::string url,
                   AcceptFn on_accept)
    : loop_(loop),
      socket_(std::move(socket)),
      endpoint_(endpoint),
      on_accept_(std::move(on_accept)),
      url_(std::move(url)) {
  if (endpoint_.is_unix() && lstat(endpoint_.un.sun_path, &file_) != 0) file_ = {};
}

Listener::~Listener() {
  loop_->Cancel(pause_);
  loop_->Unwatch(socket_.get(), this);
  struct stat now;
  if (endpoint_.is_unix() && lstat(endpoint_.un.sun_path, &now) == 0 &&
      now.st_dev == file_.st_dev && now.st_ino == file_.st_ino) {
    unlink(endpoint_.un.sun_path);
  }
}

void Listener::OnEvents(uint32_t) {
  // A client that was cut off for what it sent must not come back with more.
  if (loop_->closer().full()) return Pause(EMFILE);
  UniqueFd client(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.valid()) {
    if (IsShortage(errno)) Pause(errno);
    return;
  }
  complained_ = false;
  if (!endpoint_.is_unix()) {
    const int on = 1;
    setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  Peer peer = PeerOf(client.get());
  on_accept_(std::move(client), std::move(peer));
}

void Listener::Pause(int error) {
  // The connection stays in the backlog, so the socket stays readable: the loop would spin.
  if (!complained_) {
    fprintf(stderr, "rump_server: cannot accept clients at %s for now: %s\n", url_.c_str(),
            strerror(error));
  }
  complained_ = true;
  (void)loop_->Rewatch(socket_.get(), 0, this);
  pause_ = loop_->After(kPause, [this] { Resume(); });
}

void Listener::Resume() {
  if (pause_ == 0) return;
  loop_->Cancel(std::exchange(pause_, 0));
  (void)loop_->Rewatch(socket_.get(), EPOLLIN, this);
}

}  // namespace rump
