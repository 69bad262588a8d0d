#include "protocol/banner.h"

#include "protocol/text.h"

namespace rump {
namespace {

constexpr std::string_view kPrefix = "RUMPSP-";
constexpr uint32_t kMaxVersion = 65535;

struct ExtensionName {
  Extension bit;
  std::string_view name;
};
constexpr ExtensionName kExtensionNames[] = {
    {kExtensionCancel, "cancel"},
    {kExtensionHostFd, "hostfd"},
    {kExtensionControl, "control"},
    {kExtensionInline, "inline"},
};

// A field that a reader finds the end of, and that a message can show.
bool IsField(std::string_view text, char separator) {
  for (const char c : text) {
    if (c <= ' ' || c > '~' || c == separator) return false;
  }
  return !text.empty();
}

uint32_t ExtensionBit(std::string_view name) {
  for (const ExtensionName& known : kExtensionNames) {
    if (known.name == name) return known.bit;
  }
  return 0;
}

// Reads "+name+name".
bool ParseExtensions(std::string_view text, uint32_t* extensions) {
  if (!Skip(&text, "+")) return false;
  do {
    const std::string_view name = TakeUntil(&text, '+');
    if (!IsField(name, '+')) return false;
    *extensions |= ExtensionBit(name);
  } while (!text.empty());
  return true;
}

BannerError ParseLine(std::string_view line, Banner* banner) {
  uint32_t major = 0;
  uint32_t minor = 0;
  if (!ParseDecimal(TakeUntil(&line, '.'), kMaxVersion, &major)) return BannerError::kMalformed;
  banner->major = static_cast<int>(major);
  // What follows is ours to read only within our major version.
  if (banner->major != kProtocolMajor) return BannerError::kOtherMajor;
  if (!ParseDecimal(TakeUntil(&line, '-'), kMaxVersion, &minor)) return BannerError::kMalformed;
  banner->minor = static_cast<int>(minor);

  banner->ostype = TakeUntil(&line, '-');
  banner->osrelease = TakeUntil(&line, '/');
  const bool has_extensions = IndexOf(line, ' ') < line.size();
  banner->machine = TakeUntil(&line, ' ');
  banner->extensions = 0;
  const bool readable = IsField(banner->ostype, '-') && IsField(banner->osrelease, '/') &&
                        IsField(banner->machine, ' ') &&
                        (!has_extensions || ParseExtensions(line, &banner->extensions));
  return readable ? BannerError::kNone : BannerError::kMalformed;
}

}  // namespace

std::string_view BannerErrorName(BannerError error) {
  switch (error) {
    case BannerError::kNone:
      return "no error";
    case BannerError::kIncomplete:
      return "the banner is incomplete";
    case BannerError::kTooLong:
      return "the banner is too long";
    case BannerError::kNotRumpsp:
      return "not a RUMPSP server";
    case BannerError::kMalformed:
      return "the banner cannot be read";
    case BannerError::kOtherMajor:
      return "the server speaks another major version of RUMPSP";
  }
  return "unknown error";
}

BannerError ParseBanner(std::string_view bytes, Banner* banner, size_t* consumed) {
  // A wrong first byte is enough: another kind of server may never send a '\n'.
  const size_t seen = bytes.size() < kPrefix.size() ? bytes.size() : kPrefix.size();
  if (!StartsWith(kPrefix, std::string_view(bytes.data(), seen))) return BannerError::kNotRumpsp;
  const size_t limit = bytes.size() < kMaxBanner ? bytes.size() : kMaxBanner;
  const std::string_view head(bytes.data(), limit);
  const size_t length = IndexOf(head, '\n');
  if (length == limit) {
    return limit < kMaxBanner ? BannerError::kIncomplete : BannerError::kTooLong;
  }
  std::string_view line(head.data(), length);
  line.remove_prefix(kPrefix.size());
  const BannerError error = ParseLine(line, banner);
  if (error == BannerError::kNone) *consumed = length + 1;
  return error;
}

size_t FormatBanner(const Banner& banner, std::span<char> out) {
  if (!IsField(banner.ostype, '-') || !IsField(banner.osrelease, '/') ||
      !IsField(banner.machine, ' ')) {
    return 0;
  }
  TextWriter writer(out.size() < kMaxBanner ? out : out.first(kMaxBanner));
  writer << kPrefix << static_cast<uint32_t>(banner.major) << "."
         << static_cast<uint32_t>(banner.minor) << "-" << banner.ostype << "-" << banner.osrelease
         << "/" << banner.machine;
  std::string_view before = " +";
  for (const ExtensionName& known : kExtensionNames) {
    if ((banner.extensions & known.bit) == 0) continue;
    writer << before << known.name;
    before = "+";
  }
  writer << "\n";
  return writer.fits() ? writer.size() : 0;
}

}  // namespace rump
