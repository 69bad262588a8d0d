// What `rump run` can know about a program before it starts it: where it is, and whether the
// dynamic loader will take librumphijack.so into it.
#ifndef TOOLS_RUMP_PROGRAM_INSPECTION_H_
#define TOOLS_RUMP_PROGRAM_INSPECTION_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace rump {

// What a file is to execve(2) and to LD_PRELOAD.
enum class ProgramKind {
  kDynamic,       // ELF of this machine, started by glibc's loader: can be hijacked
  kStatic,        // ELF of this machine without PT_INTERP
  kOtherLoader,   // ELF of this machine, started by another loader (musl, for one)
  k32Bit,         // ELF with 32-bit class
  kOtherMachine,  // 64-bit ELF for another processor or byte order
  kDamaged,       // ELF magic, but headers that make no sense
  kScript,        // starts with #!
  kOther,         // none of these
};

struct ProgramFile {
  ProgramKind kind = ProgramKind::kOther;
  std::string loader;       // PT_INTERP of kDynamic and kOtherLoader
  std::string interpreter;  // of kScript, as the file names it; empty if it names none
};

// Reads the headers of `path`. The status is open(2)'s or read(2)'s failure.
absl::StatusOr<ProgramFile> ReadProgramFile(const std::string& path);

// The file that execvp(3) would start as `name` with `path_list` as PATH: `name` itself if it
// contains a slash. NotFound, or PermissionDenied if files of that name exist but none can be
// executed.
absl::StatusOr<std::string> FindProgram(absl::string_view name, absl::string_view path_list);

// The real ids of the process that starts the program: set-id bits that change nothing for it (root
// and a set-uid-root program) do not keep the loader from preloading.
struct Credentials {
  uid_t uid = 0;
  gid_t gid = 0;
};

// A program that a library can be preloaded into.
struct HijackableProgram {
  std::string path;    // itself, or the interpreter of a script
  std::string loader;  // empty if `path` cannot be read
};

// Whether the loader will preload a library into the program `path`, scripts followed to their
// interpreter. If not, FailedPrecondition with a sentence that says why not, and of which file.
// A program that may be executed but not read is taken for a dynamic one.
absl::StatusOr<HijackableProgram> CheckHijackable(const std::string& path,
                                                  const Credentials& credentials);

}  // namespace rump

#endif  // TOOLS_RUMP_PROGRAM_INSPECTION_H_
