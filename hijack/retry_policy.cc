#include "hijack/retry_policy.h"

#include "protocol/text.h"

namespace rump {

bool ParseRetryPolicy(std::string_view text, RetryPolicy* policy) {
  constexpr uint32_t kMaxSeconds = 1'000'000'000;
  *policy = {};
  if (text.empty()) return true;
  if (text == "die") {
    policy->kind = RetryPolicy::Kind::kDie;
  } else if (text == "inftime") {
    policy->kind = RetryPolicy::Kind::kForever;
  } else if (text == "once") {
    policy->kind = RetryPolicy::Kind::kOnce;
  } else {
    return ParseDecimal(text, kMaxSeconds, &policy->seconds);
  }
  return true;
}

}  // namespace rump
