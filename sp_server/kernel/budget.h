// Limits on what processes hold, one or all together.
#ifndef SP_SERVER_KERNEL_BUDGET_H_
#define SP_SERVER_KERNEL_BUDGET_H_

#include <stddef.h>

#include <memory>
#include <utility>

namespace rump {

// How much of something there may be, and how much is in use.
class Budget {
 public:
  // What is taken of it is taken of `parent`, too.
  explicit Budget(size_t limit, std::shared_ptr<Budget> parent = nullptr)
      : limit_(limit), parent_(std::move(parent)) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  size_t used() const { return used_; }
  size_t limit() const { return limit_; }

 private:
  friend class Share;
  bool Take(size_t amount) {
    if (amount > limit_ - used_) return false;
    if (parent_ != nullptr && !parent_->Take(amount)) return false;
    used_ += amount;
    return true;
  }
  void GiveBack(size_t amount) {
    used_ -= amount;
    if (parent_ != nullptr) parent_->GiveBack(amount);
  }

  const size_t limit_;
  const std::shared_ptr<Budget> parent_;
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
    if (budget_ != nullptr && !budget_->Take(amount)) return false;
    size_ += amount;
    return true;
  }
  // Gives `amount` back, at most size().
  void Shrink(size_t amount) {
    if (budget_ != nullptr) budget_->GiveBack(amount);
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
