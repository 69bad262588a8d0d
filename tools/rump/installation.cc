#include "tools/rump/installation.h"

#include <unistd.h>

#include <filesystem>
#include <initializer_list>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace rump {
namespace {

absl::StatusOr<std::string> Find(const char* name, std::initializer_list<const char*> places) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) {
    return absl::InternalError(absl::StrCat("cannot read /proc/self/exe: ", error.message()));
  }
  std::string tried;
  for (const char* place : places) {
    const std::string path = (self.parent_path() / place / name).lexically_normal().string();
    if (access(path.c_str(), R_OK) == 0) return path;
    absl::StrAppend(&tried, tried.empty() ? "" : ", ", path);
  }
  return absl::NotFoundError(absl::StrCat(name, " is not where it belongs; tried ", tried));
}

}  // namespace

absl::StatusOr<std::string> FindHijackLibrary() {
  return Find("librumphijack.so", {".", "../hijack", "../lib"});
}

absl::StatusOr<std::string> FindServerProgram() {
  return Find("rump_server", {".", "../sp_server"});
}

}  // namespace rump
