// The project's one error type: an errno value that travels as a result, never as -1 plus a global.
#ifndef PROTOCOL_ERRNO_H_
#define PROTOCOL_ERRNO_H_

#include <errno.h>

#include <optional>
#include <utility>

namespace rump {

// A Linux errno value, positive; 0 means success. Converts from the E* macros by construction only,
// so that a count never passes for an error.
class [[nodiscard]] Errno {
 public:
  constexpr Errno() = default;
  constexpr explicit Errno(int value) : value_(value) {}
  constexpr int value() const { return value_; }
  constexpr bool ok() const { return value_ == 0; }
  friend constexpr bool operator==(Errno, Errno) = default;

 private:
  int value_ = 0;
};

// Success, for functions that return Errno.
inline constexpr Errno kOk{};

// A T, or the errno that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Errno error) : error_(error) {}         // NOLINT(google-explicit-constructor)
  bool ok() const { return value_.has_value(); }
  // kOk if there is a value.
  Errno error() const { return error_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Errno error_;
};

}  // namespace rump

#endif  // PROTOCOL_ERRNO_H_
