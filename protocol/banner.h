// The line that a server sends first: RUMPSP-<major>.<minor>-<ostype>-<osrelease>/<machine>, and
// behind the machine, after a blank, our extensions, each with a '+' before it.
#ifndef PROTOCOL_BANNER_H_
#define PROTOCOL_BANNER_H_

#include <stddef.h>
#include <stdint.h>

#include <span>
#include <string_view>

namespace rump {

inline constexpr int kProtocolMajor = 0;
inline constexpr int kProtocolMinor = 4;
// Longest banner, its '\n' included.
inline constexpr size_t kMaxBanner = 96;

// Extensions to 0.4, as a set of bits. A side uses one only when the other showed that it knows it.
enum Extension : uint32_t {
  kExtensionCancel = 1u << 0,   // "cancel": a request that interrupts one outstanding call
  kExtensionHostFd = 1u << 1,   // "hostfd": sockets as ends of socketpairs (the host_* calls)
  kExtensionControl = 1u << 2,  // "control": the calls behind rump ps, halt and their like
  kExtensionInline = 1u << 3,   // "inline": calls that carry memory, both ways
};
inline constexpr uint32_t kAllExtensions =
    kExtensionCancel | kExtensionHostFd | kExtensionControl | kExtensionInline;

struct Banner {
  int major = kProtocolMajor;
  int minor = kProtocolMinor;
  std::string_view ostype;     // "Linux", "NetBSD"; may contain no '-'
  std::string_view osrelease;  // may contain '-', no '/'
  std::string_view machine;    // "x86_64"
  uint32_t extensions = 0;     // bits of Extension; names that we do not know are passed over
};

enum class BannerError {
  kNone,
  kIncomplete,  // no '\n' yet, and fewer than kMaxBanner bytes
  kTooLong,     // no '\n' within kMaxBanner bytes
  kNotRumpsp,   // does not start with "RUMPSP-"; found at the first wrong byte
  kMalformed,   // the rest cannot be read
  kOtherMajor,  // another major version: banner->major says which
};
// A sentence part such as "not a RUMPSP server", for messages.
std::string_view BannerErrorName(BannerError error);

// Reads the banner at the start of `bytes`; its views point into them. *consumed gets its length
// with the '\n' when the result is kNone.
BannerError ParseBanner(std::string_view bytes, Banner* banner, size_t* consumed);

// Writes the banner with its '\n' to `out`. Returns its length, 0 if it would exceed out.size() or
// kMaxBanner, or if a field could not be read back (empty, unprintable, holds its separator).
size_t FormatBanner(const Banner& banner, std::span<char> out);

}  // namespace rump

#endif  // PROTOCOL_BANNER_H_
