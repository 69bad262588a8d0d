#include "sp_server/server/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include <utility>

#include "protocol/banner.h"

namespace rump {
namespace {

// Clients beyond the limit that are told so at a time; more are disconnected without a word.
constexpr size_t kMaxRefused = 64;

std::string MakeBanner(uint32_t extensions) {
  utsname host;
  if (uname(&host) != 0) abort();
  Banner banner;
  banner.ostype = "Linux";
  banner.osrelease = host.release;
  banner.machine = "x86_64";
  banner.extensions = extensions;
  char line[kMaxBanner];
  size_t length = FormatBanner(banner, line);
  if (length == 0) {
    // A long kernel release must not cost the extensions.
    banner.osrelease = banner.osrelease.substr(0, banner.osrelease.find('-'));
    length = FormatBanner(banner, line);
  }
  return std::string(line, length);
}

}  // namespace

bool Server::CookieLess::operator()(const PreforkCookie& a, const PreforkCookie& b) const {
  return memcmp(a.auth, b.auth, sizeof a.auth) < 0;
}

Server::Server(EventLoop* loop, Kernel* kernel, ServerOptions options)
    : loop_(loop), kernel_(kernel), options_(options), banner_(MakeBanner(options.extensions)) {
  kernel_->SetServer(this);
}

const std::shared_ptr<std::byte[]>& Server::input_buffer() {
  for (const std::shared_ptr<std::byte[]>& buffer : input_buffers_) {
    if (buffer.use_count() == 1) return buffer;
  }
  input_buffers_.front() = std::make_shared_for_overwrite<std::byte[]>(kInputBuffer);
  return input_buffers_.front();
}

Server::~Server() {
  listeners_.clear();
  // A session's end reaches back into sessions_ and parked_, so these end one by one.
  while (!sessions_.empty()) Remove(sessions_.begin()->first);
  for (auto& [cookie, parked] : parked_) loop_->Cancel(parked.expiry);
  kernel_->SetServer(nullptr);
}

absl::Status Server::Listen(const std::string& url) {
  absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Open(
      loop_, url, options_.allow_remote,
      [this](UniqueFd socket, Peer peer) { AddClient(std::move(socket), std::move(peer)); });
  if (!listener.ok()) return listener.status();
  listeners_.push_back(*std::move(listener));
  return absl::OkStatus();
}

void Server::AddClient(UniqueFd socket, Peer peer) {
  const bool refused = clients() >= options_.max_clients;
  if (refused && refused_ >= kMaxRefused) {
    return loop_->closer().CloseStream(std::move(socket));
  }
  auto session = std::make_unique<Session>(this, std::move(socket), std::move(peer), refused);
  Session* key = session.get();
  sessions_.emplace(key, std::move(session));
  ++(refused ? refused_ : counters_.clients);
}

Result<UniqueFd> Server::AddChild(Peer parent, std::unique_ptr<KernelProcess> child) {
  if (clients() >= options_.max_clients) return Errno(EAGAIN);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return Errno(errno);
  UniqueFd ours(ends[0]);
  UniqueFd childs(ends[1]);
  const int on = 1;
  if (ioctl(ours.get(), FIONBIO, &on) != 0) return Errno(errno);
  auto session =
      std::make_unique<Session>(this, std::move(ours), std::move(parent), std::move(child));
  Session* key = session.get();
  sessions_.emplace(key, std::move(session));
  ++counters_.clients;
  ++counters_.preforks;
  return childs;
}

void Server::Remove(Session* session) {
  if (session->refused()) --refused_;
  // Its end reaches back into here.
  sessions_.extract(session);
  for (const auto& listener : listeners_) listener->Resume();
}

Result<PreforkCookie> Server::Park(const Session* owner, std::unique_ptr<KernelProcess> process) {
  const auto held = parked_by_.find(owner);
  if (held != parked_by_.end() && held->second.size() >= options_.max_preforks) {
    return Errno(ENOMEM);
  }
  PreforkCookie cookie;
  do {
    if (getrandom(cookie.auth, sizeof cookie.auth, 0) != sizeof cookie.auth) return Errno(EIO);
  } while (parked_.contains(cookie));
  const EventLoop::TimerId expiry =
      loop_->After(options_.prefork_lifetime, [this, cookie] { Claim(cookie); });
  parked_.emplace(cookie, Parked{owner, std::move(process), expiry});
  parked_by_[owner].insert(cookie);
  ++counters_.preforks;
  return cookie;
}

std::unique_ptr<KernelProcess> Server::Claim(const PreforkCookie& cookie) {
  auto it = parked_.find(cookie);
  if (it == parked_.end()) return nullptr;
  loop_->Cancel(it->second.expiry);
  const auto held = parked_by_.find(it->second.owner);
  held->second.erase(cookie);
  if (held->second.empty()) parked_by_.erase(held);
  std::unique_ptr<KernelProcess> process = std::move(it->second.process);
  parked_.erase(it);
  return process;
}

void Server::DropParked(const Session* owner) {
  const auto held = parked_by_.extract(owner);
  if (held.empty()) return;
  for (const PreforkCookie& cookie : held.mapped()) {
    auto it = parked_.find(cookie);
    loop_->Cancel(it->second.expiry);
    parked_.erase(it);
  }
}

}  // namespace rump
