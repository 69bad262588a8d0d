#include "hijack/retry_policy.h"

#include <gtest/gtest.h>

namespace rump {
namespace {

using Kind = RetryPolicy::Kind;

RetryPolicy Parse(std::string_view text) {
  RetryPolicy policy;
  EXPECT_TRUE(ParseRetryPolicy(text, &policy)) << text;
  return policy;
}

TEST(RetryPolicyTest, EachValue) {
  EXPECT_TRUE(Parse("").never());
  EXPECT_TRUE(Parse("0").never());
  EXPECT_EQ(Parse("die").kind, Kind::kDie);
  EXPECT_EQ(Parse("once").kind, Kind::kOnce);
  EXPECT_EQ(Parse("inftime").kind, Kind::kForever);
  EXPECT_EQ(Parse("30").kind, Kind::kSeconds);
  EXPECT_EQ(Parse("30").seconds, 30u);
  for (const std::string_view text : {"die", "once", "inftime", "1"}) {
    EXPECT_FALSE(Parse(text).never()) << text;
  }
}

TEST(RetryPolicyTest, OtherValues) {
  for (const std::string_view text : {"Die", "once ", " 1", "-1", "1s", "0x1", "infinite", "1.5",
                                      "1000000001", "18446744073709551617"}) {
    RetryPolicy policy;
    EXPECT_FALSE(ParseRetryPolicy(text, &policy)) << text;
  }
}

}  // namespace
}  // namespace rump
