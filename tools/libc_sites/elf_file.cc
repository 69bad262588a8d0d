#include "tools/libc_sites/elf_file.h"

#include <elf.h>
#include <string.h>

#include <fstream>
#include <iterator>
#include <utility>

namespace rump {
namespace {

// The `n`th T behind `offset`; false if the file ends before it.
template <typename T>
bool Read(std::string_view bytes, uint64_t offset, uint64_t n, T* value) {
  if (offset > bytes.size() || n >= (bytes.size() - offset) / sizeof(T)) return false;
  memcpy(value, bytes.data() + offset + n * sizeof(T), sizeof(T));
  return true;
}

std::string_view Part(std::string_view bytes, uint64_t offset, uint64_t size) {
  if (offset > bytes.size() || size > bytes.size() - offset) return {};
  return bytes.substr(offset, size);
}

std::string_view StringAt(std::string_view strings, uint64_t offset) {
  if (offset >= strings.size()) return {};
  strings.remove_prefix(offset);
  return strings.substr(0, strings.find('\0'));
}

std::string_view FindBuildId(std::string_view notes) {
  Elf64_Nhdr note;
  while (Read(notes, 0, 0, &note)) {
    const auto aligned = [](uint64_t size) { return (size + 3) & ~uint64_t{3}; };
    const uint64_t name_end = sizeof note + aligned(note.n_namesz);
    if (note.n_type == NT_GNU_BUILD_ID) return Part(notes, name_end, note.n_descsz);
    const uint64_t end = name_end + aligned(note.n_descsz);
    if (end >= notes.size()) break;
    notes.remove_prefix(end);
  }
  return {};
}

std::vector<Symbol> ReadFunctions(std::string_view symbols, std::string_view names) {
  std::vector<Symbol> functions;
  Elf64_Sym symbol;
  for (uint64_t i = 0; Read(symbols, 0, i, &symbol); ++i) {
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
    functions.push_back({StringAt(names, symbol.st_name), symbol.st_value, symbol.st_size});
  }
  return functions;
}

}  // namespace

std::optional<ElfFile> ParseElfFile(std::string file) {
  ElfFile elf;
  elf.file = std::move(file);
  const std::string_view bytes = elf.file;
  Elf64_Ehdr header;
  if (!Read(bytes, 0, 0, &header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64 ||
      header.e_type != ET_DYN) {
    return std::nullopt;
  }
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    if (!Read(bytes, header.e_shoff, i, &section)) return std::nullopt;
    if (section.sh_type == SHT_NOBITS) continue;
    const std::string_view content = Part(bytes, section.sh_offset, section.sh_size);
    if ((section.sh_flags & SHF_ALLOC) != 0) {
      elf.sections.push_back({section.sh_addr, content, (section.sh_flags & SHF_EXECINSTR) != 0});
    }
    if (section.sh_type == SHT_NOTE && elf.build_id.empty()) elf.build_id = FindBuildId(content);
    if (section.sh_type == SHT_DYNSYM) {
      Elf64_Shdr names;
      if (!Read(bytes, header.e_shoff, section.sh_link, &names)) return std::nullopt;
      elf.functions = ReadFunctions(content, Part(bytes, names.sh_offset, names.sh_size));
    }
  }
  return elf;
}

std::optional<ElfFile> ReadElfFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return ParseElfFile(std::string{std::istreambuf_iterator<char>(in), {}});
}

std::span<const uint8_t> BuildId(const ElfFile& elf) {
  return {reinterpret_cast<const uint8_t*>(elf.build_id.data()), elf.build_id.size()};
}

}  // namespace rump
