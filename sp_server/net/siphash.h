// SipHash-2-4: a short keyed hash that an outsider can neither predict nor steer.
#ifndef SP_SERVER_NET_SIPHASH_H_
#define SP_SERVER_NET_SIPHASH_H_

#include <stddef.h>
#include <stdint.h>

#include <array>
#include <bit>
#include <span>

namespace rump {

// Words instead of bytes: the length is the caller's to fix.
inline uint64_t SipHash(const std::array<uint64_t, 2>& key, std::span<const uint64_t> words) {
  uint64_t v0 = key[0] ^ 0x736f6d6570736575, v1 = key[1] ^ 0x646f72616e646f6d;
  uint64_t v2 = key[0] ^ 0x6c7967656e657261, v3 = key[1] ^ 0x7465646279746573;
  const auto rounds = [&](int n) {
    while (n-- > 0) {
      v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
      v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
      v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
      v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
    }
  };
  const auto absorb = [&](uint64_t word) {
    v3 ^= word;
    rounds(2);
    v0 ^= word;
  };
  for (uint64_t word : words) absorb(word);
  absorb(uint64_t{words.size_bytes() & 0xff} << 56);
  v2 ^= 0xff;
  rounds(4);
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace rump

#endif  // SP_SERVER_NET_SIPHASH_H_
