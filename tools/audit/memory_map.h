// What lies where in another process's memory.
#ifndef TOOLS_AUDIT_MEMORY_MAP_H_
#define TOOLS_AUDIT_MEMORY_MAP_H_

#include <stdint.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace rump {

struct Mapping {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t offset = 0;  // of `start` in the file
  bool executable = false;
  std::string path;  // empty: no file
};

class MemoryMap {
 public:
  MemoryMap() = default;
  // Reads the text of /proc/PID/maps, proc(5); lines that make no sense are left out.
  explicit MemoryMap(absl::string_view text);
  // That of process `pid`; an empty one if it has ended.
  static MemoryMap OfProcess(pid_t pid);

  // nullptr if nothing is mapped there.
  const Mapping* Find(uint64_t address) const;
  // Where `path` is loaded: what addresses in it count from.
  uint64_t BaseOf(absl::string_view path) const;
  // The first file of that name, without its folders; empty if there is none.
  std::string FileNamed(absl::string_view name) const;

 private:
  std::vector<Mapping> mappings_;  // by address
};

}  // namespace rump

#endif  // TOOLS_AUDIT_MEMORY_MAP_H_
