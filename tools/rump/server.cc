#include <string>
#include <vector>

#include "tools/rump/command.h"
#include "tools/rump/installation.h"
#include "tools/rump/process.h"

namespace rump {
namespace {

absl::StatusOr<int> Run(const Invocation& invocation) {
  absl::StatusOr<std::string> program = FindServerProgram();
  if (!program.ok()) return program.status();
  std::vector<std::string> arguments = {"rump_server"};
  arguments.insert(arguments.end(), invocation.arguments.begin(), invocation.arguments.end());
  return Exec(*program, arguments);
}

}  // namespace

const Command kServerCommand = {
    .name = "server",
    .synopsis = "[ARGUMENT...]",
    .summary = "Starts rump_server with the given arguments.",
    .description = "They are a URL, and options: 'rump server --help' lists them.\n",
    .options = {},
    .passes_options_on = true,
    .failure_status = 125,
    .run = Run,
};

}  // namespace rump
