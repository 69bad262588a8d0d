#include "tests/protocol/wire_recording.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "protocol/text.h"

namespace rump {
namespace {

constexpr uint32_t kMaxElided = 1 << 24;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool AppendHex(std::string_view hex, std::string* bytes) {
  if (hex.empty() || hex.size() % 2 != 0) return false;
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = HexDigit(hex[i]);
    const int low = HexDigit(hex[i + 1]);
    if (high < 0 || low < 0) return false;
    bytes->push_back(static_cast<char>(high * 16 + low));
  }
  return true;
}

// Reads "<hex>" or "<hex> +<count>".
bool ParseBytes(std::string_view text, std::string* bytes) {
  const bool elided = text.find(' ') != std::string_view::npos;
  if (!AppendHex(TakeUntil(&text, ' '), bytes)) return false;
  if (!elided) return true;
  uint32_t count = 0;
  if (!Skip(&text, "+") || !ParseDecimal(text, kMaxElided, &count)) return false;
  bytes->append(count, kElidedFiller);
  return true;
}

bool ParseEvent(std::string_view line, WireEvent* event) {
  uint32_t connection = 0;
  if (!ParseDecimal(TakeUntil(&line, ' '), INT32_MAX, &connection)) return false;
  event->connection = static_cast<int>(connection);
  if (line == "open") return true;
  if (Skip(&line, "client")) {
    event->side = WireSide::kClient;
  } else if (Skip(&line, "server")) {
    event->side = WireSide::kServer;
  } else {
    return false;
  }
  event->kind = line == "-close" ? WireEvent::Kind::kClose : WireEvent::Kind::kBytes;
  return event->kind == WireEvent::Kind::kClose ||
         (Skip(&line, "> ") && ParseBytes(line, &event->bytes));
}

}  // namespace

std::optional<std::vector<WireEvent>> ParseWireRecording(std::string_view text,
                                                         std::string* error) {
  std::vector<WireEvent> events;
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = TakeUntil(&text, '\n');
    if (line.empty() || line[0] == '#') continue;
    WireEvent event;
    event.line = number;
    if (!ParseEvent(line, &event)) {
      *error = "line " + std::to_string(number) + ": " + std::string(line);
      return std::nullopt;
    }
    events.push_back(std::move(event));
  }
  return events;
}

std::optional<std::vector<WireEvent>> ReadWireRecording(const std::string& path,
                                                        std::string* error) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    *error = path + ": cannot be opened";
    return std::nullopt;
  }
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  auto events = ParseWireRecording(text, error);
  if (!events) *error = path + ": " + *error;
  return events;
}

std::vector<std::string> ListWireRecordings() {
  // Bazel runs a test with its runfiles as the working directory.
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator("tests/protocol/transcripts")) {
    if (entry.path().extension() == ".wire") paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  return paths;
}

std::string BytesSent(const std::vector<WireEvent>& events, int connection, WireSide side) {
  std::string bytes;
  for (const WireEvent& event : events) {
    if (event.connection == connection && event.side == side) bytes += event.bytes;
  }
  return bytes;
}

}  // namespace rump
