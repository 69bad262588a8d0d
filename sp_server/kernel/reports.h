// What rump ps and rump stats show, for people and as JSON.
#ifndef SP_SERVER_KERNEL_REPORTS_H_
#define SP_SERVER_KERNEL_REPORTS_H_

#include <stddef.h>
#include <stdint.h>

#include <span>
#include <string>
#include <vector>

#include "protocol/syscalls.h"
#include "sp_server/server/kernel_interface.h"

namespace rump {

struct ProcessReport {
  int pid = 0;
  int ppid = 0;
  std::string command;  // any bytes
  size_t fds = 0;
  const ClientInfo* client = nullptr;  // nullptr: waits for its FORK handshake
};
std::string FormatProcesses(std::span<const ProcessReport> processes);
std::string FormatProcessesJson(std::span<const ProcessReport> processes);

// How often one system call was called.
struct CallCount {
  uint64_t calls = 0;
  uint64_t failed = 0;
};
struct StatisticsReport {
  size_t clients = 0;
  size_t preforks = 0;
  ServerCounters counted;
  size_t processes = 0;
  size_t objects = 0;
  size_t fd_entries = 0;  // in all descriptor tables
  size_t memory = 0;      // bytes that processes make the kernel hold
  size_t closing = 0;     // descriptors of clients whose close is under way; see FdCloser
  // By row of AllSyscalls(), and one more for all numbers that have no row.
  std::span<const CallCount> calls;
};
std::string FormatStatistics(const StatisticsReport& statistics);
std::string FormatStatisticsJson(const StatisticsReport& statistics);

}  // namespace rump

#endif  // SP_SERVER_KERNEL_REPORTS_H_
