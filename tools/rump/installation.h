// Where the parts of this toolkit lie, seen from the running rump.
#ifndef TOOLS_RUMP_INSTALLATION_H_
#define TOOLS_RUMP_INSTALLATION_H_

#include <string>

#include "absl/status/statusor.h"

namespace rump {

// The absolute path of librumphijack.so: beside rump, in ../hijack (the build tree) or in ../lib.
// NotFound names the places.
absl::StatusOr<std::string> FindHijackLibrary();

// The absolute path of rump_server: beside rump or in ../sp_server (the build tree).
absl::StatusOr<std::string> FindServerProgram();

}  // namespace rump

#endif  // TOOLS_RUMP_INSTALLATION_H_
