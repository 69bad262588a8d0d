#include "sp_server/kernel/host_objects.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <utility>

#include "protocol/syscalls.h"

namespace rump {
namespace {

// A pump alone may move much at once, here four segments of loopback's; a thousand of them must
// take turns.
constexpr size_t kMaxBudget = 240 * 1024;
constexpr size_t kMinBudget = 16 * 1024;
constexpr size_t kBusyPumps = 16;
// What pumps of bulk data move before those of others have their turn again.
constexpr size_t kBulkTurn = 512 * 1024;

// Every small write costs hundreds of bytes of socket buffer, so that as many of them as TCP would
// take need megabytes here. Twice this (Linux doubles it) and the stack's own buffers are together
// about what a connection of Linux takes of a peer that does not read.
constexpr int kBufferSize = 1 << 20;

// How long S may keep more than a byte of what has been passed on: for longer it costs a busy
// connection nothing, and for that time one whose C has next to no send buffer waits.
constexpr std::chrono::milliseconds kTrim{100};
// How often objects without an S are checked for being closed.
constexpr std::chrono::seconds kDeadCheck{1};

void SetBufferSize(int fd, int bytes) {
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
}

size_t SendByte(int c) {
  const char byte = 0;
  return send(c, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 1 : 0;
}

// Fills what `c` can send, so that it is not writable. Returns how many bytes that took, 0 if the
// host is short of memory.
size_t FillWithJunk(int c) {
  const int smallest = 1;
  setsockopt(c, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest);
  static constexpr char kJunk[4096] = {};
  size_t filled = 0;
  ssize_t n;
  while ((n = send(c, kJunk, sizeof kJunk, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) filled += n;
  // The last byte, which the pump keeps, is one apart: what it is sent with would take room for as
  // long.
  const int larger = 64 * 1024;
  setsockopt(c, SOL_SOCKET, SO_SNDBUF, &larger, sizeof larger);
  const size_t last = SendByte(c);
  setsockopt(c, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest);
  return last == 0 ? 0 : filled + last;
}

// Ids start at a random place, so that the names of two servers on one host do not meet.
uint64_t FirstId() {
  uint32_t instance = 0;
  if (getrandom(&instance, sizeof instance, 0) != sizeof instance) abort();
  return (uint64_t{instance | 1} & 0x7fffffff) << 32;
}

}  // namespace

HostObjects::HostObjects(EventLoop* loop, std::function<void()> settle, size_t max_objects)
    : loop_(loop),
      settle_(std::move(settle)),
      max_objects_(max_objects),
      next_id_(FirstId()),
      buffer_(kMaxBudget / sizeof(Page)),
      budget_(kMaxBudget) {
  loop_->AddPoller(this);
}

std::string HostObjects::NameOf(uint64_t id) {
  std::string name(1, '\0');
  name += kHostNamePrefix;
  static constexpr char kHex[] = "0123456789abcdef";
  for (int shift = 60; shift >= 0; shift -= 4) name += kHex[(id >> shift) & 15];
  return name;
}

Result<HostPair> HostObjects::MakePair(HostPair::Use use, const std::shared_ptr<Budget>& owner) {
  if (objects_.size() >= max_objects_) return Errno(ENFILE);
  Share share(owner);
  if (!share.Grow(1)) return Errno(EMFILE);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return Errno(errno);
  HostPair pair{
      .use = use, .s = UniqueFd(ends[0]), .c = UniqueFd(ends[1]), .share = std::move(share)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = NameOf(next_id_);
  memcpy(address.sun_path, name.data(), name.size());
  if (bind(pair.c.get(), reinterpret_cast<const sockaddr*>(&address),
           offsetof(sockaddr_un, sun_path) + name.size()) != 0) {
    return Errno(errno);
  }
  socklen_t size = sizeof pair.c_cookie;
  if (getsockopt(pair.c.get(), SOL_SOCKET, SO_COOKIE, &pair.c_cookie, &size) != 0) {
    return Errno(errno);
  }
  // By nobody as yet: what may fail has to before there is a connection to lose.
  if (const Errno error = loop_->Watch(pair.s.get(), 0, nullptr); !error.ok()) return error;
  SetBufferSize(pair.s.get(), kBufferSize);
  if (use == HostPair::Use::kFresh) {
    pair.junk = FillWithJunk(pair.c.get());
    if (pair.junk == 0) return Errno(ENOBUFS);
    return pair;
  }
  SetBufferSize(pair.c.get(), kBufferSize);
  if (use == HostPair::Use::kConnected) pair.junk = SendByte(pair.c.get());
  return pair;
}

std::shared_ptr<HostSocket> HostObjects::Adopt(std::shared_ptr<Socket> socket, HostPair* pair) {
  const uint64_t id = next_id_++;
  auto object = std::make_shared<HostSocket>(this, id, std::move(socket), pair);
  objects_.emplace(id, object);
  return object;
}

Result<HostObjects::Created> HostObjects::Create(std::shared_ptr<Socket> socket,
                                                 const std::shared_ptr<Budget>& owner) {
  const auto use = socket->type() == SOCK_STREAM ? HostPair::Use::kFresh : HostPair::Use::kDatagram;
  Result<HostPair> pair = MakePair(use, owner);
  if (!pair.ok()) return pair.error();
  std::shared_ptr<HostSocket> object = Adopt(std::move(socket), &*pair);
  return Created{std::move(object), std::move(pair->c)};
}

std::shared_ptr<HostSocket> HostObjects::Find(uint64_t id) const {
  auto it = objects_.find(id);
  return it == objects_.end() ? nullptr : it->second;
}

void HostObjects::Release(uint64_t id) {
  auto it = objects_.find(id);
  if (it != objects_.end() && it->second->Finished()) objects_.erase(it);
}

void HostObjects::SweepFinished() {
  if (std::exchange(swept_, true)) return;
  std::erase_if(objects_, [](const auto& entry) { return entry.second->Finished(); });
}

void HostObjects::WatchDead(uint64_t id) {
  dead_.push_back(id);
  if (dead_.size() == 1) loop_->After(kDeadCheck, [this] { CheckDead(); });
}

void HostObjects::CheckDead() {
  std::erase_if(dead_, [this](uint64_t id) {
    Release(id);
    return !objects_.contains(id);
  });
  if (!dead_.empty()) loop_->After(kDeadCheck, [this] { CheckDead(); });
}

void HostObjects::Schedule(std::shared_ptr<HostSocket> object, bool bulk) {
  if (bulk) {
    bulk_ready_.push_back(std::move(object));
    loop_->StayAwake();
  } else {
    ready_.push_back(std::move(object));
    loop_->Wake();
  }
}

void HostObjects::TrimLater(uint64_t id) {
  to_trim_.push_back(id);
  if (to_trim_.size() > 1) return;
  loop_->After(kTrim, [this] {
    for (const uint64_t id : std::exchange(to_trim_, {})) {
      if (const std::shared_ptr<HostSocket> object = Find(id)) object->Trim();
    }
  });
}

void HostObjects::Run(HostSocket& object, size_t budget) {
  // One that was removed meanwhile is kept by its queue only.
  if (!objects_.contains(object.id())) return;
  budget_ = budget;
  object.Run();
}

EventLoop::Clock::duration HostObjects::Poll() {
  swept_ = false;
  std::vector<std::shared_ptr<HostSocket>> ready;
  ready.swap(ready_);
  for (const std::shared_ptr<HostSocket>& object : ready) Run(*object, kMinBudget);
  // Of bulk data only so much that what comes meanwhile does not wait for long.
  moved_ = 0;
  for (size_t left = bulk_ready_.size(); left > 0 && moved_ < kBulkTurn; --left) {
    const std::shared_ptr<HostSocket> object = std::move(bulk_ready_.front());
    bulk_ready_.pop_front();
    Run(*object,
        std::clamp(kMaxBudget * kBusyPumps / (bulk_ready_.size() + 1), kMinBudget, kMaxBudget));
  }
  return ready_.empty() && bulk_ready_.empty() ? EventLoop::Clock::duration::max()
                                               : EventLoop::Clock::duration::zero();
}

}  // namespace rump
