#include "hijack/process_page.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "rumpclient/core/raw_syscall.h"

namespace rump::hijack {
namespace {

using client::RawSyscall;

// Stands in until MapProcessPage; nothing connects before.
constinit ProcessPage early_page{};
constinit ProcessPage* page = &early_page;

}  // namespace

bool MapProcessPage() {
  constexpr size_t kSize = 4096;
  static_assert(sizeof(ProcessPage) <= kSize);
  const long addr = RawSyscall(SYS_mmap, nullptr, kSize, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (addr < 0 && addr > -4096) return false;
  if (RawSyscall(SYS_madvise, addr, kSize, MADV_WIPEONFORK) < 0) {
    RawSyscall(SYS_munmap, addr, kSize);
    return false;
  }
  page = reinterpret_cast<ProcessPage*>(addr);
  // Now, while it cannot be a child on this memory that asks first.
  OwnMemory();
  return true;
}

ProcessPage& process_page() { return *page; }

bool OwnMemory() {
  const int pid = static_cast<int>(RawSyscall(SYS_getpid));
  int owner = 0;
  return page->owner.compare_exchange_strong(owner, pid, std::memory_order_relaxed) || owner == pid;
}

}  // namespace rump::hijack
