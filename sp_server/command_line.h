// The arguments of rump_server.
#ifndef SP_SERVER_COMMAND_LINE_H_
#define SP_SERVER_COMMAND_LINE_H_

#include <stddef.h>

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sp_server/kernel/limits.h"
#include "sp_server/server/server.h"

namespace rump {

struct CommandLine {
  bool foreground = false;
  bool no_direct = false;  // see HostObjects::set_direct
  bool help = false;       // the rest is not valid then
  bool version = false;    // the same
  std::string trace;       // file of the trace, "-" for standard error; empty for none
  std::vector<std::string> nameservers;  // addresses of IPv4 or IPv6
  KernelLimits kernel;
  ServerOptions server;
  std::vector<std::string> urls;
};

// Reads the arguments behind the program's name: options as "--name VALUE" or "--name=VALUE", among
// URLs. InvalidArgument with a sentence.
absl::StatusOr<CommandLine> ParseCommandLine(std::span<const char* const> words);

// What --help prints, ending in '\n'.
std::string CommandLineHelp();

}  // namespace rump

#endif  // SP_SERVER_COMMAND_LINE_H_
