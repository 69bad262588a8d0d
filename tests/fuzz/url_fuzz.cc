// A URL that can be read is written again as a URL of the same endpoint.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <string_view>

#include "protocol/url.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view url(reinterpret_cast<const char*>(data), size);
  for (const std::string_view cwd : {"", "/home/me"}) {
    rump::Endpoint endpoint;
    if (ParseUrl(url, cwd, &endpoint) != rump::UrlError::kNone) continue;
    char text[200];
    const size_t length = FormatUrl(endpoint, text, sizeof(text));
    if (length == 0 || text[length] != '\0') abort();
    rump::Endpoint again;
    if (ParseUrl({text, length}, "", &again) != rump::UrlError::kNone) abort();
    if (again.len != endpoint.len || memcmp(&again.any, &endpoint.any, endpoint.len) != 0) abort();
  }
  return 0;
}
