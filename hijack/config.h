// What to hijack, as the environment variable RUMPHIJACK says: key=value, separated by commas.
//
//   socket=all:nolocal        families of sockets: all, inet, inet6, local, each perhaps after
//   "no",
//                             applied from left to right to an empty set
//   path=/rump                files below this prefix
//   blanket=/dev/a:/dev/b     files of these names
//   vfs=getvfsstat:nofhcalls  calls about file systems: getvfsstat, fhcalls, nfssvc or all of them
//   sysctl=yes|no             system parameters
//   fdoff=256                 lowest number of a hijacked descriptor, 1 to 65536
//
// Without a socket key socket=all:nolocal holds, and path=/rump unless another path is given.
// Of a key that stands twice the last counts. Only sockets are hijacked as yet: UnsupportedKey().
#ifndef HIJACK_CONFIG_H_
#define HIJACK_CONFIG_H_

#include <stddef.h>
#include <stdint.h>

#include <string_view>

namespace rump {

enum SocketFamilies : uint32_t {
  kFamilyInet = 1u << 0,
  kFamilyInet6 = 1u << 1,
  kFamilyLocal = 1u << 2,
  kAllFamilies = kFamilyInet | kFamilyInet6 | kFamilyLocal,
};

enum VfsCalls : uint32_t {
  kVfsGetvfsstat = 1u << 0,
  kVfsFhcalls = 1u << 1,
  kVfsNfssvc = 1u << 2,
  kAllVfsCalls = kVfsGetvfsstat | kVfsFhcalls | kVfsNfssvc,
};

struct HijackConfig {
  uint32_t families = kFamilyInet | kFamilyInet6;  // bits of SocketFamilies
  std::string_view path = "/rump";                 // without a '/' at its end; empty: none
  std::string_view blanket;                        // colon-separated, as given
  uint32_t vfs = 0;                                // bits of VfsCalls
  bool sysctl = false;
  uint32_t fdoff = 0;  // 0: not given
  bool path_given = false;
};

// Reads `text`, the value of RUMPHIJACK, empty if it is not set. The views of *config point into
// it. On a mistake false, with a message of one line in `error`, cut to error_size with its NUL;
// *config is unspecified then.
// Allocates nothing and calls nothing in libc but memcpy(3) and memcmp(3).
bool ParseHijackConfig(std::string_view text, HijackConfig* config, char* error, size_t error_size);

// The first key that asks for something that is not hijacked, empty if none does. A default asks
// for nothing, nor does a value that switches off.
std::string_view UnsupportedKey(const HijackConfig& config);

// Whether sockets of `domain` (AF_INET, AF_INET6, AF_UNIX; false for any other) are hijacked.
bool HijacksDomain(const HijackConfig& config, int domain);
// Whether those of an internet family are.
bool HijacksInternet(const HijackConfig& config);
// Whether what socket(2) makes of these is hijacked: sockets of NETLINK_ROUTE are where those of an
// internet family are, whose interfaces and routes they tell of.
bool HijacksSocket(const HijackConfig& config, int domain, int protocol);

}  // namespace rump

#endif  // HIJACK_CONFIG_H_
