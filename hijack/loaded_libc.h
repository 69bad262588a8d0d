// libc as it lies in this process's memory.
#ifndef HIJACK_LOADED_LIBC_H_
#define HIJACK_LOADED_LIBC_H_

#include <stdint.h>

#include <span>

namespace rump::hijack {

struct LoadedLibc {
  uint8_t* base = nullptr;
  std::span<uint8_t> code;  // what is executable of it; whole pages
  std::span<const uint8_t> build_id;
};

// For the library's constructor. False if there is no libc such as this code knows.
bool FindLoadedLibc(LoadedLibc* libc);

// Whether it is certain that the process has only this thread.
bool IsSingleThreaded();

}  // namespace rump::hijack

#endif  // HIJACK_LOADED_LIBC_H_
