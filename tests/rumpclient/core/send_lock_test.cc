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
  lock.Reset();
  ASSERT_TRUE(lock.TryLock());
  lock.Open();
  EXPECT_TRUE(lock.Finish(false).empty());
}

// Every frame is sent once, whole, and by one thread at a time.
TEST(SendLockTest, ManyThreads) {
  constexpr int kThreads = 8;
  constexpr int kFrames = 2000;
  SendLock lock;
  std::string stream;  // under the lock
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, frame = std::string(1 + i, static_cast<char>('a' + i))] {
      for (int n = 0; n < kFrames; ++n) {
        if (!lock.TryLock()) {
          if (lock.Leave(Bytes(frame))) continue;
          lock.Lock();
        }
        lock.Open();
        stream += frame;
        for (int rounds = 0;; ++rounds) {
          const auto left = lock.Finish(rounds == 4);
          if (left.empty()) break;
          stream += Text(left);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kThreads; ++i) {
    EXPECT_EQ(kFrames * (1 + i), std::ranges::count(stream, static_cast<char>('a' + i))) << i;
  }
}

}  // namespace
}  // namespace rump::client
