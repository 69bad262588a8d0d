// Which libc a program gets, and what the hijack library knows of it.
#ifndef TOOLS_RUMP_LIBC_INSPECTION_H_
#define TOOLS_RUMP_LIBC_INSPECTION_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace rump {

struct LibcFile {
  std::string path;
  std::string build_id;    // hexadecimal; empty if it has none
  bool has_table = false;  // the library has a table of its system calls
};

// The libc that `loader`, a dynamic loader, finds for `program`; nothing of the program is run.
// FailedPrecondition with a sentence if it has none, or if a library is missing.
absl::StatusOr<LibcFile> FindLibc(const std::string& loader, const std::string& program);

// The path of libc in what the loader lists for `program`. The same errors.
absl::StatusOr<std::string> ParseLibraryList(const std::string& program, absl::string_view list);

}  // namespace rump

#endif  // TOOLS_RUMP_LIBC_INSPECTION_H_
