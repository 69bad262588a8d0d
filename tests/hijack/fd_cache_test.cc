#include "hijack/fd_cache.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>

namespace rump::hijack {
namespace {

class FdCacheTest : public ::testing::Test {
 protected:
  // The table is too big for a stack.
  std::unique_ptr<FdCache> owned_ = std::make_unique<FdCache>();
  FdCache& cache_ = *owned_;
};

TEST_F(FdCacheTest, KnowsNothingAtFirst) {
  EXPECT_EQ(cache_.highest(), -1);
  for (const int fd : {-1, 0, 1, FdCache::kSlots - 1, FdCache::kSlots}) {
    EXPECT_EQ(cache_.Get(fd), FdKind::kUnknown) << fd;
    EXPECT_FALSE(cache_.IsHost(fd)) << fd;
    EXPECT_FALSE(cache_.BytesPass(fd)) << fd;
  }
}

TEST_F(FdCacheTest, BytesPassForHostAndConnectedOnly) {
  cache_.Set(3, FdKind::kHost);
  cache_.Set(4, FdKind::kConnected);
  cache_.Set(5, FdKind::kFresh);
  cache_.Set(6, FdKind::kListener);
  cache_.Set(7, FdKind::kDatagram);
  EXPECT_TRUE(cache_.BytesPass(3));
  EXPECT_TRUE(cache_.BytesPass(4));
  for (const int fd : {5, 6, 7}) EXPECT_FALSE(cache_.BytesPass(fd)) << fd;
  EXPECT_TRUE(cache_.IsHost(3));
  for (const int fd : {4, 5, 6, 7}) EXPECT_FALSE(cache_.IsHost(fd)) << fd;
  EXPECT_EQ(cache_.Get(6), FdKind::kListener);
}

TEST_F(FdCacheTest, ForgetsOneNumber) {
  cache_.Set(3, FdKind::kHost);
  cache_.Set(4, FdKind::kHost);
  cache_.Forget(3);
  EXPECT_EQ(cache_.Get(3), FdKind::kUnknown);
  EXPECT_TRUE(cache_.IsHost(4));
}

TEST_F(FdCacheTest, LearnsWithAFreshStamp) {
  cache_.Learn(3, cache_.Stamp(3), FdKind::kDatagram);
  EXPECT_EQ(cache_.Get(3), FdKind::kDatagram);
  EXPECT_EQ(cache_.highest(), 3);
}

TEST_F(FdCacheTest, AnAnswerAboutAFormerLifeIsNotBelieved) {
  cache_.Set(3, FdKind::kHost);
  cache_.Forget(3);
  const uint8_t before_close = cache_.Stamp(3);
  cache_.Forget(3);
  cache_.Learn(3, before_close, FdKind::kHost);
  EXPECT_EQ(cache_.Get(3), FdKind::kUnknown);

  const uint8_t before_socket = cache_.Stamp(3);
  cache_.Set(3, FdKind::kFresh);
  cache_.Learn(3, before_socket, FdKind::kHost);
  EXPECT_EQ(cache_.Get(3), FdKind::kFresh);
}

TEST_F(FdCacheTest, ForgettingManyTimesKeepsTheKind) {
  for (int life = 0; life < 100; ++life) {
    cache_.Set(3, FdKind::kListener);
    ASSERT_EQ(cache_.Get(3), FdKind::kListener) << life;
    cache_.Forget(3);
    ASSERT_EQ(cache_.Get(3), FdKind::kUnknown) << life;
  }
}

TEST_F(FdCacheTest, ForgetsRangesUpToTheLargestNumber) {
  cache_.Set(2, FdKind::kHost);
  cache_.Set(3, FdKind::kHost);
  cache_.Set(1000, FdKind::kFresh);
  cache_.Set(FdCache::kSlots - 1, FdKind::kFresh);
  cache_.ForgetRange(3, std::numeric_limits<unsigned>::max());
  EXPECT_TRUE(cache_.IsHost(2));
  for (const int fd : {3, 1000, FdCache::kSlots - 1}) {
    EXPECT_EQ(cache_.Get(fd), FdKind::kUnknown) << fd;
  }
}

TEST_F(FdCacheTest, NumbersOutsideTheTableStayUnknown) {
  for (const int fd : {-1, FdCache::kSlots, std::numeric_limits<int>::max()}) {
    cache_.Set(fd, FdKind::kHost);
    cache_.Learn(fd, cache_.Stamp(fd), FdKind::kHost);
    cache_.Forget(fd);
    EXPECT_EQ(cache_.Get(fd), FdKind::kUnknown) << fd;
  }
  EXPECT_EQ(cache_.highest(), -1);
}

}  // namespace
}  // namespace rump::hijack
