// What became of a system call that the library looked at.
#ifndef HIJACK_OUTCOME_H_
#define HIJACK_OUTCOME_H_

#include <stdint.h>

#include <type_traits>

namespace rump::hijack {

// `handled`: `result` is the call's, as the kernel gives it (a value, or -errno). Otherwise the
// call is the host's business and has still to be made.
struct Outcome {
  bool handled = false;
  long result = 0;
};

inline constexpr Outcome kPass{};
constexpr Outcome Done(long result) { return {true, result}; }

// The argument slots of a system call.
struct Args {
  uint64_t slot[6] = {};

  // Slot `n` as the T that the manual page of the call says it is.
  template <typename T>
  T get(int n) const {
    if constexpr (std::is_pointer_v<T>) {
      return reinterpret_cast<T>(slot[n]);
    } else {
      return static_cast<T>(slot[n]);
    }
  }
  int fd() const { return get<int>(0); }
};

template <typename T>
uint64_t ToSlot(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<uint64_t>(value);
  } else {
    return static_cast<uint64_t>(value);  // sign-extends, as the kernel's entry does
  }
}

template <typename... T>
Args MakeArgs(T... values) {
  return Args{{ToSlot(values)...}};
}

}  // namespace rump::hijack

#endif  // HIJACK_OUTCOME_H_
