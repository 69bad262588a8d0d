// Limits on what all processes hold together.
#ifndef SP_SERVER_KERNEL_BUDGET_H_
#define SP_SERVER_KERNEL_BUDGET_H_

#include <stddef.h>

#include <memory>
#include <utility>

namespace rump {

// How much of something there may be, and how much is in use.
class Budget {
 public:
  explicit Budget(size_t limit) : limit_(limit) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  size_t used() const { return used_; }

 private:
  friend class Share;
  const size_t limit_;
  size_t used_ = 0;
};

// One holder's part of a budget, given back when it is destroyed. Without a budget there is no
// limit.
class Share {
 public:
  Share() = default;
  explicit Share(std::shared_ptr<Budget> budget) : budget_(std::move(budget)) {}
  Share(Share&& other) noexcept
      : budget_(std::move(other.budget_)), size_(std::exchange(other.size_, 0)) {}
  Share& operator=(Share&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Share() { Shrink(size_); }

  // Takes `amount` more; false, and no change, if the budget has less left.
  [[nodiscard]] bool Grow(size_t amount) {
    if (budget_ != nullptr) {
      if (amount > budget_->limit_ - budget_->used_) return false;
      budget_->used_ += amount;
    }
    size_ += amount;
    return true;
  }
  // Gives `amount` back, at most size().
  void Shrink(size_t amount) {
    if (budget_ != nullptr) budget_->used_ -= amount;
    size_ -= amount;
  }
  size_t size() const { return size_; }
  const std::shared_ptr<Budget>& budget() const { return budget_; }

 private:
  std::shared_ptr<Budget> budget_;
  size_t size_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_BUDGET_H_
