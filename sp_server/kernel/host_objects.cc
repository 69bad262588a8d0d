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
#include "sp_server/kernel/host_buffers.h"

namespace rump {
namespace {

// A pump alone may move much at once, here four segments of loopback's; a thousand of them must
// take turns.
constexpr size_t kMaxBudget = 240 * 1024;
constexpr size_t kMinBudget = 16 * 1024;
constexpr size_t kBusyPumps = 16;
// What pumps of bulk data move before those of others have their turn again.
constexpr size_t kBulkTurn = 512 * 1024;

// How often silent objects are looked at, half a microsecond each: often while they come and go,
// then more and more rarely; how many at once; and how many whenever there is one more, which
// bounds those that nobody has any more.
constexpr EventLoop::Clock::duration kFirstSilentCheck = std::chrono::milliseconds(10);
constexpr EventLoop::Clock::duration kLastSilentCheck = std::chrono::seconds(1);
constexpr size_t kSilentLooks = 512;
constexpr size_t kSilentLooksPerName = 2;
// Up to so many silent objects there is one look a name: the longer the closed ones wait, the more
// of the looks find one.
constexpr size_t kSilentReserve = 256;

// How long S may keep more than a byte of what has been passed on: for longer it costs a busy
// connection nothing, and for that time one whose C has next to no send buffer waits.
constexpr std::chrono::milliseconds kTrim{100};
// How often objects without an S are checked for being closed.
constexpr std::chrono::seconds kDeadCheck{1};

Errno GetCookie(int socket, uint64_t* cookie) {
  socklen_t size = sizeof *cookie;
  return getsockopt(socket, SOL_SOCKET, SO_COOKIE, cookie, &size) == 0 ? kOk : Errno(errno);
}

size_t SendByte(int c) {
  const char byte = 0;
  return send(c, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 1 : 0;
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

Errno HostObjects::BindToName(int socket, uint64_t id) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  char* end = std::ranges::copy(kHostNamePrefix, address.sun_path + 1).out;
  static constexpr char kHex[] = "0123456789abcdef";
  for (int shift = 60; shift >= 0; shift -= 4) *end++ = kHex[(id >> shift) & 15];
  const auto size = static_cast<socklen_t>(end - reinterpret_cast<char*>(&address));
  return bind(socket, reinterpret_cast<const sockaddr*>(&address), size) == 0 ? kOk : Errno(errno);
}

Result<Share> HostObjects::TakeShare(const std::shared_ptr<Budget>& owner) {
  Share share(owner);
  const auto fits = [&] { return objects_.size() < max_objects_ && share.Grow(1); };
  if (!fits()) {
    LookAtSilent(kSilentLooks);
    if (!fits()) return Errno(objects_.size() < max_objects_ ? EMFILE : ENFILE);
  }
  return share;
}

Result<HostPair> HostObjects::MakePair(HostPair::Use use, const std::shared_ptr<Budget>& owner,
                                       bool sends_byte) {
  Result<Share> share = TakeShare(owner);
  if (!share.ok()) return share.error();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return Errno(errno);
  HostPair pair{
      .use = use, .s = UniqueFd(ends[0]), .c = UniqueFd(ends[1]), .share = *std::move(share)};
  if (const Errno error = GiveName(pair.c.get(), &pair.id); !error.ok()) return error;
  if (const Errno error = GetCookie(pair.c.get(), &pair.c_cookie); !error.ok()) return error;
  if (use != HostPair::Use::kFresh) {
    // By nobody as yet: what may fail has to before there is a connection to lose.
    if (const Errno error = loop_->Watch(pair.s.get(), 0, nullptr); !error.ok()) return error;
  }
  SetSendBuffer(pair.s.get(), kHostSendBuffer);
  SetSendBuffer(pair.c.get(), kHostSendBuffer);
  if (sends_byte) pair.junk = SendByte(pair.c.get());
  return pair;
}

Result<HostPair> HostObjects::MakeDirectPair(HostSocket* connector,
                                             const std::shared_ptr<Budget>& owner) {
  Result<Share> share = TakeShare(owner);
  if (!share.ok()) return share.error();
  HostPair pair{.use = HostPair::Use::kDirect, .share = *std::move(share)};
  pair.c = connector->ConnectDirectly(&pair.id);
  if (!pair.c.valid()) return Errno(ENOTCONN);
  (void)GetCookie(pair.c.get(), &pair.c_cookie);
  LookAt(connector);
  return pair;
}

std::shared_ptr<HostSocket> HostObjects::Adopt(std::shared_ptr<Socket> socket, HostPair* pair) {
  auto object = std::make_shared<HostSocket>(this, std::move(socket), pair);
  objects_.emplace(object->id(), object);
  if (object->silent()) LookAt(object.get());
  return object;
}

Result<HostObjects::Created> HostObjects::Create(std::shared_ptr<Socket> socket,
                                                 const std::shared_ptr<Budget>& owner,
                                                 bool sends_byte) {
  const bool stream = socket->type() == SOCK_STREAM;
  const auto use = stream ? HostPair::Use::kFresh : HostPair::Use::kDatagram;
  Result<HostPair> pair = MakePair(use, owner, sends_byte && stream);
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

bool HostObjects::NameIsFree(uint64_t id) {
  if (!probe_.valid()) probe_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe_.valid() || !BindToName(probe_.get(), id).ok()) return false;
  probe_.reset();
  return true;
}

Errno HostObjects::GiveName(int socket, uint64_t* id) {
  for (size_t looks = silent_.size() < kSilentReserve ? 1 : kSilentLooksPerName; looks > 0;
       --looks) {
    const std::shared_ptr<HostSocket> closed = NextToLookAt();
    if (closed == nullptr) break;
    ++looks_;
    if (BindToName(socket, closed->id()).ok()) {
      *id = closed->id();
      objects_.erase(*id);
      return kOk;
    }
    LookAt(closed.get());
  }
  *id = next_id_++;
  return BindToName(socket, *id);
}

void HostObjects::LookAt(HostSocket* object) {
  if (object->is_looked_at()) return;
  object->set_is_looked_at(true);
  silent_.push_back(object->id());
  if (silent_check_ != EventLoop::Clock::duration::zero()) return;
  silent_check_ = kFirstSilentCheck;
  loop_->After(silent_check_, [this] { CheckSilent(); });
}

std::shared_ptr<HostSocket> HostObjects::NextToLookAt() {
  while (!silent_.empty()) {
    const std::shared_ptr<HostSocket> object = Find(silent_.front());
    silent_.pop_front();
    // The name may be a new object's by now, which stands further behind.
    if (object == nullptr || !object->is_looked_at()) continue;
    object->set_is_looked_at(false);
    if (object->silent()) return object;
  }
  return nullptr;
}

void HostObjects::LookAtSilent(size_t count) {
  for (count = std::min(count, silent_.size()); count > 0; --count) {
    const std::shared_ptr<HostSocket> object = NextToLookAt();
    if (object == nullptr) return;
    if (object->Finished()) {
      objects_.erase(object->id());
    } else {
      LookAt(object.get());
    }
  }
}

// Nobody tells when the ends of a direct pair are closed: even an epoll instance does not if that
// happens to both before it is asked.
void HostObjects::CheckSilent() {
  const size_t before = silent_.size();
  // While objects come and go, the new ones' names are looks enough.
  const size_t looks = std::exchange(looks_, 0);
  if (looks == 0 || looks < before / 4) LookAtSilent(kSilentLooks);
  silent_check_ =
      silent_.size() < before ? kFirstSilentCheck : std::min(2 * silent_check_, kLastSilentCheck);
  if (silent_.empty()) silent_check_ = {};
  if (silent_check_ != EventLoop::Clock::duration::zero()) {
    loop_->After(silent_check_, [this] { CheckSilent(); });
  }
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
  if (const auto it = objects_.find(object.id());
      it == objects_.end() || it->second.get() != &object) {
    return;
  }
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
