// Writes a line per system call to a file, in the manner of strace(1).
#ifndef SP_SERVER_KERNEL_TRACER_H_
#define SP_SERVER_KERNEL_TRACER_H_

#include <stdint.h>

#include <memory>
#include <string>

#include "protocol/errno.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"
#include "sp_server/server/kernel_interface.h"

namespace rump {

class Tracer : public std::enable_shared_from_this<Tracer> {
 public:
  // Opens the file at `path` for a trace, which goes behind what it holds: open(2)'s errors; ENXIO
  // for a FIFO that nobody reads.
  static Result<UniqueFd> OpenFile(const std::string& path);

  // `loop` outlives the tracer.
  Tracer(EventLoop* loop, UniqueFd file);
  // Writes what is left.
  ~Tracer();

  // A call that does what `call` does and leaves its line when it completes.
  std::shared_ptr<Call> Trace(int pid, std::shared_ptr<Call> call);

 private:
  class TracedCall;

  // Lines are gathered and written once per turn of the loop. When the file takes no more, lines
  // are lost, and a line says how many.
  void Add(const std::string& line);
  void Flush();
  void FlushAfter(EventLoop::Clock::duration delay);

  EventLoop* const loop_;
  const UniqueFd file_;
  std::string buffer_;
  uint64_t lost_ = 0;
  EventLoop::TimerId flush_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_TRACER_H_
