#include "protocol/url.h"

#include <string.h>

#include "protocol/text.h"

namespace rump {
namespace {

constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;
constexpr size_t kIpv6Groups = 8;

UrlError ParsePath(std::string_view path, std::string_view cwd, Endpoint* endpoint) {
  if (path.empty()) return UrlError::kEmptyPath;
  // A NUL would cut the path, or as its first byte make the name an abstract one.
  if (IndexOf(path, '\0') < path.size()) return UrlError::kBadAddress;
  TextWriter writer(std::span<char>(endpoint->un.sun_path, kMaxPath));
  if (path[0] != '/' && !cwd.empty()) {
    writer << cwd;
    if (cwd.back() != '/') writer << "/";
  }
  writer << path;
  if (!writer.fits()) return UrlError::kPathTooLong;
  endpoint->un.sun_path[writer.size()] = '\0';
  endpoint->un.sun_family = AF_UNIX;
  endpoint->len = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + writer.size() + 1);
  return UrlError::kNone;
}

// Four decimal bytes. Leading zeros are refused: some readers take them for octal.
bool ParseIpv4(std::string_view text, uint8_t* bytes) {
  for (int i = 0; i < 4; ++i) {
    const bool last = i == 3;
    if (!last && IndexOf(text, '.') == text.size()) return false;
    const std::string_view part = last ? text : TakeUntil(&text, '.');
    uint32_t value = 0;
    if ((part.size() > 1 && part[0] == '0') || !ParseDecimal(part, 255, &value)) return false;
    bytes[i] = static_cast<uint8_t>(value);
  }
  return true;
}

bool ParseHexGroup(std::string_view text, uint8_t* bytes) {
  if (text.empty() || text.size() > 4) return false;
  uint32_t value = 0;
  for (const char c : text) {
    uint32_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint32_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint32_t>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<uint32_t>(c - 'A') + 10;
    } else {
      return false;
    }
    value = value * 16 + digit;
  }
  bytes[0] = static_cast<uint8_t>(value >> 8);
  bytes[1] = static_cast<uint8_t>(value);
  return true;
}

// Colon-separated groups of hex digits, one "::" at most for a run of zero groups, the last two
// perhaps as an IPv4 address (RFC 4291, section 2.2).
bool ParseIpv6(std::string_view text, uint8_t* bytes) {
  constexpr size_t kSize = 2 * kIpv6Groups;
  size_t used = 0;
  size_t gap = kSize + 1;  // where the "::" is; beyond the end if there is none
  if (Skip(&text, "::")) gap = 0;
  while (!text.empty()) {
    const size_t length = IndexOf(text, ':');
    const std::string_view group(text.data(), length);
    if (length == text.size() && used + 4 <= kSize && ParseIpv4(group, bytes + used)) {
      used += 4;
      break;
    }
    if (used == kSize || !ParseHexGroup(group, bytes + used)) return false;
    used += 2;
    text.remove_prefix(length);
    if (Skip(&text, "::")) {
      if (gap <= kSize) return false;
      gap = used;
    } else if (Skip(&text, ":") && text.empty()) {
      return false;
    }
  }
  if (gap > kSize) return used == kSize;
  if (used == kSize) return false;
  memmove(bytes + kSize - (used - gap), bytes + gap, used - gap);
  memset(bytes + gap, 0, kSize - used);
  return true;
}

// Network byte order without htons(3), which is a function of libc in an unoptimised build.
in_port_t PortToNetwork(uint32_t port) {
  const uint8_t bytes[2] = {static_cast<uint8_t>(port >> 8), static_cast<uint8_t>(port)};
  in_port_t result = 0;
  memcpy(&result, bytes, sizeof(result));
  return result;
}

uint32_t PortFromNetwork(in_port_t port) {
  uint8_t bytes[2];
  memcpy(bytes, &port, sizeof(port));
  return static_cast<uint32_t>(bytes[0]) << 8 | bytes[1];
}

