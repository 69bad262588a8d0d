// The datagrams that a socket has received and nobody has taken yet.
#ifndef SP_SERVER_NET_DATAGRAM_QUEUE_H_
#define SP_SERVER_NET_DATAGRAM_QUEUE_H_

#include <stddef.h>

#include <deque>
#include <memory>
#include <utility>

#include "sp_server/kernel/budget.h"

namespace rump {

// Bounded by the socket's SO_RCVBUF and by a budget that all queues share. So that no socket is
// deaf because of others, a short datagram always finds room in an empty queue.
template <typename Datagram>
class DatagramQueue {
 public:
  // What a queued datagram counts beside its bytes, about as Linux's.
  static constexpr size_t kCost = 512;
  // The longest that has a place whatever others hold.
  static constexpr size_t kShort = 2048;

  // `budget`: nullptr for no limit but the socket's own.
  explicit DatagramQueue(std::shared_ptr<Budget> budget) : share_(std::move(budget)) {}

  // Takes `datagram`, of `bytes`. False, and it is dropped, if what is queued is more than
  // `buffer_size` already, or the budget has no more.
  bool Push(Datagram datagram, size_t bytes, size_t buffer_size) {
    const size_t cost = bytes + kCost;
    if (cost_ > buffer_size) return false;
    const bool charged = share_.Grow(cost);
    if (!charged && (!queue_.empty() || bytes > kShort)) return false;
    queue_.push_back({std::move(datagram), cost, charged});
    cost_ += cost;
    return true;
  }
  bool empty() const { return queue_.empty(); }
  // Of one that is not empty.
  const Datagram& front() const { return queue_.front().datagram; }
  void Pop() {
    const Entry& entry = queue_.front();
    cost_ -= entry.cost;
    if (entry.charged) share_.Shrink(entry.cost);
    queue_.pop_front();
  }

 private:
  struct Entry {
    Datagram datagram;
    size_t cost;
    bool charged;
  };
  std::deque<Entry> queue_;
  size_t cost_ = 0;
  Share share_;
};

}  // namespace rump

#endif  // SP_SERVER_NET_DATAGRAM_QUEUE_H_
