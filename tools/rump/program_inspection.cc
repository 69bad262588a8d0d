#include "tools/rump/program_inspection.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {
namespace {

// The kernel looks for a script's interpreter in this many bytes, and follows this many scripts.
constexpr size_t kScriptLine = 256;
constexpr int kMaxInterpreters = 5;
// Program headers beyond this are not a program that anything produces.
constexpr size_t kMaxProgramHeaders = 1024;

// Up to `size` bytes at `offset`, fewer at the end of the file.
absl::StatusOr<std::string> ReadAt(int fd, size_t size, off_t offset) {
  std::string bytes(size, '\0');
  size_t got = 0;
  while (got < size) {
    const ssize_t n = pread(fd, bytes.data() + got, size - got, offset + static_cast<off_t>(got));
    if (n < 0 && errno == EINTR) continue;
    // EINVAL: an offset that no file has. Such headers are damaged, not unreadable.
    if (n < 0 && errno != EINVAL) return absl::ErrnoToStatus(errno, "read");
    if (n <= 0) break;
    got += static_cast<size_t>(n);
  }
  bytes.resize(got);
  return bytes;
}

std::string ScriptInterpreter(absl::string_view head) {
  absl::string_view line = head.substr(2, head.find('\n') - 2);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  return std::string(line.substr(0, line.find_first_of(" \t")));
}

absl::StatusOr<ProgramFile> ReadElf(int fd, absl::string_view head) {
  ProgramFile file{.kind = ProgramKind::kDamaged, .loader = {}, .interpreter = {}};
  if (head.size() > EI_CLASS && head[EI_CLASS] == ELFCLASS32) {
    file.kind = ProgramKind::k32Bit;
    return file;
  }
  Elf64_Ehdr header;
  if (head.size() < sizeof(header) || head[EI_CLASS] != ELFCLASS64) return file;
  memcpy(&header, head.data(), sizeof(header));
  if (header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != EM_X86_64) {
    file.kind = ProgramKind::kOtherMachine;
    return file;
  }
  if ((header.e_type != ET_EXEC && header.e_type != ET_DYN) ||
      header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > kMaxProgramHeaders) {
    return file;
  }
  absl::StatusOr<std::string> table =
      ReadAt(fd, header.e_phnum * sizeof(Elf64_Phdr), static_cast<off_t>(header.e_phoff));
  if (!table.ok()) return table.status();
  if (table->size() != header.e_phnum * sizeof(Elf64_Phdr)) return file;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    memcpy(&segment, table->data() + i * sizeof(segment), sizeof(segment));
    if (segment.p_type != PT_INTERP) continue;
    const size_t size = std::min<size_t>(segment.p_filesz, PATH_MAX);
    absl::StatusOr<std::string> loader = ReadAt(fd, size, static_cast<off_t>(segment.p_offset));
    if (!loader.ok()) return loader.status();
    if (loader->empty() || loader->back() != '\0') return file;
    file.loader = loader->c_str();
    file.kind = absl::StrContains(file.loader, "/ld-linux") ? ProgramKind::kDynamic
                                                            : ProgramKind::kOtherLoader;
    return file;
  }
  file.kind = ProgramKind::kStatic;
  return file;
}

absl::Status CheckIds(const std::string& path, const Credentials& credentials) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return absl::ErrnoToStatus(errno, path);
  const auto refused = [&path](absl::string_view what) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " ", what, ": the loader ignores LD_PRELOAD in a program that changes privileges"));
  };
  if ((st.st_mode & S_ISUID) != 0 && st.st_uid != credentials.uid) {
    return refused(absl::StrCat("is setuid to user ", st.st_uid));
  }
  // Without the group's execute bit, setgid marks mandatory locking.
  if ((st.st_mode & S_ISGID) != 0 && (st.st_mode & S_IXGRP) != 0 && st.st_gid != credentials.gid) {
    return refused(absl::StrCat("is setgid to group ", st.st_gid));
  }
  if (credentials.uid != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    return refused("has file capabilities");
  }
  return absl::OkStatus();
}

