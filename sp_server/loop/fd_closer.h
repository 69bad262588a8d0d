// Closes descriptors that others have made, on a thread of its own: close(2) of somebody's socket
// with SO_LINGER and unsent data, or of a file of a FUSE file system, blocks for as long as its
// maker says, and the event loop must not.
#ifndef SP_SERVER_LOOP_FD_CLOSER_H_
#define SP_SERVER_LOOP_FD_CLOSER_H_

#include <pthread.h>
#include <stddef.h>

#include <memory>

#include "sp_server/loop/unique_fd.h"

namespace rump {

class FdCloser {
 public:
  // Descriptors that may wait. Whoever brings more is to be turned away, see full().
  static constexpr size_t kMaxPending = 4096;

  FdCloser();
  FdCloser(const FdCloser&) = delete;
  FdCloser& operator=(const FdCloser&) = delete;
  // Waits for what closes without blocking. What blocks is left to the end of the process, where
  // nothing lingers.
  ~FdCloser();

  // Takes `fd` over; no effect if it is not valid. The thread is started by the first one.
  void Close(UniqueFd fd);
  // The same for an end of a unix stream, which is closed at once unless it has more than `own`
  // bytes to read: descriptors that came with them would be closed as well. Nothing can be sent to
  // it any more.
  void CloseStream(UniqueFd socket, size_t own = 0);

  // Descriptors given to Close that are not closed yet.
  size_t pending() const;
  bool full() const { return pending() >= kMaxPending; }

 private:
  struct State;
  static void* Run(void* state);
  void StartThread();

  // Kept by the thread, too, which may outlive this.
  const std::shared_ptr<State> state_;
  bool started_ = false;
  pthread_t thread_{};
};

}  // namespace rump

#endif  // SP_SERVER_LOOP_FD_CLOSER_H_
