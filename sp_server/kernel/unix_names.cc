#include "sp_server/kernel/unix_names.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "sp_server/kernel/unix_socket.h"

namespace rump {
namespace {

constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);
// Names that bind(2) without one gives have five hex digits.
constexpr uint32_t kAutoNames = 1 << 20;

}  // namespace

Result<UnixNames::Name> UnixNames::Parse(int type, const SocketAddress& address) {
  if (address.len <= kPathOffset || address.len > sizeof(sockaddr_un) ||
      address.family() != AF_UNIX) {
    return Errno(EINVAL);
  }
  const char* path = reinterpret_cast<const sockaddr_un&>(address.storage).sun_path;
  const size_t size = address.len - kPathOffset;
  if (path[0] == '\0') return Name(type, std::string(path, size));
  return Name(0, std::string(path, strnlen(path, size)));
}

SocketAddress UnixNames::AddressOf(const Name& name) {
  SocketAddress address;
  auto& un = reinterpret_cast<sockaddr_un&>(address.storage);
  un.sun_family = AF_UNIX;
  name.second.copy(un.sun_path, sizeof un.sun_path);
  // A path is shown with its NUL, which sun_path need not have room for; the storage has.
  const bool path = name.first == 0;
  address.len = static_cast<socklen_t>(kPathOffset + name.second.size() + (path ? 1 : 0));
  return address;
}

Errno UnixNames::Bind(const Name& name, UnixSocket* socket) {
  return sockets_.try_emplace(name, socket).second ? kOk : Errno(EADDRINUSE);
}

Result<UnixNames::Name> UnixNames::BindAny(int type, UnixSocket* socket) {
  for (uint32_t tries = 0; tries < kAutoNames; ++tries) {
    char digits[6];
    snprintf(digits, sizeof digits, "%05x", next_);
    next_ = (next_ + 1) % kAutoNames;
    const Name name(type, std::string(1, '\0') + digits);
    if (Bind(name, socket).ok()) return name;
  }
  return Errno(ENOSPC);
}

std::shared_ptr<UnixSocket> UnixNames::Find(const Name& name) const {
  auto it = sockets_.find(name);
  return it == sockets_.end() ? nullptr : it->second->shared_from_this();
}

}  // namespace rump
