// epoll(7): a file that gathers the readiness of others.
#ifndef SP_SERVER_KERNEL_EPOLL_H_
#define SP_SERVER_KERNEL_EPOLL_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include <list>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>

#include "protocol/errno.h"
#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/file.h"
#include "sp_server/loop/event_loop.h"

namespace rump {

class EpollFile final : public File, public std::enable_shared_from_this<EpollFile> {
 public:
  // Files that one instance watches; one more is ENOSPC.
  static constexpr size_t kMaxItems = 65'536;
  // Instances that may watch each other in a row.
  static constexpr int kMaxDepth = 5;
  // Watches between instances that may hang together.
  static constexpr size_t kMaxNested = 1000;

  // For std::make_shared alone. `loop` outlives this. `memory`, what items come out of; nullptr:
  // without a limit.
  explicit EpollFile(EventLoop* loop, std::shared_ptr<Budget> memory = nullptr);
  ~EpollFile() override;

  Result<size_t> Read(std::span<std::byte>) override { return Errno(EINVAL); }
  Result<size_t> Write(std::span<const std::byte>) override { return Errno(EINVAL); }
  // POLLIN if Collect would find something.
  uint32_t Poll() const override;

  // epoll_ctl(2). What is watched is a pair of open file and descriptor number; it is forgotten
  // when the file goes, whatever becomes of the number. EEXIST, ENOENT, ENOSPC, ENOMEM; ELOOP for
  // instances that would watch themselves or be nested too deep; EINVAL for too many nested ones.
  Errno Add(File* file, int fd, const epoll_event& event);
  Errno Modify(File* file, int fd, const epoll_event& event);
  Errno Remove(File* file, int fd);

  // What epoll_wait(2) returns: fills `events` from the front, returns how many.
  size_t Collect(std::span<epoll_event> events);

 private:
  class Item;
  using Key = std::pair<File*, int>;
  using Neighbours = std::multiset<EpollFile*>;

  void MarkCandidate(Item* item);
  // Tells the waiters when the caller's stack is gone: they may be instances with waiters of their
  // own, and what happens to a file must not run through all of them.
  void TellLater();
  Errno CheckNesting(const EpollFile* nested) const;
  static int Depth(const EpollFile* from, Neighbours EpollFile::*direction,
                   std::unordered_map<const EpollFile*, int>* known, size_t* met);

  EventLoop* const loop_;
  Share memory_;
  std::map<Key, Item> items_;
  // Those that may be ready, in the order of their turns. What turns out not to be is dropped.
  mutable std::list<Item*> candidates_;
  bool telling_ = false;
  // Other instances, once for each item: those that this one watches, those that watch it.
  Neighbours below_;
  Neighbours above_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_EPOLL_H_
