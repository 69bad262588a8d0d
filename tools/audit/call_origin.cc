#include "tools/audit/call_origin.h"

#include <string.h>

#include <array>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hijack/call_site.h"
#include "hijack/libc_tables.h"
#include "tools/libc_sites/elf_file.h"

namespace rump {
namespace {

constexpr absl::string_view kLibc = "libc.so.6";
constexpr uint8_t kJump = 0xe9;
constexpr uint8_t kShortJump = 0xeb;

}  // namespace

CallOrigins::CallOrigins(std::string library, std::function<MemoryMap()> read_map,
                         ReadMemory read_memory)
    : library_(std::move(library)),
      read_map_(std::move(read_map)),
      read_memory_(std::move(read_memory)) {}

CallOrigin CallOrigins::Find(uint64_t address) {
  const auto known = known_.find(address);
  if (known != known_.end()) return known->second;
  const CallOrigin origin = Classify(address);
  // A place of libc's may be rewritten later, when the library is loaded; of others one is not sure
  // either, as code comes and goes.
  if (origin == CallOrigin::kLibrary || origin == CallOrigin::kGate) known_[address] = origin;
  return origin;
}

CallOrigin CallOrigins::Classify(uint64_t address) {
  const Mapping* const mapping = FindMapping(address);
  if (mapping == nullptr) return CallOrigin::kElsewhere;
  if (mapping->path == library_) return CallOrigin::kLibrary;
  if (!absl::EndsWith(mapping->path, absl::StrCat("/", kLibc))) return CallOrigin::kElsewhere;
  if (IsGated(address - hijack::kSyscallSize)) return CallOrigin::kGate;
  return IsLibcRewritten() ? CallOrigin::kMissed : CallOrigin::kUnknown;
}

// Reads the map again for addresses that were not mapped when it was read.
const Mapping* CallOrigins::FindMapping(uint64_t address) {
  const Mapping* mapping = map_.Find(address);
  if (mapping == nullptr || mapping->path.empty()) {
    map_ = read_map_();
    mapping = map_.Find(address);
  }
  return mapping;
}

bool CallOrigins::HasLibrary() {
  if (map_.BaseOf(library_) == 0) map_ = read_map_();
  return map_.BaseOf(library_) != 0;
}

bool CallOrigins::IsCode(uint64_t address) {
  const Mapping* const mapping = FindMapping(address);
  return mapping != nullptr && mapping->executable;
}

// Whether a jump, over what is displaced before the call, leads to the library's stubs.
bool CallOrigins::IsGated(uint64_t syscall) const {
  std::array<uint8_t, hijack::kMaxDisplaced> before = {};
  if (!read_memory_(syscall - before.size(), before)) return false;
  for (size_t i = 0; i + hijack::kShortJumpSize <= before.size(); ++i) {
    const uint64_t jump = syscall - before.size() + i;
    if (before[i] == kJump && LeadsToLibrary(jump)) return true;
    if (before[i] != kShortJump) continue;
    const auto distance = static_cast<int8_t>(before[i + 1]);
    if (LeadsToLibrary(jump + hijack::kShortJumpSize + static_cast<uint64_t>(int64_t{distance}))) {
      return true;
    }
  }
  return false;
}

bool CallOrigins::LeadsToLibrary(uint64_t jump) const {
  std::array<uint8_t, hijack::kJumpSize> bytes = {};
  if (!read_memory_(jump, bytes) || bytes[0] != kJump) return false;
  int32_t distance;
  memcpy(&distance, &bytes[1], sizeof distance);
  const Mapping* const target =
      map_.Find(jump + hijack::kJumpSize + static_cast<uint64_t>(int64_t{distance}));
  return target != nullptr && target->path == library_;
}

bool CallOrigins::IsLibcRewritten() {
  if (!looked_for_libc_) {
    looked_for_libc_ = true;
    const std::string path = map_.FileNamed(kLibc);
    const std::optional<ElfFile> libc = ReadElfFile(path);
    const hijack::LibcTable* const table =
        libc.has_value() ? hijack::FindLibcTable(BuildId(*libc)) : nullptr;
    if (table != nullptr && table->complete) {
      libc_call_ = map_.BaseOf(path) + table->sites.front().address;
    }
  }
  return libc_call_ != 0 && IsGated(libc_call_);
}

std::string CallOrigins::Describe(uint64_t address) {
  const Mapping* const mapping = FindMapping(address);
  if (mapping == nullptr || mapping->path.empty()) return absl::StrFormat("%#x", address);
  const uint64_t place = address - map_.BaseOf(mapping->path);
  std::string text = absl::StrFormat("%s+%#x", mapping->path, place);
  const std::optional<ElfFile> elf = ReadElfFile(mapping->path);
  if (!elf.has_value()) return text;
  for (const Symbol& function : elf->functions) {
    // What goes on behind a call may be behind the function, too.
    if (place - 1 - function.address < function.size) {
      absl::StrAppend(&text, " (", std::string(function.name), ")");
      break;
    }
  }
  return text;
}

}  // namespace rump
