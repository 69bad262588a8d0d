#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protocol/banner.h"
#include "protocol/frame.h"
#include "tests/protocol/wire_recording.h"

namespace rump {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span<const char>(text));
}

// What is wrong with the frames of the recordings that were made to provoke a server. Recordings
// that are not named here are of sound frames only, even if the server refused what they ask for.
const std::map<std::string, FrameError>& BrokenRecordings() {
  static const std::map<std::string, FrameError> broken = {
      {"err_badclass", FrameError::kUnknownClass},
      {"err_nohs_badclass", FrameError::kUnknownClass},
      {"err_badtype", FrameError::kUnknownType},
      {"err_hugelen", FrameError::kTooLong},
      {"err_shortlen", FrameError::kTooShort},
      {"err_nohs_emptyguest", FrameError::kUnterminated},
      {"err_nohs_shortfork", FrameError::kBadPayload},
  };
  return broken;
}

// Decodes the frames in `bytes`, demands of each that it encodes to the same bytes again, and
// returns the errors of those that do not decode.
std::vector<FrameError> CheckFrames(std::string_view bytes) {
  std::vector<FrameError> errors;
  while (!bytes.empty()) {
    FrameHeader header;
    const FrameError framing = DecodeHeader(BytesOf(bytes), kMaxFrame, &header);
    if (framing != FrameError::kNone) {
      errors.push_back(framing);
      break;
    }
    if (header.len > bytes.size()) {
      errors.push_back(FrameError::kIncomplete);
      break;
    }
    const auto frame = BytesOf(bytes.substr(0, header.len));
    bytes.remove_prefix(header.len);
    Message message;
    const FrameError error = DecodeMessage(header, frame.subspan(kHeaderSize), &message);
    if (error != FrameError::kNone) {
      errors.push_back(error);
      continue;
    }
    std::vector<std::byte> again(frame.size());
    EXPECT_EQ(EncodeMessage(header, message, again), frame.size());
    EXPECT_TRUE(std::ranges::equal(again, frame)) << "reqno " << header.reqno;
  }
  return errors;
}

class TranscriptsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string error;
    auto events = ReadWireRecording(GetParam(), &error);
    ASSERT_TRUE(events.has_value()) << error;
    events_ = std::move(*events);
    for (const WireEvent& event : events_) {
      connections_ = std::max(connections_, event.connection);
    }
    ASSERT_GT(connections_, 0);
  }

  std::vector<WireEvent> events_;
  int connections_ = 0;
};

TEST_P(TranscriptsTest, EveryConnectionStartsWithTheServersBanner) {
  for (int connection = 1; connection <= connections_; ++connection) {
    const std::string sent = BytesSent(events_, connection, WireSide::kServer);
    Banner banner;
    size_t consumed = 0;
    ASSERT_EQ(ParseBanner(sent, &banner, &consumed), BannerError::kNone);
    EXPECT_EQ(banner.ostype, "NetBSD");
    EXPECT_EQ(banner.osrelease, "7.99.34");
    EXPECT_EQ(banner.machine, "amd64");
    EXPECT_EQ(banner.extensions, 0u);
    char again[kMaxBanner];
    ASSERT_EQ(FormatBanner(banner, again), consumed);
    EXPECT_EQ(std::string_view(again, consumed), sent.substr(0, consumed));
  }
}

TEST_P(TranscriptsTest, FramesOfTheServerRoundTrip) {
  for (int connection = 1; connection <= connections_; ++connection) {
    const std::string sent = BytesSent(events_, connection, WireSide::kServer);
    Banner banner;
    size_t consumed = 0;
    ASSERT_EQ(ParseBanner(sent, &banner, &consumed), BannerError::kNone);
    EXPECT_THAT(CheckFrames(std::string_view(sent).substr(consumed)), IsEmpty());
  }
}

TEST_P(TranscriptsTest, FramesOfTheClientRoundTripOrAreBrokenAsIntended) {
  const auto broken = BrokenRecordings().find(std::filesystem::path(GetParam()).stem());
  for (int connection = 1; connection <= connections_; ++connection) {
    const std::string sent = BytesSent(events_, connection, WireSide::kClient);
    ASSERT_FALSE(sent.empty());
    const std::vector<FrameError> errors = CheckFrames(sent);
    if (broken == BrokenRecordings().end()) {
      EXPECT_THAT(errors, IsEmpty());
    } else {
      EXPECT_THAT(errors, ElementsAre(broken->second));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TranscriptsTest, ::testing::ValuesIn(ListWireRecordings()),
                         [](const auto& info) {
                           return std::filesystem::path(info.param).stem().string();
                         });

TEST(TranscriptsSetTest, IsComplete) {
  const std::vector<std::string> paths = ListWireRecordings();
  EXPECT_EQ(paths.size(), 27u);
  for (const auto& [name, error] : BrokenRecordings()) {
    EXPECT_TRUE(std::filesystem::exists("tests/protocol/transcripts/" + name + ".wire")) << name;
  }
}

TEST(WireRecordingTest, ReadsEveryKindOfEvent) {
  std::string error;
  const auto events = ParseWireRecording(
      "# a comment\n"
      "1 open\n"
      "2 server> 00ff\n"
      "1 client> 6162 +3\n"
      "1 client-close\n"
      "1 server-close\n",
      &error);
  ASSERT_TRUE(events.has_value()) << error;
  ASSERT_EQ(events->size(), 5u);
  EXPECT_EQ((*events)[0].kind, WireEvent::Kind::kOpen);
  EXPECT_EQ((*events)[0].connection, 1);
  EXPECT_EQ((*events)[0].line, 2);
  EXPECT_EQ((*events)[1].kind, WireEvent::Kind::kBytes);
  EXPECT_EQ((*events)[1].connection, 2);
  EXPECT_EQ((*events)[1].side, WireSide::kServer);
  EXPECT_EQ((*events)[1].bytes, std::string("\0\xff", 2));
  EXPECT_EQ((*events)[2].side, WireSide::kClient);
  EXPECT_EQ((*events)[2].bytes, "abAAA");
  EXPECT_EQ((*events)[3].kind, WireEvent::Kind::kClose);
  EXPECT_EQ((*events)[3].side, WireSide::kClient);
  EXPECT_EQ((*events)[4].kind, WireEvent::Kind::kClose);
  EXPECT_EQ((*events)[4].side, WireSide::kServer);
  EXPECT_EQ(BytesSent(*events, 1, WireSide::kClient), "abAAA");
  EXPECT_EQ(BytesSent(*events, 1, WireSide::kServer), "");
}

TEST(WireRecordingTest, NamesTheLineThatItCannotRead) {
  for (const std::string line : {"x open", "1 opened", "1 router> 00", "1 client>00", "1 client> ",
                                 "1 client> 0", "1 client> 0g", "1 client> 00 3", "1 client> 00 +",
                                 "1 client> 00 +99999999", "1 client-closed"}) {
    std::string error;
    EXPECT_FALSE(ParseWireRecording("1 open\n" + line + "\n", &error).has_value()) << line;
    EXPECT_EQ(error, "line 2: " + line);
  }
  std::string error;
  EXPECT_FALSE(ReadWireRecording("no/such.wire", &error).has_value());
  EXPECT_EQ(error, "no/such.wire: cannot be opened");
}

}  // namespace
}  // namespace rump
