#include "tools/rump/libc_inspection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "hijack/libc_tables.h"
#include "sp_server/loop/unique_fd.h"
#include "tools/libc_sites/elf_file.h"
#include "tools/rump/process.h"

namespace rump {
namespace {

std::string ReadAll(int fd) {
  std::string text;
  char chunk[4096];
  ssize_t n;
  while ((n = read(fd, chunk, sizeof(chunk))) > 0 || (n < 0 && errno == EINTR)) {
    if (n > 0) text.append(chunk, static_cast<size_t>(n));
  }
  return text;
}

// What `loader --list program` prints, ldd(1)'s way to ask that runs nothing of the program.
absl::StatusOr<std::string> ListLibraries(const std::string& loader, const std::string& program) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  const std::string arguments[] = {loader, "--list", program};
  absl::StatusOr<Child> child = Child::Start(loader, arguments, [&out] {
    dup2(out.get(), STDOUT_FILENO);
    dup2(out.get(), STDERR_FILENO);
    unsetenv("LD_PRELOAD");
  });
  if (!child.ok()) return child.status();
  out.reset();
  return ReadAll(in.get());
}

}  // namespace

absl::StatusOr<std::string> ParseLibraryList(const std::string& program, absl::string_view list) {
  std::string libc;
  for (absl::string_view line : absl::StrSplit(list, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (absl::EndsWith(line, " => not found")) {
      return absl::FailedPreconditionError(
          absl::StrCat(program, " cannot be started: the loader says '", line, "'"));
    }
    // NAME => PATH (ADDRESS)
    if (absl::ConsumePrefix(&line, "libc.so.6 => ")) {
      libc = std::string(line.substr(0, line.rfind(" (")));
    }
  }
  if (libc.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        program, " does not use glibc's libc.so.6: none of its calls can be hijacked"));
  }
  return libc;
}

absl::StatusOr<LibcFile> FindLibc(const std::string& loader, const std::string& program) {
  absl::StatusOr<std::string> list = ListLibraries(loader, program);
  if (!list.ok()) return list.status();
  absl::StatusOr<std::string> path = ParseLibraryList(program, *list);
  if (!path.ok()) return path.status();
  const std::optional<ElfFile> elf = ReadElfFile(*path);
  if (!elf.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat(*path, ", the libc of ", program, ", is no 64-bit x86 library"));
  }
  return LibcFile{.path = *std::move(path),
                  .build_id = absl::BytesToHexString({elf->build_id.data(), elf->build_id.size()}),
                  .has_table = hijack::FindLibcTable(BuildId(*elf)) != nullptr};
}

}  // namespace rump
