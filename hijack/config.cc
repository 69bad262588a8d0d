#include "hijack/config.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <span>

#include "protocol/text.h"

namespace rump {
namespace {

struct Name {
  std::string_view name;
  uint32_t bits;
};
constexpr Name kFamilyNames[] = {
    {"all", kAllFamilies},
    {"inet", kFamilyInet},
    {"inet6", kFamilyInet6},
    {"local", kFamilyLocal},
};
constexpr Name kVfsNames[] = {
    {"all", kAllVfsCalls},
    {"getvfsstat", kVfsGetvfsstat},
    {"fhcalls", kVfsFhcalls},
    {"nfssvc", kVfsNfssvc},
};

// The parser of a key's value. On a mistake *culprit is the part of the value that is wrong.
using ValueParser = bool (*)(std::string_view value, HijackConfig* config,
                             std::string_view* culprit);

bool FindBits(std::span<const Name> names, std::string_view name, uint32_t* bits) {
  for (const Name& known : names) {
    if (known.name != name) continue;
    *bits = known.bits;
    return true;
  }
  return false;
}

// Reads "name:noname:name" from left to right.
bool ParseNames(std::string_view value, std::span<const Name> names, uint32_t* result,
                std::string_view* culprit) {
  *result = 0;
  bool more = true;
  while (more) {
    more = IndexOf(value, ':') < value.size();
    *culprit = TakeUntil(&value, ':');
    std::string_view name = *culprit;
    const bool without = Skip(&name, "no");
    uint32_t bits = 0;
    if (!FindBits(names, name, &bits)) return false;
    *result = without ? *result & ~bits : *result | bits;
  }
  return true;
}

bool ParseSocket(std::string_view value, HijackConfig* config, std::string_view* culprit) {
  return ParseNames(value, kFamilyNames, &config->families, culprit);
}

bool ParseVfs(std::string_view value, HijackConfig* config, std::string_view* culprit) {
  return ParseNames(value, kVfsNames, &config->vfs, culprit);
}

bool ParsePath(std::string_view value, HijackConfig* config, std::string_view* /*culprit*/) {
  if (!StartsWith(value, "/")) return false;
  while (!value.empty() && value.back() == '/') value.remove_suffix(1);
  config->path = value;
  return !value.empty();
}

bool ParseBlanket(std::string_view value, HijackConfig* config, std::string_view* culprit) {
  config->blanket = value;
  bool more = true;
  while (more) {
    more = IndexOf(value, ':') < value.size();
    *culprit = TakeUntil(&value, ':');
    if (!StartsWith(*culprit, "/")) return false;
  }
  return true;
}

bool ParseSysctl(std::string_view value, HijackConfig* config, std::string_view* /*culprit*/) {
  config->sysctl = value == "yes";
  return config->sysctl || value == "no";
}

bool ParseFdoff(std::string_view value, HijackConfig* config, std::string_view* /*culprit*/) {
  constexpr uint32_t kMaxFdoff = 65536;
  return ParseDecimal(value, kMaxFdoff, &config->fdoff) && config->fdoff > 0;
}

struct Key {
  std::string_view name;
  ValueParser parse;
  std::string_view wanted;
  bool supported;
};
constexpr std::string_view kSocket = "socket";
constexpr std::string_view kPath = "path";
constexpr Key kKeys[] = {
    {kPath, ParsePath, "an absolute path other than /", false},
    {kSocket, ParseSocket, "all, inet, inet6, local, each perhaps after \"no\"", true},
    {"blanket", ParseBlanket, "absolute paths with a colon between them", false},
    {"vfs", ParseVfs, "all, getvfsstat, fhcalls, nfssvc, each perhaps after \"no\"", false},
    {"sysctl", ParseSysctl, "yes or no", false},
    {"fdoff", ParseFdoff, "a number from 1 to 65536", false},
};

const Key* FindKey(std::string_view name) {
  for (const Key& key : kKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

void ListKeys(std::string_view title, bool supported, TextWriter* message) {
  std::string_view before = title;
  for (const Key& key : kKeys) {
    if (key.supported != supported) continue;
    *message << before << key.name;
    before = ", ";
  }
}

// Reads one "key=value"; *key becomes the key's row. On a mistake the message goes to *message.
bool ParseItem(std::string_view item, HijackConfig* config, const Key** key, TextWriter* message) {
  const bool has_value = IndexOf(item, '=') < item.size();
  std::string_view value = item;
  const std::string_view name = TakeUntil(&value, '=');
  *key = FindKey(name);
  std::string_view culprit = *key == nullptr ? name : value;
  if (*key != nullptr && has_value && (*key)->parse(value, config, &culprit)) return true;
  *message << "RUMPHIJACK: unknown " << (*key == nullptr ? "key" : "value") << " \"" << culprit
           << "\" in \"" << item << "\" (";
  if (*key == nullptr) {
    ListKeys("known: ", /*supported=*/true, message);
    ListKeys("; not supported yet: ", /*supported=*/false, message);
  } else {
    *message << "wanted: " << (*key)->wanted;
  }
  *message << ")";
  return false;
}

}  // namespace

bool ParseHijackConfig(std::string_view text, HijackConfig* config, char* error,
                       size_t error_size) {
  *config = {};
  TextWriter message(std::span<char>(error, error_size > 0 ? error_size - 1 : 0));
  bool socket_given = false;
  bool more = !text.empty();
  while (more) {
    more = IndexOf(text, ',') < text.size();
    const Key* key = nullptr;
    if (!ParseItem(TakeUntil(&text, ','), config, &key, &message)) {
      if (error_size > 0) error[message.size()] = '\0';
      return false;
    }
    socket_given |= key->name == kSocket;
    config->path_given |= key->name == kPath;
  }
  // Who names the sockets to hijack means those and nothing more.
  if (socket_given && !config->path_given) config->path = {};
  return true;
}

std::string_view UnsupportedKey(const HijackConfig& config) {
  if (config.path_given) return "path";
  if (!config.blanket.empty()) return "blanket";
  if (config.vfs != 0) return "vfs";
  if (config.sysctl) return "sysctl";
  if (config.fdoff != 0) return "fdoff";
  return {};
}

bool HijacksDomain(const HijackConfig& config, int domain) {
  switch (domain) {
    case AF_INET:
      return (config.families & kFamilyInet) != 0;
    case AF_INET6:
      return (config.families & kFamilyInet6) != 0;
    case AF_UNIX:
      return (config.families & kFamilyLocal) != 0;
    default:
      return false;
  }
}

bool HijacksInternet(const HijackConfig& config) {
  return HijacksDomain(config, AF_INET) || HijacksDomain(config, AF_INET6);
}

bool HijacksSocket(const HijackConfig& config, int domain, int protocol) {
  if (domain == AF_NETLINK && protocol == NETLINK_ROUTE) return HijacksInternet(config);
  return HijacksDomain(config, domain);
}

}  // namespace rump
