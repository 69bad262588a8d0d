#include "tools/rump/audit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "hijack/config.h"
#include "tools/audit/escape_audit.h"
#include "tools/audit/tracer.h"
#include "tools/rump/installation.h"
#include "tools/rump/launch.h"
#include "tools/rump/private_server.h"
#include "tools/rump/process.h"
#include "tools/rump/supervise.h"

namespace rump {
namespace {

absl::StatusOr<HijackConfig> Configuration() {
  const char* const text = getenv("RUMPHIJACK");
  HijackConfig config;
  char error[256];
  if (!ParseHijackConfig(text != nullptr ? text : "", &config, error, sizeof(error))) {
    return absl::FailedPreconditionError(error);
  }
  return config;
}

// Passes signals on to `child` until the tracer has no process left. Those of a terminal have
// reached it already.
void Supervise(const SignalHold& hold, pid_t child, Tracer* tracer) {
  while (tracer->active()) {
    siginfo_t info;
    const int signal = sigwaitinfo(&hold.signals(), &info);
    if (signal == SIGCHLD) {
      tracer->HandleEvents();
    } else if (signal > 0 && info.si_code <= 0) {
      kill(child, signal);
    }
  }
}

// Where the report goes: the file --output, or nullptr for stderr.
using Output = std::unique_ptr<FILE, int (*)(FILE*)>;

absl::StatusOr<Output> OpenOutput(const Invocation& invocation) {
  const auto output = invocation.options.find("--output");
  if (output == invocation.options.end()) return Output(nullptr, &fclose);
  FILE* const file = fopen(output->second.c_str(), "ae");
  if (file == nullptr) return absl::ErrnoToStatus(errno, output->second);
  return Output(file, &fclose);
}

absl::Status WriteReport(const std::string& report, Output output, const Invocation& invocation) {
  if (output == nullptr) {
    fprintf(stderr, "rump check: %s", report.c_str());
    return absl::OkStatus();
  }
  const bool written = fputs(report.c_str(), output.get()) >= 0;
  if (fclose(output.release()) == 0 && written) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, invocation.options.at("--output"));
}

}  // namespace

absl::StatusOr<int> Audit(const Invocation& invocation, const std::string& path) {
  absl::StatusOr<HijackConfig> config = Configuration();
  if (!config.ok()) return config.status();
  absl::StatusOr<std::string> library = FindPreloadableLibrary();
  if (!library.ok()) return library.status();
  absl::StatusOr<ServerUrl> server = NamedServer(invocation);
  if (!server.ok()) return server.status();
  // Before the program has run in vain.
  absl::StatusOr<Output> output = OpenOutput(invocation);
  if (!output.ok()) return output.status();
  const SignalHold hold;
  std::unique_ptr<PrivateServer> private_server;
  if (server->url.empty()) {
    absl::StatusOr<std::string> program = FindServerProgram();
    if (!program.ok()) return program.status();
    auto started = PrivateServer::Start(*program, hold, /*options=*/{});
    if (!started.ok()) return started.status();
    private_server = *std::move(started);
  }
  SetHijackEnvironment(*library, private_server ? private_server->url() : server->url);
  // As /proc names what is loaded.
  std::error_code error;
  const std::filesystem::path mapped = std::filesystem::canonical(*library, error);
  if (error) return absl::InternalError(absl::StrCat(*library, ": ", error.message()));
  EscapeAudit audit(mapped, *config);
  Tracer tracer(&audit);
  absl::StatusOr<pid_t> child = tracer.Start([&] {
    hold.RestoreInChild();
    fprintf(stderr, "rump check: %s\n", Exec(path, invocation.arguments).ToString().c_str());
    _exit(kCannotRun);
  });
  if (!child.ok()) return child.status();
  Supervise(hold, *child, &tracer);
  private_server.reset();
  const absl::Status written = WriteReport(audit.Report(), *std::move(output), invocation);
  if (!written.ok()) return written;
  if (audit.escaped() > 0) return kEscaped;
  EndLike(tracer.wait_status());
}

}  // namespace rump
