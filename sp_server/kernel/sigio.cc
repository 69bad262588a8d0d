#include "sp_server/kernel/sigio.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include <memory>
#include <utility>

namespace rump {
namespace {

class OwnerWaiter final : public Waiter, public std::enable_shared_from_this<OwnerWaiter> {
 public:
  OwnerWaiter(BuiltinKernel* kernel, Pid owner, bool async)
      : kernel_(kernel), owner_(owner), async_(async) {}

 private:
  // A signal interrupts calls that may be waiting for the same file, hence not from its queue.
  void OnReady(uint32_t mask) override {
    urgent_ |= (mask & POLLPRI) != 0;
    if (signalling_ || (!async_ && !urgent_)) return;
    signalling_ = true;
    kernel_->loop().Defer([weak = weak_from_this()] {
      const std::shared_ptr<OwnerWaiter> self = weak.lock();
      if (self == nullptr) return;
      self->signalling_ = false;
      // An owner that has ended meanwhile is nobody.
      if (std::exchange(self->urgent_, false)) (void)self->kernel_->Signal(self->owner_, SIGURG);
      if (self->async_) (void)self->kernel_->Signal(self->owner_, SIGIO);
    });
  }

  BuiltinKernel* const kernel_;
  const Pid owner_;
  const bool async_;
  bool urgent_ = false;
  bool signalling_ = false;
};

void Update(BuiltinKernel& kernel, File& file) {
  const bool async = (file.flags() & O_ASYNC) != 0;
  file.set_owner_waiter(file.owner() != 0
                            ? std::make_shared<OwnerWaiter>(&kernel, abs(file.owner()), async)
                            : nullptr);
}

}  // namespace

Errno SetOwner(BuiltinKernel& kernel, File& file, int owner) {
  if (owner == INT_MIN) return Errno(EINVAL);
  if (owner != 0) {
    if (const Errno error = kernel.Signal(abs(owner), 0); !error.ok()) return error;
  }
  file.set_owner(owner);
  Update(kernel, file);
  return kOk;
}

void SetFlags(BuiltinKernel& kernel, File& file, int flags) {
  const bool changed = ((file.flags() ^ flags) & O_ASYNC) != 0;
  file.set_flags(flags);
  if (changed) Update(kernel, file);
}

}  // namespace rump
