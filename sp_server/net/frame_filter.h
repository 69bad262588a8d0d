// Which Ethernet frames from a wire are long enough for lwIP, which reads headers unchecked.
#ifndef SP_SERVER_NET_FRAME_FILTER_H_
#define SP_SERVER_NET_FRAME_FILTER_H_

#include <stddef.h>

#include <span>

namespace rump {

// The largest frame that a wire may deliver.
inline constexpr size_t kMaxFrameBytes = 9216;

// False for a frame to be dropped: too short for the headers that its type promises, or too long.
inline bool FrameLengthValid(std::span<const std::byte> frame) {
  constexpr size_t kEthernet = 14, kArp = 28, kIpv4 = 20, kIpv6 = 40, kVlanTag = 4;
  if (frame.size() > kMaxFrameBytes) return false;
  size_t header = kEthernet;
  // A VLAN tag moves the type; lwIP looks through one.
  for (int tags = 0; tags < 2; ++tags, header += kVlanTag) {
    if (frame.size() < header) return false;
    const unsigned type = std::to_integer<unsigned>(frame[header - 2]) << 8 |
                          std::to_integer<unsigned>(frame[header - 1]);
    switch (type) {
      case 0x0800:
        return frame.size() >= header + kIpv4;
      case 0x0806:
        return frame.size() >= header + kArp;
      case 0x86dd:
        return frame.size() >= header + kIpv6;
      case 0x8100:
        continue;
      default:
        return true;
    }
  }
  return false;
}

}  // namespace rump

#endif  // SP_SERVER_NET_FRAME_FILTER_H_
