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

// More than a libc has.
constexpr size_t kMaxScanned = 256;
// How far a stub may be from the code that jumps to it, with room for both.
constexpr int64_t kReach = (int64_t{1} << 31) - (int64_t{1} << 26);

// What is ready to be put in place.
struct Plan {
  LoadedLibc libc;
  std::span<const CallSite> sites;
  uint8_t* stubs = nullptr;  // kMaxStubSize for each site
  size_t stubs_size = 0;
};

bool IsFailure(long address) { return address < 0 && address > -4096; }

long Map(uint8_t* wanted, size_t size, int flags) {
  return RawSyscall(SYS_mmap, wanted, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

bool InReach(const LoadedLibc& libc, long address) {
  const int64_t distance = address - reinterpret_cast<int64_t>(libc.base);
  return distance < kReach && distance > -kReach;
}

// Memory near libc; nullptr if there is none.
uint8_t* MapNear(const LoadedLibc& libc, size_t size) {
  // Where the kernel likes it best is near the other libraries.
  long address = Map(nullptr, size, 0);
  if (!IsFailure(address)) {
    if (InReach(libc, address)) return reinterpret_cast<uint8_t*>(address);
    RawSyscall(SYS_munmap, address, size);
  }
  constexpr int64_t kStep = int64_t{1} << 26;
  for (int64_t distance = kStep; distance < kReach; distance += kStep) {
    address = Map(libc.base - distance, size, MAP_FIXED_NOREPLACE);
    if (!IsFailure(address) && InReach(libc, address)) return reinterpret_cast<uint8_t*>(address);
    // A kernel that does not know the flag takes the address for a wish.
    if (!IsFailure(address)) RawSyscall(SYS_munmap, address, size);
  }
  return nullptr;
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
    static CallSite scanned[kMaxScanned];
    const auto code_address = static_cast<uint32_t>(libc.code.data() - libc.base);
    plan->sites = {scanned, ScanForSites(libc.code, code_address, scanned, kMaxScanned)};
  }
  if (plan->sites.empty()) return "libc makes no system calls that are known";
  for (const CallSite& site : plan->sites) {
    if (!IsUntouched(site, libc.base)) return "somebody else has rewritten libc";
  }
  return nullptr;
}

const char* WriteStubs(Plan* plan) {
  plan->stubs_size = plan->sites.size() * kMaxStubSize;
  plan->stubs = MapNear(plan->libc, plan->stubs_size);
  if (plan->stubs == nullptr) return "there is no room near libc";
  uint8_t* stub = plan->stubs;
  for (const CallSite& site : plan->sites) {
    WriteStub(site, plan->libc.base, stub);
    stub += kMaxStubSize;
  }
  if (RawSyscall(SYS_mprotect, plan->stubs, plan->stubs_size, PROT_READ | PROT_EXEC) != 0) {
    return "new code is forbidden here";
  }
  return nullptr;
}

// The code stays executable all the time: a system that forbids to rewrite it says so at once,
// rather than when it is to become executable again.
const char* WriteAllJumps(const Plan& plan) {
  const std::span<uint8_t> code = plan.libc.code;
  if (RawSyscall(SYS_mprotect, code.data(), code.size(), PROT_READ | PROT_WRITE | PROT_EXEC) != 0) {
    return "libc may not be changed here";
  }
  const uint8_t* stub = plan.stubs;
  for (const CallSite& site : plan.sites) {
    WriteJumps(site, plan.libc.base, stub);
    stub += kMaxStubSize;
  }
  RawSyscall(SYS_mprotect, code.data(), code.size(), PROT_READ | PROT_EXEC);
  return nullptr;
}

}  // namespace

Rewriting RewriteLibc() {
  Rewriting result;
  Plan plan;
  result.failure = FindSites(&plan, &result);
  if (result.failure == nullptr) result.failure = WriteStubs(&plan);
  if (result.failure == nullptr) result.failure = WriteAllJumps(plan);
  if (result.failure != nullptr && plan.stubs != nullptr) {
    RawSyscall(SYS_munmap, plan.stubs, plan.stubs_size);
  }
  if (result.failure == nullptr) result.sites = plan.sites.size();
  return result;
}

}  // namespace rump::hijack
