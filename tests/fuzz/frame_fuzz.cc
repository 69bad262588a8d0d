// A stream of frames: each one that decodes must encode to the bytes that it came from.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <algorithm>
#include <span>
#include <vector>

#include "protocol/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> stream = std::as_bytes(std::span(data, size));
  while (true) {
    rump::FrameHeader header;
    if (DecodeHeader(stream, rump::kMaxFrame, &header) != rump::FrameError::kNone) return 0;
    // The last payload may be cut short: decoding must notice.
    const auto frame = stream.first(std::min<size_t>(header.len, stream.size()));
    rump::Message message;
    const rump::FrameError error =
        DecodeMessage(header, frame.subspan(rump::kHeaderSize), &message);
    if (frame.size() < header.len && error != rump::FrameError::kIncomplete) abort();
    if (error == rump::FrameError::kNone) {
      std::vector<std::byte> again(frame.size());
      if (EncodeMessage(header, message, again) != frame.size()) abort();
      if (!std::ranges::equal(again, frame)) abort();
    }
    stream = stream.subspan(frame.size());
  }
}
