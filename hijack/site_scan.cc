#include "hijack/site_scan.h"

#include <string.h>

namespace rump::hijack {
namespace {

constexpr uint8_t kMovToEax = 0xb8;

// Whether `byte` before a mov would make it a mov to another register.
bool IsRexPrefix(uint8_t byte) { return (byte & 0xf0) == 0x40; }

}  // namespace

size_t ScanForSites(std::span<const uint8_t> code, uint32_t code_address, CallSite* sites,
                    size_t room) {
  size_t found = 0;
  for (size_t i = kJumpSize + 1; i + 1 < code.size() && found < room; ++i) {
    if (code[i] != 0x0f || code[i + 1] != 0x05) continue;
    const uint8_t* const mov = &code[i - kJumpSize];
    if (*mov != kMovToEax || IsRexPrefix(mov[-1])) continue;
    int32_t number;
    memcpy(&number, mov + 1, sizeof number);
    if (!IsDispatched(number)) continue;
    sites[found++] = {.address = code_address + static_cast<uint32_t>(i),
                      .cave = 0,
                      .number = static_cast<int16_t>(number),
                      .displaced = kJumpSize};
  }
  return found;
}

}  // namespace rump::hijack
