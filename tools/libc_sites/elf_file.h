// What the search for call sites needs of a shared library on disk.
#ifndef TOOLS_LIBC_SITES_ELF_FILE_H_
#define TOOLS_LIBC_SITES_ELF_FILE_H_

#include <stdint.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rump {

// A part of the library as it lies in memory.
struct Section {
  uint64_t address = 0;
  std::string_view bytes;
  bool executable = false;

  bool Contains(uint64_t at) const { return at >= address && at - address < bytes.size(); }
};

struct Symbol {
  std::string_view name;
  uint64_t address = 0;
  uint64_t size = 0;
};

// The views point into the file's bytes, which it owns.
struct ElfFile {
  std::string file;
  std::string_view build_id;
  std::vector<Section> sections;  // those that are loaded and have bytes
  std::vector<Symbol> functions;  // those that it exports
};

// Reads an x86-64 shared library; nullopt if `file` is none.
std::optional<ElfFile> ParseElfFile(std::string file);
// The same of a file that is still to be read.
std::optional<ElfFile> ReadElfFile(const std::string& path);

// The bytes of the build-id.
std::span<const uint8_t> BuildId(const ElfFile& elf);

}  // namespace rump

#endif  // TOOLS_LIBC_SITES_ELF_FILE_H_
