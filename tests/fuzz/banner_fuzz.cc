// A banner that can be read is written again as a banner that reads the same.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <string_view>

#include "protocol/banner.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  rump::Banner banner;
  size_t consumed = 0;
  if (ParseBanner(bytes, &banner, &consumed) != rump::BannerError::kNone) return 0;
  if (consumed > rump::kMaxBanner || bytes[consumed - 1] != '\n') abort();

  char line[rump::kMaxBanner];
  const size_t length = FormatBanner(banner, line);
  // It may be shorter than the one read: zeros before the version and unknown extensions are gone.
  if (length == 0 || length > consumed) abort();
  rump::Banner again;
  if (ParseBanner({line, length}, &again, &consumed) != rump::BannerError::kNone) abort();
  if (consumed != length || again.major != banner.major || again.minor != banner.minor ||
      again.ostype != banner.ostype || again.osrelease != banner.osrelease ||
      again.machine != banner.machine || again.extensions != banner.extensions) {
    abort();
  }
  return 0;
}