// The sentence for every kind that ends the search, empty for kDynamic.
std::string Refusal(const std::string& path, const ProgramFile& file) {
  switch (file.kind) {
    case ProgramKind::kStatic:
      return absl::StrCat(path, " is statically linked: there is no loader to preload a library");
    case ProgramKind::kOtherLoader:
      return absl::StrCat(path, " is started by ", file.loader,
                          ": only programs that use glibc's loader can be hijacked");
    case ProgramKind::k32Bit:
      return absl::StrCat(path, " is a 32-bit program: only 64-bit x86 programs can be hijacked");
    case ProgramKind::kOtherMachine:
      return absl::StrCat(path,
                          " is for another processor: only 64-bit x86 programs can be hijacked");
    case ProgramKind::kDamaged:
      return absl::StrCat(path, " has damaged ELF headers");
    case ProgramKind::kOther:
      return absl::StrCat(path, " is neither an ELF program nor a script that starts with #!");
    case ProgramKind::kDynamic:
    case ProgramKind::kScript:
      break;
  }
  return "";
}

}  // namespace

absl::StatusOr<ProgramFile> ReadProgramFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, path);
  absl::StatusOr<std::string> head = ReadAt(fd.get(), kScriptLine, 0);
  if (!head.ok()) return head.status();
  if (absl::StartsWith(*head, absl::string_view(ELFMAG, SELFMAG))) return ReadElf(fd.get(), *head);
  ProgramFile file;
  if (absl::StartsWith(*head, "#!")) {
    file.kind = ProgramKind::kScript;
    file.interpreter = ScriptInterpreter(*head);
  }
  return file;
}

absl::StatusOr<std::string> FindProgram(absl::string_view name, absl::string_view path_list) {
  std::string unusable;
  const auto usable = [&unusable](const std::string& path) {
    struct stat st;
    if (stat(path.c_str(), &st) != 0) return false;
    if (S_ISREG(st.st_mode) && faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0) {
      return true;
    }
    if (unusable.empty()) {
      unusable = absl::StrCat(path, S_ISDIR(st.st_mode) ? " is a directory" : " is not executable");
    }
    return false;
  };

  if (absl::StrContains(name, '/')) {
    std::string path(name);
    if (usable(path)) return path;
  } else if (!name.empty()) {
    for (absl::string_view directory : absl::StrSplit(path_list, ':')) {
      // An empty entry is the current directory.
      std::string path = absl::StrCat(directory.empty() ? "." : directory, "/", name);
      if (usable(path)) return path;
    }
  }
  if (!unusable.empty()) return absl::PermissionDeniedError(unusable);
  if (absl::StrContains(name, '/')) {
    return absl::NotFoundError(absl::StrCat(name, ": no such file"));
  }
  return absl::NotFoundError(
      absl::StrCat("'", name, "' is not in any directory of PATH (", path_list, ")"));
}

absl::StatusOr<HijackableProgram> CheckHijackable(const std::string& path,
                                                  const Credentials& credentials) {
  std::string current = path;
  for (int followed = 0; followed <= kMaxInterpreters; ++followed) {
    absl::StatusOr<ProgramFile> file = ReadProgramFile(current);
    const bool unreadable = absl::IsPermissionDenied(file.status());
    if (unreadable || (file.ok() && file->kind == ProgramKind::kDynamic)) {
      if (absl::Status ids = CheckIds(current, credentials); !ids.ok()) return ids;
      return HijackableProgram{.path = current, .loader = unreadable ? "" : file->loader};
    }
    if (!file.ok()) {
      return absl::FailedPreconditionError(
          current == path ? absl::StrCat("cannot read ", file.status().message())
                          : absl::StrCat("the interpreter of the script ", path,
                                         " cannot be read: ", file.status().message()));
    }
    if (file->kind != ProgramKind::kScript) {
      std::string why = Refusal(current, *file);
      if (current != path) absl::StrAppend(&why, " (it is the interpreter of ", path, ")");
      return absl::FailedPreconditionError(why);
    }
    if (file->interpreter.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(current, " is a script whose #! line names no interpreter"));
    }
    current = file->interpreter;
  }
  return absl::FailedPreconditionError(
      absl::StrCat(path, " is a script whose interpreter is a script, too many times over"));
}

}  // namespace rump
