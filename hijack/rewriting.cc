#include "hijack/rewriting.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <span>

#include "hijack/call_site.h"
#include "hijack/call_stubs.h"
#include "hijack/libc_tables.h"
#include "hijack/loaded_libc.h"
#include "hijack/site_scan.h"
#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// How far the stubs may be from libc, with room for both.
constexpr int64_t kReach = (int64_t{1} << 31) - (int64_t{1} << 26);

// What is ready to be put in place.
struct Plan {
  LoadedLibc libc;
  std::span<const CallSite> sites;
};

// Whether jumps can lead from libc to the stubs and back.
bool InReach(const LoadedLibc& libc) {
  const int64_t distance = rumphijack_stubs - libc.base;
  return distance < kReach && distance > -kReach;
}

// Whether somebody else has rewritten `site` before us, or has put a breakpoint there.
bool IsUntouched(const CallSite& site, const uint8_t* base) {
  constexpr uint8_t kSyscall[kSyscallSize] = {0x0f, 0x05};
  const uint8_t* const syscall = base + site.address;
  if (memcmp(syscall, kSyscall, sizeof kSyscall) != 0) return false;
  for (const uint8_t opcode : {0xcc, 0xe9, 0xeb}) {
    if (syscall[-site.displaced] == opcode) return false;
  }
  return true;
}

// Decides what is rewritten. Returns why nothing can be, or nullptr.
const char* FindSites(Plan* plan, Rewriting* result) {
  if (!IsSingleThreaded()) return "the program has threads already";
  if (!FindLoadedLibc(&plan->libc)) return "libc is not found";
  const LoadedLibc& libc = plan->libc;
  if (const LibcTable* const table = FindLibcTable(libc.build_id); table != nullptr) {
    plan->sites = table->sites;
    result->from_table = true;
    result->complete = table->complete;
  } else {
    static CallSite scanned[kMaxStubs];
    const auto code_address = static_cast<uint32_t>(libc.code.data() - libc.base);
    plan->sites = {scanned, ScanForSites(libc.code, code_address, scanned, kMaxStubs)};
  }
  if (plan->sites.size() > kMaxStubs) return "libc has too many system calls";
  if (plan->sites.empty()) return "libc makes no system calls that are known";
  for (const CallSite& site : plan->sites) {
    if (!IsUntouched(site, libc.base)) return "somebody else has rewritten libc";
  }
  return nullptr;
}

// What is written to stays executable all the time: a system that forbids that says so at once,
// rather than when it is to become executable again.
bool MakeWritable(std::span<uint8_t> code) {
  return RawSyscall(SYS_mprotect, code.data(), code.size(), PROT_READ | PROT_WRITE | PROT_EXEC) ==
         0;
}

void MakeReadOnly(std::span<uint8_t> code) {
  RawSyscall(SYS_mprotect, code.data(), code.size(), PROT_READ | PROT_EXEC);
}

const char* Rewrite(const Plan& plan) {
  const std::span<uint8_t> stubs(rumphijack_stubs, plan.sites.size() * kStubSize);
  if (!InReach(plan.libc)) return "libc is too far away";
  if (!MakeWritable(stubs)) return "new code is forbidden here";
  if (!MakeWritable(plan.libc.code)) return "libc may not be changed here";
  uint8_t* stub = stubs.data();
  for (const CallSite& site : plan.sites) {
    WriteStub(site, plan.libc.base, stub);
    WriteJumps(site, plan.libc.base, stub);
    stub += kStubSize;
  }
  MakeReadOnly(plan.libc.code);
  MakeReadOnly(stubs);
  return nullptr;
}

}  // namespace

Rewriting RewriteLibc() {
  Rewriting result;
  Plan plan;
  result.failure = FindSites(&plan, &result);
  if (result.failure == nullptr) result.failure = Rewrite(plan);
  return result;
}

}  // namespace rump::hijack
