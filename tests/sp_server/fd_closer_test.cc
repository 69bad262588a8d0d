#include "sp_server/loop/fd_closer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "sp_server/loop/pass_fds.h"
#include "tests/sp_server/lingering_socket.h"

namespace rump {
namespace {

void AwaitNonePending(const FdCloser& closer) {
  while (closer.pending() > 0) std::this_thread::yield();
}

// Puts `fd` into the queue of a stream, whose end it returns, and nowhere else.
UniqueFd StreamWith(UniqueFd fd) {
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd sender(ends[1]);
  const int number = fd.get();
  const std::byte byte{'x'};
  EXPECT_EQ(SendWithFds(sender.get(), std::span(&byte, 1), std::span(&number, 1), 0), 1);
  // Not at the end of the caller's expression: by then this could be the last one.
  fd.reset();
  return UniqueFd(ends[0]);
}

TEST(FdCloser, ClosesInItsOwnTime) {
  FdCloser closer;
  LingeringSocket socket;
  closer.Close(std::move(socket.fd));
  EXPECT_EQ(closer.pending(), 1U);
  UniqueFd next(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = next.get();
  closer.Close(std::move(next));
  EXPECT_EQ(closer.pending(), 2U);
  EXPECT_EQ(fcntl(number, F_GETFD), FD_CLOEXEC);
  socket.Drain();
  AwaitNonePending(closer);
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

TEST(FdCloser, NothingIsNoWork) {
  FdCloser closer;
  closer.Close(UniqueFd());
  closer.CloseStream(UniqueFd());
  EXPECT_EQ(closer.pending(), 0U);
}

TEST(FdCloser, IsFullAtItsLimit) {
  FdCloser closer;
  LingeringSocket socket;
  closer.Close(std::move(socket.fd));
  for (size_t i = 1; i < FdCloser::kMaxPending; ++i) {
    EXPECT_FALSE(closer.full());
    // Closing one that is not open fails, and that is all that it does.
    closer.Close(UniqueFd(1 << 30));
  }
  EXPECT_TRUE(closer.full());
  socket.Drain();
  AwaitNonePending(closer);
  EXPECT_FALSE(closer.full());
}

TEST(FdCloser, StreamTakesItsUnreadDescriptorsAlong) {
  FdCloser closer;
  LingeringSocket socket;
  closer.CloseStream(StreamWith(std::move(socket.fd)));
  EXPECT_EQ(closer.pending(), 1U);
  socket.Drain();
  AwaitNonePending(closer);
}

TEST(FdCloser, StreamWithoutForeignBytesIsClosedAtOnce) {
  FdCloser closer;
  UniqueFd stream = StreamWith(UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)));
  const int number = stream.get();
  closer.CloseStream(std::move(stream), /*own=*/1);
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
  EXPECT_EQ(closer.pending(), 0U);
}

TEST(FdCloser, EndDoesNotWaitForWhatBlocks) {
  LingeringSocket socket;
  {
    FdCloser closer;
    closer.Close(std::move(socket.fd));
  }
  socket.Drain();
}

}  // namespace
}  // namespace rump
