// All host sockets of the kernel, by id, and the queue of those that have something to do.
#ifndef SP_SERVER_KERNEL_HOST_OBJECTS_H_
#define SP_SERVER_KERNEL_HOST_OBJECTS_H_

#include <stddef.h>
#include <stdint.h>

#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/host_socket.h"
#include "sp_server/loop/event_loop.h"

namespace rump {

class HostObjects final : private EventLoop::Poller {
 public:
  // Objects at once, unless the constructor says otherwise; one more is ENFILE. Each is a
  // descriptor of the server, but for the ends of direct pairs.
  static constexpr size_t kMaxObjects = 16'384;

  // `loop` outlives this. `settle`: see BuiltinKernel.
  HostObjects(EventLoop* loop, std::function<void()> settle, size_t max_objects = kMaxObjects);

  // Whether connections between programs of this kernel are direct pairs; they are unless it says
  // otherwise. Connections that stand keep what they are.
  bool direct() const { return direct_; }
  void set_direct(bool direct) { direct_ = direct; }

  struct Created {
    std::shared_ptr<HostSocket> object;
    UniqueFd c;
  };
  // Puts `socket` behind a new pair, which counts as one of `owner`'s: EMFILE if it has no more.
  // ENFILE, or errors of socketpair(2) or epoll_ctl(2).
  // `sends_byte`: C of a stream has been sent the byte that a connection in the stack needs.
  Result<Created> Create(std::shared_ptr<Socket> socket, const std::shared_ptr<Budget>& owner,
                         bool sends_byte);
  // The same in two steps, for connections that must not be lost when there is no pair: first the
  // pair, then the accepted socket.
  Result<HostPair> MakePair(HostPair::Use use, const std::shared_ptr<Budget>& owner,
                            bool sends_byte);
  // The pair of a connection that `connector` has made and that is accepted now: its S is the C.
  Result<HostPair> MakeDirectPair(HostSocket* connector, const std::shared_ptr<Budget>& owner);
  std::shared_ptr<HostSocket> Adopt(std::shared_ptr<Socket> socket, HostPair* pair);

  // nullptr for an unknown id.
  std::shared_ptr<HostSocket> Find(uint64_t id) const;
  size_t count() const { return objects_.size(); }
  // Whether objects that nobody has asked for leave as many as there are.
  bool HasRoomForSpare() const { return objects_.size() < max_objects_ / 2; }

  // Frees `id` if it is finished.
  void Release(uint64_t id);
  // Frees every object that is finished, also those whose events are still to come; once in a turn
  // of the loop, since it asks the host about each.
  void SweepFinished();

  // For HostSocket.
  EventLoop& loop() { return *loop_; }
  void Settle() { settle_(); }
  // Runs `object` soon: one that moves `bulk` data behind those that do not.
  void Schedule(std::shared_ptr<HostSocket> object, bool bulk);
  void Remove(uint64_t id) { objects_.erase(id); }
  // Looks from time to time whether the program still has the C of `id`, which has no S any more
  // that would tell.
  void WatchDead(uint64_t id);
  // Calls Trim of `id` in a while.
  void TrimLater(uint64_t id);
  // The buffer that all pumps share, one at a time.
  std::span<std::byte> buffer() { return std::as_writable_bytes(std::span(buffer_)); }
  // How many bytes one pump moves in its turn, each way: fewer when many are ready, for fairness.
  size_t budget() const { return budget_; }
  // What a pump moved that had a turn.
  void CountMoved(size_t bytes) { moved_ += bytes; }

  // Gives `socket`, a new C, the name of an object that there is none of; as bind(2). To find an
  // object's name free costs as much as to use it, so *id is, if that can be, one whose C is found
  // closed; its object is freed.
  Errno GiveName(int socket, uint64_t* id);
  // Whether the C of `id` is closed everywhere.
  bool NameIsFree(uint64_t id);

 private:
  EventLoop::Clock::duration Poll() override;
  // Binds `socket` to the abstract name of id's C; as bind(2).
  static Errno BindToName(int socket, uint64_t id);
  // Has `object`, which is silent, looked at from time to time.
  void LookAt(HostSocket* object);
  // The silent object that was not looked at for longest, which it is not any more; or nullptr.
  std::shared_ptr<HostSocket> NextToLookAt();
  // Frees what is closed of the `count` silent objects that were not looked at for longest.
  void LookAtSilent(size_t count);
  void CheckSilent();
  void Run(HostSocket& object, size_t budget);
  void CheckDead();
  // What a new object of `owner` counts for.
  Result<Share> TakeShare(const std::shared_ptr<Budget>& owner);

  EventLoop* const loop_;
  const std::function<void()> settle_;
  const size_t max_objects_;
  uint64_t next_id_;
  std::unordered_map<uint64_t, std::shared_ptr<HostSocket>> objects_;
  std::vector<std::shared_ptr<HostSocket>> ready_;
  bool direct_ = true;
  // Those whose end nothing tells of, and some for which that has changed: without S, as the ends
  // of direct pairs, or fresh. Those that wait longest for a look come first.
  std::deque<uint64_t> silent_;
  EventLoop::Clock::duration silent_check_{};  // to the next look; zero: none is due
  size_t looks_ = 0;                           // since the last one, for names
  UniqueFd probe_;
  std::deque<std::shared_ptr<HostSocket>> bulk_ready_;
  std::vector<uint64_t> to_trim_;
  std::vector<uint64_t> dead_;
  bool swept_ = false;
  // The kernel copies a third faster to a page's start than past it (x86 with fast short strings).
  struct alignas(4096) Page {
    std::byte bytes[4096];
  };
  std::vector<Page> buffer_;
  size_t budget_;
  size_t moved_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_HOST_OBJECTS_H_
