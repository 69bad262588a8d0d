#include "sp_server/server/server.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
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

void Server::Remove(Session* session) {
  if (session->refused()) --refused_;
  // Its end reaches back into here.
  sessions_.extract(session);
  for (const auto& listener : listeners_) listener->Resume();
}

Result<PreforkCookie> Server::Park(const Session* owner, std::unique_ptr<KernelProcess> process) {
  size_t held = 0;
  for (const auto& [cookie, parked] : parked_) held += parked.owner == owner ? 1 : 0;
  if (held >= options_.max_preforks) return Errno(ENOMEM);
  PreforkCookie cookie;
  do {
    if (getrandom(cookie.auth, sizeof cookie.auth, 0) != sizeof cookie.auth) return Errno(EIO);
  } while (parked_.contains(cookie));
  const EventLoop::TimerId expiry =
      loop_->After(options_.prefork_lifetime, [this, cookie] { parked_.erase(cookie); });
  parked_.emplace(cookie, Parked{owner, std::move(process), expiry});
  ++counters_.preforks;
  return cookie;
}

std::unique_ptr<KernelProcess> Server::Claim(const PreforkCookie& cookie) {
  auto it = parked_.find(cookie);
  if (it == parked_.end()) return nullptr;
  loop_->Cancel(it->second.expiry);
  std::unique_ptr<KernelProcess> process = std::move(it->second.process);
  parked_.erase(it);
  return process;
}

void Server::DropParked(const Session* owner) {
  for (auto it = parked_.begin(); it != parked_.end();) {
    if (it->second.owner == owner) {
      loop_->Cancel(it->second.expiry);
      it = parked_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace rump
