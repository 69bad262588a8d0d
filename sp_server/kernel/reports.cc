#include "sp_server/kernel/reports.h"

#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "protocol/frame.h"

namespace rump {
namespace {

bool IsPrintable(char c) { return c >= ' ' && c <= '~'; }

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (IsPrintable(c)) {
      out.push_back(c);
    } else {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned char>(c));
    }
  }
  out.push_back('"');
  return out;
}

CallCount Total(std::span<const CallCount> calls) {
  CallCount total;
  for (const CallCount& count : calls) {
    total.calls += count.calls;
    total.failed += count.failed;
  }
  return total;
}

}  // namespace

std::string FormatProcesses(std::span<const ProcessReport> processes) {
  std::string report = absl::StrFormat("%7s %7s %-16s %5s %5s %12s  %s\n", "PID", "PPID", "COMMAND",
                                       "FDS", "CALLS", "BYTES", "CLIENT");
  for (const ProcessReport& process : processes) {
    const ClientInfo* client = process.client;
    // A name comes from the client: nothing in it may move the reader's cursor.
    std::string command = process.command;
    for (char& c : command) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    absl::StrAppendFormat(&report, "%7d %7d %-16s %5d %5d %12d  %s\n", process.pid, process.ppid,
                          command, process.fds, client != nullptr ? client->calls_in_flight() : 0,
                          client != nullptr ? client->bytes_moved() : 0,
                          client != nullptr ? client->Describe() : "waits for its fork handshake");
  }
  return report;
}

std::string FormatProcessesJson(std::span<const ProcessReport> processes) {
  std::string report = "[";
  for (const ProcessReport& process : processes) {
    const ClientInfo* client = process.client;
    absl::StrAppend(
        &report, report.size() > 1 ? ",\n " : "", "{\"pid\":", process.pid,
        ",\"ppid\":", process.ppid, ",\"command\":", JsonString(process.command),
        ",\"fds\":", process.fds, ",\"calls\":", client != nullptr ? client->calls_in_flight() : 0,
        ",\"bytes\":", client != nullptr ? client->bytes_moved() : 0,
        ",\"client\":", client != nullptr ? JsonString(client->Describe()) : "null", "}");
  }
  return absl::StrCat(report, "]\n");
}

std::string FormatStatistics(const StatisticsReport& statistics) {
  const ServerCounters& counted = statistics.counted;
  const CallCount total = Total(statistics.calls);
  std::string report = absl::StrFormat(
      "clients    %d now, %d ever\n"
      "preforks   %d now, %d ever\n"
      "processes  %d\n"
      "objects    %d\n"
      "fd entries %d\n"
      "memory     %d\n"
      "closing    %d\n"
      "bytes      %d in, %d out\n"
      "copyins    %d\n"
      "copyouts   %d\n"
      "calls      %d, of which %d failed\n",
      statistics.clients, counted.clients, statistics.preforks, counted.preforks,
      statistics.processes, statistics.objects, statistics.fd_entries, statistics.memory,
      statistics.closing, counted.bytes_in, counted.bytes_out, counted.copyins, counted.copyouts,
      total.calls, total.failed);
  for (size_t i = 0; i < ServerCounters::kErrors; ++i) {
    if (counted.errors[i] == 0) continue;
    absl::StrAppendFormat(&report, "errors     %d %s\n", counted.errors[i],
                          WireErrorName(static_cast<WireError>(i)));
  }
  absl::StrAppendFormat(&report, "\n%12s %12s  %s\n", "CALLS", "FAILED", "NAME");
  for (size_t row = 0; row < statistics.calls.size(); ++row) {
    const CallCount& count = statistics.calls[row];
    if (count.calls == 0) continue;
    absl::StrAppendFormat(&report, "%12d %12d  %s\n", count.calls, count.failed,
                          row < AllSyscalls().size() ? AllSyscalls()[row].name : "(unknown)");
  }
  return report;
}

std::string FormatStatisticsJson(const StatisticsReport& statistics) {
  const ServerCounters& counted = statistics.counted;
  const CallCount total = Total(statistics.calls);
  std::vector<std::string> errors;
  for (size_t i = 1; i < ServerCounters::kErrors; ++i) {
    errors.push_back(
        absl::StrFormat("\"%s\":%d", WireErrorName(static_cast<WireError>(i)), counted.errors[i]));
  }
  std::vector<std::string> calls;
  for (size_t row = 0; row < statistics.calls.size(); ++row) {
    const CallCount& count = statistics.calls[row];
    if (count.calls == 0) continue;
    const bool known = row < AllSyscalls().size();
    calls.push_back(absl::StrFormat("{\"number\":%s,\"name\":%s,\"calls\":%d,\"failed\":%d}",
                                    known ? absl::StrCat(AllSyscalls()[row].number) : "null",
                                    known ? JsonString(AllSyscalls()[row].name) : "null",
                                    count.calls, count.failed));
  }
  return absl::StrFormat(
      "{\"clients\":{\"now\":%d,\"ever\":%d},\n"
      " \"preforks\":{\"now\":%d,\"ever\":%d},\n"
      " \"processes\":%d,\n"
      " \"objects\":%d,\n"
      " \"fd_entries\":%d,\n"
      " \"memory\":%d,\n"
      " \"closing\":%d,\n"
      " \"bytes\":{\"in\":%d,\"out\":%d},\n"
      " \"copyins\":%d,\n"
      " \"copyouts\":%d,\n"
      " \"errors\":{%s},\n"
      " \"calls\":%d,\n"
      " \"failed\":%d,\n"
      " \"by_call\":[%s]}\n",
      statistics.clients, counted.clients, statistics.preforks, counted.preforks,
      statistics.processes, statistics.objects, statistics.fd_entries, statistics.memory,
      statistics.closing, counted.bytes_in, counted.bytes_out, counted.copyins, counted.copyouts,
      absl::StrJoin(errors, ","), total.calls, total.failed, absl::StrJoin(calls, ",\n  "));
}

}  // namespace rump