UrlError ParseTcp(std::string_view text, Endpoint* endpoint) {
  uint8_t address[16];
  const bool v6 = Skip(&text, "[");
  if (v6) {
    if (IndexOf(text, ']') == text.size()) return UrlError::kBadAddress;
    if (!ParseIpv6(TakeUntil(&text, ']'), address)) return UrlError::kBadAddress;
  } else {
    const size_t colon = IndexOf(text, ':');
    const size_t slash = IndexOf(text, '/');
    const std::string_view host(text.data(), colon < slash ? colon : slash);
    if (!ParseIpv4(host, address)) return UrlError::kBadAddress;
    text.remove_prefix(host.size());
  }
  uint32_t port = 0;
  if (!Skip(&text, ":") || !ParseDecimal(TakeUntil(&text, '/'), 65535, &port) || port == 0) {
    return UrlError::kBadPort;
  }
  if (!text.empty()) return UrlError::kTrailingBytes;
  if (v6) {
    endpoint->in6 = {};
    endpoint->in6.sin6_family = AF_INET6;
    endpoint->in6.sin6_port = PortToNetwork(port);
    memcpy(&endpoint->in6.sin6_addr, address, sizeof(in6_addr));
    endpoint->len = sizeof(sockaddr_in6);
  } else {
    endpoint->in = {};
    endpoint->in.sin_family = AF_INET;
    endpoint->in.sin_port = PortToNetwork(port);
    memcpy(&endpoint->in.sin_addr, address, sizeof(in_addr));
    endpoint->len = sizeof(sockaddr_in);
  }
  return UrlError::kNone;
}

void WriteIpv4(const in_addr& address, TextWriter* writer) {
  uint8_t bytes[4];
  memcpy(bytes, &address, sizeof(bytes));
  for (int i = 0; i < 4; ++i) *writer << (i == 0 ? "" : ".") << uint32_t{bytes[i]};
}

// The longest run of two or more zero groups, the first of equals, is the "::" (RFC 5952).
void WriteIpv6(const in6_addr& address, TextWriter* writer) {
  uint32_t groups[kIpv6Groups];
  size_t gap = kIpv6Groups;
  size_t gap_length = 1;
  size_t run = 0;
  for (size_t i = 0; i < kIpv6Groups; ++i) {
    groups[i] = static_cast<uint32_t>(address.s6_addr[2 * i]) << 8 | address.s6_addr[2 * i + 1];
    run = groups[i] == 0 ? run + 1 : 0;
    if (run > gap_length) {
      gap_length = run;
      gap = i + 1 - run;
    }
  }
  for (size_t i = 0; i < kIpv6Groups;) {
    if (i == gap) {
      *writer << "::";
      i += gap_length;
      continue;
    }
    if (i > 0 && i != gap + gap_length) *writer << ":";
    writer->Hex(groups[i++]);
  }
}

}  // namespace

std::string_view UrlErrorName(UrlError error) {
  switch (error) {
    case UrlError::kNone:
      return "no error";
    case UrlError::kNoScheme:
      return "there is no unix:// or tcp:// at its start";
    case UrlError::kUnknownScheme:
      return "its scheme is neither unix nor tcp";
    case UrlError::kEmptyPath:
      return "the path is empty";
    case UrlError::kPathTooLong:
      return "the path is longer than 107 bytes";
    case UrlError::kBadAddress:
      return "the address is not a numeric one";
    case UrlError::kBadPort:
      return "the port is not a number from 1 to 65535";
    case UrlError::kTrailingBytes:
      return "something follows the port's '/'";
  }
  return "unknown error";
}

UrlError ParseUrl(std::string_view url, std::string_view cwd, Endpoint* endpoint) {
  if (Skip(&url, "unix://")) return ParsePath(url, cwd, endpoint);
  if (Skip(&url, "tcp://")) return ParseTcp(url, endpoint);
  while (!url.empty() && !StartsWith(url, "://")) url.remove_prefix(1);
  return url.empty() ? UrlError::kNoScheme : UrlError::kUnknownScheme;
}

size_t FormatUrl(const Endpoint& endpoint, char* out, size_t size) {
  if (size == 0) return 0;
  TextWriter writer(std::span<char>(out, size - 1));
  switch (endpoint.any.sa_family) {
    case AF_UNIX:
      writer << "unix://"
             << std::string_view(endpoint.un.sun_path,
                                 IndexOf(std::string_view(endpoint.un.sun_path, kMaxPath), '\0'));
      break;
    case AF_INET:
      writer << "tcp://";
      WriteIpv4(endpoint.in.sin_addr, &writer);
      writer << ":" << PortFromNetwork(endpoint.in.sin_port) << "/";
      break;
    case AF_INET6:
      writer << "tcp://[";
      WriteIpv6(endpoint.in6.sin6_addr, &writer);
      writer << "]:" << PortFromNetwork(endpoint.in6.sin6_port) << "/";
      break;
    default:
      return 0;
  }
  if (!writer.fits()) return 0;
  out[writer.size()] = '\0';
  return writer.size();
}

}  // namespace rump
