// Server URLs: unix://path and tcp://a.b.c.d:port/ (also tcp://[v6]:port/).
#ifndef PROTOCOL_URL_H_
#define PROTOCOL_URL_H_

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string_view>

namespace rump {

enum class UrlError {
  kNone,
  kNoScheme,       // no "://"
  kUnknownScheme,  // neither unix nor tcp
  kEmptyPath,      // unix:// alone
  kPathTooLong,    // longer than sun_path's 107 bytes, once made absolute
  kBadAddress,     // tcp: not a numeric address; unix: a NUL in the path
  kBadPort,        // tcp: missing, not a number, 0 or above 65535
  kTrailingBytes,  // tcp: something behind the optional final '/'
};
// A sentence part such as "the port is not a number from 1 to 65535", for messages.
std::string_view UrlErrorName(UrlError error);

// Where a server listens: a socket address ready for bind(2) and connect(2).
struct Endpoint {
  union {
    sockaddr any;
    sockaddr_un un;
    sockaddr_in in;
    sockaddr_in6 in6;
  };
  socklen_t len = 0;
  constexpr Endpoint() : un{} {}
  bool is_unix() const { return any.sa_family == AF_UNIX; }
};

// Parses `url`. A relative unix path is put behind `cwd` (absolute, no trailing '/'), so that the
// endpoint keeps its meaning after chdir(2) and exec; an empty cwd leaves it relative.
// Allocates nothing and calls nothing in libc. On an error *endpoint is unspecified.
UrlError ParseUrl(std::string_view url, std::string_view cwd, Endpoint* endpoint);

// Writes the URL of `endpoint` to `out` with a NUL; returns its length without it, 0 if it does not
// fit.
size_t FormatUrl(const Endpoint& endpoint, char* out, size_t size);

}  // namespace rump

#endif  // PROTOCOL_URL_H_
