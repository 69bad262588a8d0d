#include "hijack/loaded_libc.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <string.h>

namespace rump::hijack {
namespace {

constexpr uintptr_t kPage = 4096;

struct Search {
  uintptr_t inside;  // an address in libc
  LoadedLibc* libc;
};

std::span<const uint8_t> BuildId(const uint8_t* notes, size_t size) {
  const auto aligned = [](size_t n) { return (n + 3) & ~size_t{3}; };
  while (size >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    memcpy(&note, notes, sizeof note);
    const size_t name_end = sizeof note + aligned(note.n_namesz);
    const size_t end = name_end + aligned(note.n_descsz);
    if (end > size) break;
    if (note.n_type == NT_GNU_BUILD_ID) return {notes + name_end, note.n_descsz};
    notes += end;
    size -= end;
  }
  return {};
}

bool Contains(const dl_phdr_info& object, uintptr_t address) {
  for (size_t i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object.dlpi_phdr[i];
    const uintptr_t start = object.dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && address - start < segment.p_memsz) return true;
  }
  return false;
}

int Visit(dl_phdr_info* object, size_t /*size*/, void* data) {
  const auto& search = *static_cast<Search*>(data);
  if (!Contains(*object, search.inside)) return 0;
  LoadedLibc& libc = *search.libc;
  libc.base = reinterpret_cast<uint8_t*>(object->dlpi_addr);
  for (size_t i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    uint8_t* const start = libc.base + segment.p_vaddr;
    if (segment.p_type == PT_NOTE && libc.build_id.empty()) {
      libc.build_id = BuildId(start, segment.p_memsz);
    }
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0) {
      const uintptr_t first = segment.p_vaddr & ~(kPage - 1);
      const uintptr_t end = (segment.p_vaddr + segment.p_memsz + kPage - 1) & ~(kPage - 1);
      libc.code = {libc.base + first, end - first};
    }
  }
  return 1;
}

}  // namespace

bool FindLoadedLibc(LoadedLibc* libc) {
  // By name behind us: programs have functions of that name, too.
  void* const iterate = dlsym(RTLD_NEXT, "dl_iterate_phdr");
  // Nobody but libc has this one.
  void* const inside = dlsym(RTLD_NEXT, "gnu_get_libc_version");
  if (iterate == nullptr || inside == nullptr) return false;
  Search search = {reinterpret_cast<uintptr_t>(inside), libc};
  reinterpret_cast<decltype(&dl_iterate_phdr)>(iterate)(Visit, &search);
  return !libc->code.empty();
}

bool IsSingleThreaded() {
  const void* const flag = dlsym(RTLD_DEFAULT, "__libc_single_threaded");
  return flag != nullptr && *static_cast<const char*>(flag) != 0;
}

}  // namespace rump::hijack
