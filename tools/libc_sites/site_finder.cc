#include "tools/libc_sites/site_finder.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "tools/libc_sites/code.h"

namespace rump {
namespace {

using hijack::CallSite;

// Farther from the call no compiler loads its number.
constexpr size_t kLongestWay = 10;

class SiteFinder {
 public:
  explicit SiteFinder(const ElfFile& libc) : libc_(libc), code_(libc) {}

  FoundSites Find() {
    for (size_t i = 0; i < instructions_.size(); ++i) {
      if (instructions_[i].is_syscall) Look(i);
    }
    return std::move(found_);
  }

 private:
  void Look(size_t i) {
    const uint64_t address = instructions_[i].address;
    const std::optional<int16_t> number = NumberOf(i);
    if (!number.has_value()) return;
    CallSite site = {.address = static_cast<uint32_t>(address), .cave = 0, .number = *number};
    site.displaced = static_cast<uint8_t>(MovableBefore(i));
    if (code_.IsTarget(address)) return Refuse(site, "something jumps to the call");
    if (site.displaced >= hijack::kJumpSize) return found_.sites.push_back(site);
    if (site.displaced < hijack::kShortJumpSize) return Refuse(site, "nothing can be displaced");
    site.cave = static_cast<uint32_t>(FindCave(i, address - site.displaced));
    if (site.cave == 0) return Refuse(site, "no room for a jump");
    found_.sites.push_back(site);
  }

  void Refuse(const CallSite& site, const char* reason) {
    found_.refused.push_back({site.address, site.number, reason});
  }

  // The number of the call of instruction `i`, if it is one that the library takes.
  std::optional<int16_t> NumberOf(size_t i) const {
    for (const Symbol& function : libc_.functions) {
      if (function.name == "syscall" &&
          instructions_[i].address - function.address < function.size) {
        return hijack::kAnyNumber;
      }
    }
    for (size_t back = 1; back <= std::min(i, kLongestWay); ++back) {
      const Instruction& before = instructions_[i - back];
      if (before.end() != instructions_[i - back + 1].address || before.is_end) break;
      if (!before.writes_rax) continue;
      if (!before.rax.has_value() || !hijack::IsDispatched(*before.rax)) break;
      return static_cast<int16_t>(*before.rax);
    }
    return std::nullopt;
  }

  // How many bytes before instruction `i` can be displaced: as few as have room for a jump, or as
  // many as there are.
  uint64_t MovableBefore(size_t i) const {
    const uint64_t address = instructions_[i].address;
    uint64_t size = 0;
    for (; i > 0 && size < hijack::kJumpSize; --i) {
      const Instruction& before = instructions_[i - 1];
      if (!before.movable || before.end() != instructions_[i].address) break;
      // Only the first of what is displaced may be jumped to.
      if (size > 0 && code_.IsTarget(address - size)) break;
      size = address - before.address;
    }
    return size;
  }

  // Padding with room for a jump, where `jump` reaches it by a short one; 0 if there is none.
  uint64_t FindCave(size_t i, uint64_t jump) {
    constexpr int64_t kReach = 128;
    const auto distance = [&](const Instruction& instruction) {
      return static_cast<int64_t>(instruction.address - (jump + hijack::kShortJumpSize));
    };
    size_t at = i;
    while (at > 0 && distance(instructions_[at - 1]) >= -kReach) --at;
    for (; at < instructions_.size() && distance(instructions_[at]) < kReach; ++at) {
      const uint64_t cave = instructions_[at].address;
      if (IsCave(at) && caves_.insert(cave).second) return cave;
    }
    return 0;
  }

  bool IsCave(size_t at) const {
    if (at == 0 || !instructions_[at - 1].is_end) return false;
    const uint64_t start = instructions_[at].address;
    if (instructions_[at - 1].end() != start) return false;
    uint64_t end = start;
    for (; at < instructions_.size() && instructions_[at].is_nop; ++at) {
      if (instructions_[at].address != end || code_.IsTarget(end)) break;
      end = instructions_[at].end();
    }
    return end - start >= hijack::kJumpSize;
  }

  const ElfFile& libc_;
  const Code code_;
  const std::vector<Instruction>& instructions_ = code_.instructions();
  std::unordered_set<uint64_t> caves_;
  FoundSites found_;
};

}  // namespace

FoundSites FindCallSites(const ElfFile& libc) { return SiteFinder(libc).Find(); }

}  // namespace rump
