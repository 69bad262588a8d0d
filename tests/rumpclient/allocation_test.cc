// No call allocates: malloc and its kin are counted here.
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/rumpclient/test_server.h"

namespace {

constinit std::atomic<size_t> allocations{0};

}  // namespace

// A sanitizer has its own, and nothing is counted.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS 0
#else
#define COUNTS 1
// Over glibc's own, whose other names these are.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
// NOLINTEND(bugprone-reserved-identifier)

void* malloc(size_t size) {
  allocations.fetch_add(1);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  allocations.fetch_add(1);
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  allocations.fetch_add(1);
  return __libc_realloc(memory, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  allocations.fetch_add(1);
  return __libc_memalign(alignment, size);
}
}
#endif

namespace rump::client {
namespace {

TEST(AllocationTest, CallsMakeNone) {
  TestServer server;
  RunProgram(server, [] {
    RumpPipe pipe;
    RumpPipe back;
    static char buffer[100'000];
    std::atomic<bool> stop{false};
    std::thread blocked([&] {
      while (!stop) {
        char c;
        if (rump_sys_read(pipe.reader, &c, 1) != 1) break;
        if (rump_sys_write(back.writer, &c, 1) != 1) break;
      }
    });
    AwaitCallsInFlight(1);
    const size_t before = allocations;
    free(malloc(1));
    EXPECT_EQ(before + COUNTS, allocations) << "they are counted";
    for (int i = 0; i < 100; ++i) {
      rump_sys_getpid();
      rump_sys_write(pipe.writer, "x", 1);
      rump_sys_read(back.reader, buffer, 1);
      rump_sys_close(-1);
      rump_sys_write(back.writer, buffer, 50'000);
      rump_sys_read(back.reader, buffer, sizeof buffer);
      // One that takes long.
      uint64_t pause[2] = {0, 2'000'000};
      const uint64_t args[2] = {reinterpret_cast<uint64_t>(pause), 0};
      long retval[2];
      if (i < 5) rumpclient_syscall(SYS_nanosleep, args, sizeof args, retval);
    }
    EXPECT_EQ(before + COUNTS, allocations);
    stop = true;
    rump_sys_write(pipe.writer, "x", 1);
    blocked.join();
  });
}

}  // namespace
}  // namespace rump::client
