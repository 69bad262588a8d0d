#include "tools/audit/memory_map.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace rump {
namespace {

// The part of `text` before the next blank, which is taken off with the blanks behind it.
absl::string_view TakeWord(absl::string_view* text) {
  const absl::string_view word = text->substr(0, text->find(' '));
  text->remove_prefix(word.size());
  text->remove_prefix(std::min(text->find_first_not_of(' '), text->size()));
  return word;
}

// START-END PERMISSIONS OFFSET DEVICE INODE PATH
bool ParseMapping(absl::string_view line, Mapping* mapping) {
  const std::pair<absl::string_view, absl::string_view> range =
      absl::StrSplit(TakeWord(&line), absl::MaxSplits('-', 1));
  const absl::string_view permissions = TakeWord(&line);
  const absl::string_view offset = TakeWord(&line);
  TakeWord(&line);
  TakeWord(&line);
  mapping->path = std::string(absl::StartsWith(line, "/") ? line : "");
  mapping->executable = absl::StrContains(permissions, 'x');
  return absl::SimpleHexAtoi(range.first, &mapping->start) &&
         absl::SimpleHexAtoi(range.second, &mapping->end) &&
         absl::SimpleHexAtoi(offset, &mapping->offset);
}

}  // namespace

MemoryMap::MemoryMap(absl::string_view text) {
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    Mapping mapping;
    if (ParseMapping(line, &mapping)) mappings_.push_back(std::move(mapping));
  }
}

MemoryMap MemoryMap::OfProcess(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/maps"));
  return MemoryMap(std::string{std::istreambuf_iterator<char>(in), {}});
}

const Mapping* MemoryMap::Find(uint64_t address) const {
  const auto behind = std::ranges::upper_bound(mappings_, address, {}, &Mapping::start);
  if (behind == mappings_.begin()) return nullptr;
  const Mapping& mapping = *std::prev(behind);
  return address < mapping.end ? &mapping : nullptr;
}

uint64_t MemoryMap::BaseOf(absl::string_view path) const {
  const auto first = std::ranges::find(mappings_, path, &Mapping::path);
  return first != mappings_.end() ? first->start - first->offset : 0;
}

std::string MemoryMap::FileNamed(absl::string_view name) const {
  const auto first = std::ranges::find_if(mappings_, [name](const Mapping& mapping) {
    return absl::EndsWith(mapping.path, absl::StrCat("/", name));
  });
  return first != mappings_.end() ? first->path : "";
}

}  // namespace rump
