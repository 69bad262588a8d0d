// pthread_cancel(3) of a thread that waits in a call that libc makes by itself.
#include <pthread.h>
#include <stdio.h>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// What fgets(3) holds is given back when the thread is unwound, through whatever is in between.
TEST(StdioCancellation, GivesTheStreamBack) {
  auto [fd, peer] = UdpPair();
  FILE* const stream = fdopen(fd.release(), "r");
  pthread_t thread{};
  const auto read_line = [](void* stream) -> void* {
    char line[16];
    return fgets(line, sizeof line, static_cast<FILE*>(stream));
  };
  ASSERT_EQ(pthread_create(&thread, nullptr, read_line, stream), 0);
  // Until the thread has the stream.
  while (ftrylockfile(stream) == 0) {
    funlockfile(stream);
    sched_yield();
  }
  pthread_cancel(thread);
  void* result = nullptr;
  ASSERT_EQ(pthread_join(thread, &result), 0);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  ASSERT_EQ(send(peer.get(), "a\n", 2, 0), 2);
  char line[16] = "";
  EXPECT_STREQ(fgets(line, sizeof line, stream), "a\n");
  fclose(stream);
}

}  // namespace
}  // namespace rump
