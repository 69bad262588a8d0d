// What happens when the server is lost, as the environment variable RUMPHIJACK_RETRYCONNECT says.
#ifndef HIJACK_RETRY_POLICY_H_
#define HIJACK_RETRY_POLICY_H_

#include <stdint.h>

#include <string_view>

namespace rump {

struct RetryPolicy {
  enum class Kind : uint8_t {
    kSeconds,  // a new socket tries to connect again for `seconds`; 0, the default: never
    kOnce,     // a new socket tries once
    kForever,  // a new socket waits until there is a server
    kDie,      // the program ends
  };
  Kind kind = Kind::kSeconds;
  uint32_t seconds = 0;

  bool never() const { return kind == Kind::kSeconds && seconds == 0; }
};

// Reads a value: "die", "inftime", "once" or a number of seconds; empty is the default. False for
// any other. Calls nothing in libc but memcmp(3).
bool ParseRetryPolicy(std::string_view text, RetryPolicy* policy);

}  // namespace rump

#endif  // HIJACK_RETRY_POLICY_H_
