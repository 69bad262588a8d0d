#include "sp_server/kernel/epoll.h"

#include <poll.h>

#include <algorithm>
#include <optional>

namespace rump {
namespace {
// Bits of an event that are no readiness.
constexpr uint32_t kModes = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;
// What an item costs with its nodes: in the map, among the candidates, among the neighbours.
constexpr size_t kItemBytes = 320;
}  // namespace

// One watched file; in the file's wait queue for as long as the file lives.
class EpollFile::Item final : public Waiter {
 public:
  Item(EpollFile* epoll, Key key, const epoll_event& event)
      : epoll_(epoll), key_(key), nested_(dynamic_cast<EpollFile*>(key.first)) {
    Set(event);
    key_.first->waiters().Add(this);
    if (nested_ == nullptr) return;
    epoll_->below_.insert(nested_);
    nested_->above_.insert(epoll_);
  }
  ~Item() override {
    epoll_->memory_.Shrink(kItemBytes);
    if (place_) epoll_->candidates_.erase(*place_);
    if (nested_ == nullptr) return;
    epoll_->below_.erase(epoll_->below_.find(nested_));
    nested_->above_.erase(nested_->above_.find(epoll_));
  }

  void Set(const epoll_event& event) {
    // Nobody can ask not to be told of these.
    events_ = event.events | EPOLLERR | EPOLLHUP;
    data_ = event.data.u64;
  }
  uint32_t Ready() const { return key_.first->Poll() & events_ & ~kModes; }

 private:
  friend class EpollFile;

  void OnReady(uint32_t mask) override {
    if ((mask & events_ & ~kModes) != 0) epoll_->MarkCandidate(this);
  }
  void OnGone() override { epoll_->items_.erase(key_); }

  EpollFile* const epoll_;
  const Key key_;
  EpollFile* const nested_;
  uint32_t events_ = 0;
  uint64_t data_ = 0;
  std::optional<std::list<Item*>::iterator> place_;  // among the candidates
};

EpollFile::EpollFile(EventLoop* loop, std::shared_ptr<Budget> memory)
    : File(O_RDWR), loop_(loop), memory_(std::move(memory)) {}

EpollFile::~EpollFile() {
  items_.clear();
  // While this is still something to be forgotten: instances above have it in their items.
  waiters().Dissolve();
}

uint32_t EpollFile::Poll() const {
  while (!candidates_.empty()) {
    Item* item = candidates_.front();
    if (item->Ready() != 0) return POLLIN | POLLRDNORM;
    item->place_.reset();
    candidates_.pop_front();
  }
  return 0;
}

Errno EpollFile::Add(File* file, int fd, const epoll_event& event) {
  const Key key(file, fd);
  if (items_.contains(key)) return Errno(EEXIST);
  if (items_.size() >= kMaxItems) return Errno(ENOSPC);
  if (auto* nested = dynamic_cast<EpollFile*>(file); nested != nullptr) {
    if (const Errno error = CheckNesting(nested); !error.ok()) return error;
  }
  if (!memory_.Grow(kItemBytes)) return Errno(ENOMEM);
  Item& item = items_.try_emplace(key, this, key, event).first->second;
  if (item.Ready() != 0) MarkCandidate(&item);
  return kOk;
}

Errno EpollFile::Modify(File* file, int fd, const epoll_event& event) {
  auto it = items_.find(Key(file, fd));
  if (it == items_.end()) return Errno(ENOENT);
  it->second.Set(event);
  if (it->second.Ready() != 0) MarkCandidate(&it->second);
  return kOk;
}

Errno EpollFile::Remove(File* file, int fd) {
  return items_.erase(Key(file, fd)) > 0 ? kOk : Errno(ENOENT);
}

size_t EpollFile::Collect(std::span<epoll_event> events) {
  size_t count = 0;
  // Each candidate once: those that stay go to the end, for the others' sake.
  for (size_t left = candidates_.size(); left > 0 && count < events.size(); --left) {
    Item* item = candidates_.front();
    const uint32_t ready = item->Ready();
    if (ready != 0) {
      events[count].events = ready;
      events[count].data.u64 = item->data_;
      ++count;
      if ((item->events_ & EPOLLONESHOT) != 0) item->events_ &= kModes;
    }
    if (ready != 0 && (item->events_ & (EPOLLET | EPOLLONESHOT)) == 0) {
      candidates_.splice(candidates_.end(), candidates_, candidates_.begin());
    } else {
      item->place_.reset();
      candidates_.pop_front();
    }
  }
  return count;
}

void EpollFile::MarkCandidate(Item* item) {
  if (!item->place_) item->place_ = candidates_.insert(candidates_.end(), item);
  TellLater();
}

void EpollFile::TellLater() {
  if (telling_ || waiters().empty()) return;
  telling_ = true;
  loop_->Defer([weak = weak_from_this()] {
    const std::shared_ptr<EpollFile> self = weak.lock();
    if (self == nullptr) return;
    self->telling_ = false;
    self->waiters().Notify(POLLIN | POLLRDNORM);
  });
}

Errno EpollFile::CheckNesting(const EpollFile* nested) const {
  using Known = std::unordered_map<const EpollFile*, int>;
  size_t met = 0;
  Known down;
  Known up;
  const int depth =
      Depth(nested, &EpollFile::below_, &down, &met) + Depth(this, &EpollFile::above_, &up, &met);
  // Nor may one instance have too many neighbours on the other side: all of them are told.
  Known other_down;
  Known other_up;
  (void)Depth(this, &EpollFile::below_, &other_down, &met);
  (void)Depth(nested, &EpollFile::above_, &other_up, &met);
  if (met >= kMaxNested) return Errno(EINVAL);
  if (depth > kMaxDepth || down.contains(this)) return Errno(ELOOP);
  return kOk;
}

// How many instances the longest chain from `from` on has. The recursion is no deeper than
// kMaxDepth, which holds for what is there already.
int EpollFile::Depth(const EpollFile* from, Neighbours EpollFile::*direction,
                     std::unordered_map<const EpollFile*, int>* known, size_t* met) {
  if (auto it = known->find(from); it != known->end()) return it->second;
  int depth = 1;
  for (const EpollFile* next : from->*direction) {
    if (++*met >= kMaxNested) break;
    depth = std::max(depth, 1 + Depth(next, direction, known, met));
  }
  known->emplace(from, depth);
  return depth;
}

}  // namespace rump
