// TCP sockets that are made before their programs ask for them: half of the call host_pool.
#ifndef SP_SERVER_KERNEL_SOCKET_POOLS_H_
#define SP_SERVER_KERNEL_SOCKET_POOLS_H_

#include <stddef.h>

#include <memory>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/kernel/budget.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

class BuiltinKernel;
struct Process;

// What one process has been sent and has not used, as far as is known. They are objects as all
// others, of the process from the beginning.
struct SocketPool {
  int domain;
  UniqueFd end;  // of a socketpair: a PooledRecord goes out of it for each socket
  Share unused;
  size_t target = 1;  // how many there are to be
  bool to_be_filled = false;
};

class SocketPools final : private EventLoop::Poller {
 public:
  // Sockets that one pool holds at most, and all together.
  static constexpr size_t kMaxTarget = 16;
  static constexpr size_t kMaxUnused = 1024;

  // `kernel` and its loop outlive this.
  explicit SocketPools(BuiltinKernel* kernel);

  // Gives `process` a pool in place of the one that it may have. Returns the descriptor that the
  // sockets come over; errors of socketpair(2).
  Result<UniqueFd> Open(const std::shared_ptr<Process>& process, int domain);
  // One of the sockets is used: another takes its place.
  void CountUse(const std::shared_ptr<Process>& process);
  // The process has asked for a socket: there are more to be if it has taken all.
  void CountMiss(const std::shared_ptr<Process>& process);

 private:
  // Behind what clients wait for.
  EventLoop::Clock::duration Poll() override;
  void FillLater(const std::shared_ptr<Process>& process);
  void Fill(Process& process);
  // Makes a socket and sends it. False if that cannot be now.
  bool Send(Process& process);

  BuiltinKernel* const kernel_;
  const std::shared_ptr<Budget> unused_ = std::make_shared<Budget>(kMaxUnused);
  std::vector<std::weak_ptr<Process>> to_fill_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_SOCKET_POOLS_H_
