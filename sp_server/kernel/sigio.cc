#include "sp_server/kernel/sigio.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>

#include <memory>

namespace rump {
namespace {

class OwnerWaiter final : public Waiter, public std::enable_shared_from_this<OwnerWaiter> {
 public:
  OwnerWaiter(BuiltinKernel* kernel, Pid owner) : kernel_(kernel), owner_(owner) {}

 private:
  // A signal interrupts calls that may be waiting for the same file, hence not from its queue.
  void OnReady(uint32_t) override {
    if (signalling_) return;
    signalling_ = true;
    kernel_->loop().Defer([weak = weak_from_this()] {
      const std::shared_ptr<OwnerWaiter> self = weak.lock();
      if (self == nullptr) return;
      self->signalling_ = false;
      // An owner that has ended meanwhile is nobody.
      (void)self->kernel_->Signal(self->owner_, SIGIO);
    });
  }

  BuiltinKernel* const kernel_;
  const Pid owner_;
  bool signalling_ = false;
};

void Update(BuiltinKernel& kernel, File& file) {
  const bool on = (file.flags() & O_ASYNC) != 0 && file.owner() != 0;
  file.set_owner_waiter(on ? std::make_shared<OwnerWaiter>(&kernel, abs(file.owner())) : nullptr);
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
