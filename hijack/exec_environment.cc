#include "hijack/exec_environment.h"

#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "protocol/text.h"
#include "rumpclient/core/user_memory.h"

namespace rump::hijack {
namespace {

// More are not looked at: they would have to go on a stack that may be small.
constexpr size_t kMaxEntries = 1000;
constexpr size_t kMaxPreload = 2048;  // the library's, and the program's
constexpr size_t kCopies = 16384;

constexpr std::string_view kPreload = "LD_PRELOAD=";
constexpr std::string_view kServer = "RUMP_SERVER=";
constexpr std::string_view kLibrary = "librumphijack";
constexpr std::string_view kVariables[] = {
    kPreload,
    kServer,
    "RUMPHIJACK=",
    "RUMPHIJACK_ENTRY=",
    "RUMPHIJACK_RETRYCONNECT=",
    "RUMPHIJACK_FOLLOW=",
    "RUMPHIJACK_VERBOSE=",
};
constexpr size_t kVariableCount = std::size(kVariables);
constexpr size_t kPreloadIndex = 0;
constexpr size_t kServerIndex = 1;
// The library's variables, the connection, and the end.
constexpr size_t kAdded = kVariableCount + 2;

// At load; nullptr where the variable is not set. The second is RUMP_SERVER as it was given.
constinit char* copies[kVariableCount] = {};
constinit const char* given_server = nullptr;
constinit bool follows = false;
constinit bool relative = false;  // the directory counts for RUMP_SERVER as it was given

// The index of the variable that `entry` sets, or kVariableCount.
size_t VariableOf(std::string_view entry) {
  size_t i = 0;
  while (i < kVariableCount && !StartsWith(entry, kVariables[i])) ++i;
  return i;
}

bool Contains(std::string_view text, std::string_view part) {
  for (; text.size() >= part.size(); text.remove_prefix(1)) {
    if (StartsWith(text, part)) return true;
  }
  return false;
}

// Looks once at each page, as long as the addresses do not go to and fro.
class ReadablePages {
 public:
  bool Has(const void* address) {
    constexpr uint64_t kPage = 4096;
    const auto number = reinterpret_cast<uint64_t>(address);
    char byte;
    if (number / kPage == last_) return true;
    if (!client::ReadUserMemory(&byte, number, 1)) return false;
    last_ = number / kPage;
    return true;
  }

 private:
  uint64_t last_ = UINT64_MAX;
};

// "NAME=value" with its NUL in `room`, cut off it; nullptr if it does not fit.
char* Keep(std::span<char>* room, std::string_view name, std::string_view value) {
  TextWriter writer(*room);
  writer << name << value << std::string_view("\0", 1);
  if (!writer.fits()) return nullptr;
  char* const kept = room->data();
  *room = room->subspan(writer.size());
  return kept;
}

}  // namespace

bool ConfigureExec(char** environment, std::string_view server, bool follow) {
  static char storage[kCopies];
  std::span<char> room(storage);
  follows = follow;
  for (char*& copy : copies) copy = nullptr;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    const size_t variable = VariableOf(entry);
    if (variable == kVariableCount || copies[variable] != nullptr) continue;
    if (!follow && variable != kServerIndex) continue;
    if (variable == kPreloadIndex && entry.size() > kMaxPreload) return false;
    copies[variable] = Keep(&room, entry, {});
    if (copies[variable] == nullptr) return !follow;
  }
  given_server = copies[kServerIndex];
  if (given_server == nullptr || server.empty()) return true;
  copies[kServerIndex] = Keep(&room, kServer, server);
  if (copies[kServerIndex] == nullptr) return false;
  relative = std::string_view(copies[kServerIndex]) != given_server;
  return true;
}

bool ChangesExec() { return follows || relative; }

ExecEnvironment::Size ExecEnvironment::Measure(char* const* environment) {
  Size size;
  ReadablePages arrays;
  ReadablePages strings;
  size_t count = 0;
  if (environment == nullptr) return {follows ? kAdded : 0, 0};
  for (;; ++count) {
    if (count > kMaxEntries || !arrays.Has(environment + count)) return {};
    const char* const entry = environment[count];
    if (entry == nullptr) break;
    if (!strings.Has(entry)) return {};
    if (follows && StartsWith(std::string_view(entry), kPreload)) {
      const size_t length = strlen(entry);
      if (length > kMaxPreload) return {};
      if (copies[kPreloadIndex] == nullptr) continue;
      size.preload = std::max(size.preload, length + strlen(copies[kPreloadIndex]));
    }
  }
  size.entries = count + kAdded;
  return size;
}

ExecEnvironment::ExecEnvironment(char* const* environment, char** entries, char* preload)
    : entries_(entries) {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    entries_[count_++] = Look(*environment, preload);
  }
  if (!follows) return;
  for (size_t i = 0; i < kVariableCount; ++i) {
    if ((present_ >> i & 1) != 0 || copies[i] == nullptr) continue;
    entries_[count_++] = Look(copies[i], preload);
  }
}

// Returns what stands for `entry` in the environment.
char* ExecEnvironment::Look(char* entry, char* preload) {
  const std::string_view text(entry);
  const size_t variable = VariableOf(text);
  if (variable == kVariableCount) return entry;
  present_ |= 1u << variable;
  if (variable == kServerIndex && given_server != nullptr &&
      (text == given_server || text == copies[kServerIndex])) {
    same_server_ = true;
    return copies[kServerIndex];
  }
  if (variable != kPreloadIndex) return entry;
  preloaded_ = Contains(text, kLibrary);
  if (preloaded_ || !follows || copies[kPreloadIndex] == nullptr) return entry;
  preloaded_ = true;
  const std::string_view ours(copies[kPreloadIndex]);
  memcpy(preload, ours.data(), ours.size());
  preload[ours.size()] = ':';
  std::string_view theirs = text;
  theirs.remove_prefix(kPreload.size());
  memcpy(preload + ours.size() + 1, theirs.data(), theirs.size() + 1);
  return preload;
}

char* const* ExecEnvironment::Finish(char* entry) {
  if (entry != nullptr) entries_[count_++] = entry;
  entries_[count_] = nullptr;
  return entries_;
}

}  // namespace rump::hijack
