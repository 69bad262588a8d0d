#include "rumpclient/core/send_lock.h"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace rump::client {
namespace {

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span<const char>(text));
}

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(SendLockTest, FramesAreLeftToWhoSends) {
  SendLock lock;
  EXPECT_FALSE(lock.Leave(Bytes("nobody sends")));
  lock.Lock();
  EXPECT_FALSE(lock.Leave(Bytes("it is held for something else")));
  lock.Open();
  EXPECT_TRUE(lock.Leave(Bytes("one ")));
  EXPECT_TRUE(lock.Leave(Bytes("two")));
  const auto left = lock.Finish(/*last=*/false);
  EXPECT_TRUE(lock.Leave(Bytes("while these are sent")));
  EXPECT_EQ("one two", Text(left));
  EXPECT_FALSE(lock.TryLock());
  EXPECT_EQ("while these are sent", Text(lock.Finish(/*last=*/true)));
  EXPECT_FALSE(lock.Leave(Bytes("there is an end")));
  EXPECT_TRUE(lock.Finish(/*last=*/true).empty());
  EXPECT_TRUE(lock.TryLock()) << "it is unlocked";
  EXPECT_FALSE(lock.Leave(Bytes("nobody sends")));
}

TEST(SendLockTest, RoomIsBounded) {
  SendLock lock;
  lock.Lock();
  lock.Open();
  const std::string frame(100, 'f');
  size_t left = 0;
  while (left < 1000 && lock.Leave(Bytes(frame))) ++left;
  EXPECT_GT(left, 1u);
  EXPECT_LT(left, 100u);
  EXPECT_EQ(left * frame.size(), lock.Finish(false).size());
  EXPECT_TRUE(lock.Finish(false).empty());
}

TEST(SendLockTest, ResetForgetsWhatWasLeft) {
  SendLock lock;
  lock.Lock();
  lock.Open();
  EXPECT_TRUE(lock.Leave(Bytes("a parent's")));
  lock.Expect();
  lock.Reset();
  EXPECT_FALSE(lock.expects());
  ASSERT_TRUE(lock.TryLock());
  EXPECT_TRUE(lock.Open().empty());
  EXPECT_TRUE(lock.Finish(false).empty());
}

TEST(SendLockTest, TheLastOfThoseExpectedSends) {
  SendLock lock;
  EXPECT_FALSE(lock.expects());
  lock.Expect();
  lock.Expect();
  EXPECT_TRUE(lock.expects());
  EXPECT_TRUE(lock.Leave(Bytes("one ")));
  EXPECT_FALSE(lock.Arrive()) << "another one is to come";
  EXPECT_TRUE(lock.Leave(Bytes("two")));
  EXPECT_TRUE(lock.Arrive());
  EXPECT_FALSE(lock.Leave(Bytes("nobody comes any more")));
  ASSERT_TRUE(lock.TryLock());
  EXPECT_EQ("one two", Text(lock.Open()));
  EXPECT_TRUE(lock.Finish(false).empty());
}

TEST(SendLockTest, WhoArrivesWhereNothingIsLeftSendsNothing) {
  SendLock lock;
  lock.Expect();
  EXPECT_FALSE(lock.Arrive());
  EXPECT_FALSE(lock.Arrive()) << "nor one that nobody expected";
  EXPECT_FALSE(lock.expects());
}

// A frame must not get before one that the same thread has left.
TEST(SendLockTest, WhoSendsByItselfSendsWhatIsLeftFirst) {
  SendLock lock;
  lock.Expect();
  EXPECT_TRUE(lock.Leave(Bytes("left")));
  ASSERT_TRUE(lock.TryLock());
  EXPECT_EQ("left", Text(lock.Open()));
  EXPECT_TRUE(lock.Leave(Bytes("meanwhile")));
  EXPECT_TRUE(lock.Finish(false).empty()) << "one who sends it is expected";
  EXPECT_TRUE(lock.Arrive());
  ASSERT_TRUE(lock.TryLock());
  EXPECT_EQ("meanwhile", Text(lock.Open()));
  EXPECT_TRUE(lock.Finish(false).empty());
}

TEST(SendLockTest, WhoSendsTakesOverFromThoseExpected) {
  SendLock lock;
  lock.Expect();
  ASSERT_TRUE(lock.TryLock());
  EXPECT_TRUE(lock.Open().empty());
  EXPECT_TRUE(lock.Leave(Bytes("left")));
  EXPECT_FALSE(lock.Arrive()) << "one that sends has still to look";
  EXPECT_EQ("left", Text(lock.Finish(false)));
  EXPECT_TRUE(lock.Finish(false).empty());
}

TEST(SendLockTest, ExpectingCanBeGivenUp) {
  SendLock lock;
  lock.Expect();
  EXPECT_TRUE(lock.Leave(Bytes("left")));
  EXPECT_TRUE(lock.ExpectNobody());
  EXPECT_FALSE(lock.Leave(Bytes("nobody sends")));
  ASSERT_TRUE(lock.TryLock());
  EXPECT_EQ("left", Text(lock.Open()));
  EXPECT_FALSE(lock.ExpectNobody()) << "the holder looks";
  EXPECT_TRUE(lock.Finish(false).empty());
  EXPECT_FALSE(lock.Arrive()) << "late";
}

// Every frame is sent once, whole, and by one thread at a time, whether threads are expected, come
// late or are given up.
TEST(SendLockTest, ManyThreads) {
  constexpr int kThreads = 8;
  constexpr int kFrames = 2000;
  SendLock lock;
  std::string stream;  // under the lock
  const auto send = [&](std::string_view frame) {
    stream += Text(lock.Open());
    stream += frame;
    for (int rounds = 0;; ++rounds) {
      const auto left = lock.Finish(rounds == 4);
      if (left.empty()) return;
      stream += Text(left);
    }
  };
  const auto send_left = [&] {
    lock.Lock();
    send("");
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i, frame = std::string(1 + i, static_cast<char>('a' + i))] {
      for (int n = 0; n < kFrames; ++n) {
        const bool comes = n % (i + 2) == 0;
        if (comes) lock.Expect();
        if (!(lock.expects() && lock.Leave(Bytes(frame)))) {
          if (lock.TryLock()) {
            send(frame);
          } else if (!lock.Leave(Bytes(frame))) {
            lock.Lock();
            send(frame);
          }
        }
        if (comes && lock.Arrive()) send_left();
        if (n % 100 == 0 && lock.ExpectNobody()) send_left();
      }
      // As a thread does that waits for its answer in vain.
      if (lock.ExpectNobody()) send_left();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kThreads; ++i) {
    EXPECT_EQ(kFrames * (1 + i), std::ranges::count(stream, static_cast<char>('a' + i))) << i;
  }
}

}  // namespace
}  // namespace rump::client
