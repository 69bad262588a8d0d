#include "protocol/frame.h"

#include <errno.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace rump {
namespace {

using Bytes = std::vector<std::byte>;

Bytes ToBytes(std::string_view text) {
  const auto view = std::as_bytes(std::span<const char>(text));
  return {view.begin(), view.end()};
}

Bytes FromHex(std::string_view hex) {
  Bytes bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

Bytes Encode(const FrameHeader& header, const Message& message) {
  Bytes out(EncodeMessage(header, message, {}));
  EXPECT_EQ(EncodeMessage(header, message, out), out.size());
  return out;
}

// The payload's verdict under a header of that class, type and u.
FrameError DecodePayload(FrameClass cls, FrameType type, uint32_t u, const Bytes& payload,
                         Message* message) {
  const FrameHeader header{
      .len = kHeaderSize + payload.size(), .reqno = 1, .cls = cls, .type = type, .u = u};
  return DecodeMessage(header, payload, message);
}
FrameError DecodePayload(FrameClass cls, FrameType type, uint32_t u, const Bytes& payload) {
  Message message;
  return DecodePayload(cls, type, u, payload, &message);
}

// A frame of every kind, with its bytes written out.
struct Sample {
  const char* name;
  FrameClass cls;
  FrameType type;
  uint32_t u;
  Message message;
  const char* hex;
};

constexpr PreforkCookie kCookie{{0x12bc9e1b, 0x2c66367b, 0xa1351dbe, 0xd93bee45}};
constexpr char kData[] = "ab";
const std::span<const std::byte> kDataBytes = std::as_bytes(std::span<const char>(kData, 2));
const std::byte kArgs[16] = {std::byte{3}, {}, {}, {}, {}, {}, {}, {}, std::byte{4}};
// Two bytes at 16.
const Bytes kBlock = FromHex("020000000000000010000000000000006162");

const std::vector<Sample>& Samples() {
  using enum FrameClass;
  using enum FrameType;
  static const std::vector<Sample> samples = {
      {"Guest", kRequest, kHandshake, 0, GuestRequest{"sh"},
       "1b000000000000000700000000000000"
       "0000000000000000"
       "736800"},
      {"EmptyGuest", kRequest, kHandshake, 0, GuestRequest{""},
       "19000000000000000700000000000000"
       "0000000000000000"
       "00"},
      {"Auth", kRequest, kHandshake, 1, AuthRequest{kDataBytes},
       "1a000000000000000700000000000000"
       "0000000001000000"
       "6162"},
      {"Fork", kRequest, kHandshake, 2, ForkRequest{{kCookie, 1}},
       "2c000000000000000700000000000000"
       "0000000002000000"
       "1b9ebc127b36662cbe1d35a145ee3bd9"
       "01000000"},
      {"Exec", kRequest, kHandshake, 3, ExecRequest{"x"},
       "1a000000000000000700000000000000"
       "0000000003000000"
       "7800"},
      {"HandshakeResponse", kResponse, kHandshake, 0, HandshakeResponse{11},
       "1c000000000000000700000000000000"
       "0100000000000000"
       "0b000000"},
      {"Syscall", kRequest, kSyscall, 0x10002, SyscallRequest{kArgs},
       "28000000000000000700000000000000"
       "0000010002000100"
       "0300000000000000"
       "0400000000000000"},
      {"SyscallWithoutArguments", kRequest, kSyscall, 39, SyscallRequest{},
       "18000000000000000700000000000000"
       "0000010027000000"},
      {"SyscallResponse", kResponse, kSyscall, 0, SyscallResponse{{32, 0x7f1f, {1, 2}}},
       "30000000000000000700000000000000"
       "0100010000000000"
       "200000001f7f0000"
       "0100000000000000"
       "0200000000000000"},
      {"CopyIn", kRequest, kCopyIn, 0, CopyInRequest{{32, 0x7fff42b773f0}},
       "28000000000000000700000000000000"
       "0000020000000000"
       "2000000000000000"
       "f073b742ff7f0000"},
      {"CopyInStr", kRequest, kCopyInStr, 0, CopyInRequest{{1024, 16}},
       "28000000000000000700000000000000"
       "0000030000000000"
       "0004000000000000"
       "1000000000000000"},
      {"CopyInResponse", kResponse, kCopyIn, 0, CopyInResponse{kDataBytes},
       "1a000000000000000700000000000000"
       "0100020000000000"
       "6162"},
      {"CopyInStrResponse", kResponse, kCopyInStr, 0, CopyInResponse{},
       "18000000000000000700000000000000"
       "0100030000000000"},
      {"CopyOut", kRequest, kCopyOut, 0, CopyOutRequest{{2, 16}, kDataBytes},
       "2a000000000000000700000000000000"
       "0000040000000000"
       "0200000000000000"
       "1000000000000000"
       "6162"},
      {"CopyOutStr", kRequest, kCopyOutStr, 0, CopyOutRequest{{0, 16}, {}},
       "28000000000000000700000000000000"
       "0000050000000000"
       "0000000000000000"
       "1000000000000000"},
      {"AnonMmap", kRequest, kAnonMmap, 0, AnonMmapRequest{4096},
       "20000000000000000700000000000000"
       "0000060000000000"
       "0010000000000000"},
      {"AnonMmapResponse", kResponse, kAnonMmap, 0, AnonMmapResponse{0x1000},
       "20000000000000000700000000000000"
       "0100060000000000"
       "0010000000000000"},
      {"Prefork", kRequest, kPrefork, 0, PreforkRequest{},
       "18000000000000000700000000000000"
       "0000070000000000"},
      {"PreforkResponse", kResponse, kPrefork, 0, PreforkResponse{kCookie},
       "28000000000000000700000000000000"
       "0100070000000000"
       "1b9ebc127b36662cbe1d35a145ee3bd9"},
      {"Raise", kRequest, kRaise, 13, RaiseRequest{},
       "18000000000000000700000000000000"
       "000008000d000000"},
      {"Cancel", kRequest, kCancel, 0, CancelRequest{258},
       "20000000000000000700000000000000"
       "0000090000000000"
       "0201000000000000"},
      {"Inline", kRequest, kInline, 1, InlineRequest{kArgs, kBlock, 1, kDataBytes},
       "44000000000000000700000000000000"
       "00000a0001000000"
       "0300000000000000"
       "0400000000000000"
       "0200000000000000"
       "1000000000000000"
       "6162"
       "6162"
       "0200000001000000"},
      {"InlineWithoutAnything", kRequest, kInline, 39, InlineRequest{},
       "20000000000000000700000000000000"
       "00000a0027000000"
       "0000000000000000"},
      {"InlineResponse", kResponse, kInline, 0, InlineResponse{{0, 0, {2, 0}}, kBlock},
       "42000000000000000700000000000000"
       "01000a0000000000"
       "0000000000000000"
       "0200000000000000"
       "0000000000000000"
       "0200000000000000"
       "1000000000000000"
       "6162"},
      {"Error", kError, kHandshake, 7, ErrorResponse{},
       "18000000000000000700000000000000"
       "0200000007000000"},
  };
  return samples;
}

class FrameSampleTest : public ::testing::TestWithParam<Sample> {
 protected:
  FrameHeader header_{
      .len = 0, .reqno = 7, .cls = GetParam().cls, .type = GetParam().type, .u = GetParam().u};
  Bytes bytes_ = FromHex(GetParam().hex);
};

TEST_P(FrameSampleTest, Encodes) { EXPECT_EQ(Encode(header_, GetParam().message), bytes_); }

TEST_P(FrameSampleTest, DecodesToTheSameMessage) {
  FrameHeader header;
  ASSERT_EQ(DecodeHeader(bytes_, kMaxFrame, &header), FrameError::kNone);
  header_.len = bytes_.size();
  EXPECT_EQ(header, header_);
  Message message;
  ASSERT_EQ(DecodeMessage(header, std::span(bytes_).subspan(kHeaderSize), &message),
            FrameError::kNone);
  EXPECT_EQ(message.index(), GetParam().message.index());
  EXPECT_EQ(Encode(header, message), bytes_);
}

TEST_P(FrameSampleTest, IsIncompleteWhenCutAtAnyByte) {
  for (size_t size = 0; size < bytes_.size(); ++size) {
    const auto cut = std::span(bytes_).first(size);
    FrameHeader header;
    const FrameError framing = DecodeHeader(cut, kMaxFrame, &header);
    if (size < kHeaderSize) {
      EXPECT_EQ(framing, FrameError::kIncomplete) << size;
      continue;
    }
    ASSERT_EQ(framing, FrameError::kNone) << size;
    Message message;
    EXPECT_EQ(DecodeMessage(header, cut.subspan(kHeaderSize), &message), FrameError::kIncomplete)
        << size;
  }
}

TEST_P(FrameSampleTest, WritesNothingWithoutRoomForAll) {
  for (size_t size = 0; size < bytes_.size(); ++size) {
    Bytes out(size, std::byte{0xee});
    EXPECT_EQ(EncodeMessage(header_, GetParam().message, out), bytes_.size());
    EXPECT_EQ(out, Bytes(size, std::byte{0xee}));
  }
}

TEST_P(FrameSampleTest, PayloadLongerThanTheHeaderSaysIsRefused) {
  FrameHeader header;
  ASSERT_EQ(DecodeHeader(bytes_, kMaxFrame, &header), FrameError::kNone);
  bytes_.push_back(std::byte{0});
  Message message;
  EXPECT_EQ(DecodeMessage(header, std::span(bytes_).subspan(kHeaderSize), &message),
            FrameError::kBadPayload);
}

INSTANTIATE_TEST_SUITE_P(All, FrameSampleTest, ::testing::ValuesIn(Samples()),
                         [](const auto& info) { return info.param.name; });

TEST(FrameSampleSetTest, HasEveryAlternativeOfMessage) {
  std::set<size_t> seen;
  for (const Sample& sample : Samples()) seen.insert(sample.message.index());
  EXPECT_EQ(seen.size(), std::variant_size_v<Message>);
}

TEST(FrameTest, DecodedFieldsAreWhatTheBytesSay) {
  Message message;
  const Bytes exec = ToBytes({"exe\0", 4});
  ASSERT_EQ(DecodePayload(FrameClass::kRequest, FrameType::kHandshake, 3, exec, &message),
            FrameError::kNone);
  EXPECT_EQ(std::get<ExecRequest>(message).command, "exe");

  const Bytes response = FromHex("2f0000001f7f000005000000000000000600000000000000");
  ASSERT_EQ(DecodePayload(FrameClass::kResponse, FrameType::kSyscall, 0, response, &message),
            FrameError::kNone);
  const SyscallResultPayload& result = std::get<SyscallResponse>(message).result;
  EXPECT_EQ(result.error, 47);
  EXPECT_EQ(result.pad, 0x7f1fu);
  EXPECT_EQ(result.retval[0], 5u);
  EXPECT_EQ(result.retval[1], 6u);

  const Bytes copy = FromHex("020000000000000050d126b7ff7f00006364");
  ASSERT_EQ(DecodePayload(FrameClass::kRequest, FrameType::kCopyOut, 0, copy, &message),
            FrameError::kNone);
  const auto& copy_out = std::get<CopyOutRequest>(message);
  EXPECT_EQ(copy_out.range.len, 2u);
  EXPECT_EQ(copy_out.range.addr, 0x7fffb726d150u);
  EXPECT_EQ(Bytes(copy_out.data.begin(), copy_out.data.end()), ToBytes("cd"));

  const Bytes fork = FromHex("1b9ebc127b36662cbe1d35a145ee3bd9ffffffff");
  ASSERT_EQ(DecodePayload(FrameClass::kRequest, FrameType::kHandshake, 2, fork, &message),
            FrameError::kNone);
  EXPECT_EQ(std::get<ForkRequest>(message).fork.cookie, kCookie);
  EXPECT_EQ(std::get<ForkRequest>(message).fork.cancel, -1);
}

TEST(FrameTest, HeaderLengthIsCheckedAgainstBothLimits) {
  FrameHeader header{.len = 0, .reqno = 9};
  Bytes bytes(kHeaderSize);
  const auto decode = [&](uint64_t len, size_t max_len) {
    header.len = len;
    EncodeHeader(header, bytes.data());
    FrameHeader decoded;
    const FrameError error = DecodeHeader(bytes, max_len, &decoded);
    EXPECT_EQ(decoded, header);
    return error;
  };
  for (uint64_t len = 0; len < kHeaderSize; ++len) {
    EXPECT_EQ(decode(len, kMaxFrame), FrameError::kTooShort) << len;
  }
  EXPECT_EQ(decode(kHeaderSize, kMaxFrame), FrameError::kNone);
  EXPECT_EQ(decode(kMaxFrame, kMaxFrame), FrameError::kNone);
  EXPECT_EQ(decode(kMaxFrame + 1, kMaxFrame), FrameError::kTooLong);
  EXPECT_EQ(decode(101, 100), FrameError::kTooLong);
  EXPECT_EQ(decode(UINT64_MAX, kMaxFrame), FrameError::kTooLong);
}

TEST(FrameTest, MessageUnderAHeaderOfImpossibleLengthIsRefused) {
  Message message;
  EXPECT_EQ(DecodeMessage(FrameHeader{.len = 23}, {}, &message), FrameError::kTooShort);
  EXPECT_EQ(DecodeMessage(FrameHeader{.len = UINT64_MAX}, {}, &message), FrameError::kIncomplete);
}

TEST(FrameTest, ClassTypeAndHandshakeOutsideOfTheProtocol) {
  const auto cls = [](uint32_t n) { return static_cast<FrameClass>(n); };
  const auto type = [](uint32_t n) { return static_cast<FrameType>(n); };
  for (const uint32_t n : {3u, 9u, 0xffffu}) {
    EXPECT_EQ(DecodePayload(cls(n), FrameType::kSyscall, 0, {}), FrameError::kUnknownClass);
  }
  for (const uint32_t n : {11u, 77u, 0xffffu}) {
    for (const uint32_t c : {0u, 1u, 2u}) {
      EXPECT_EQ(DecodePayload(cls(c), type(n), 0, {}), FrameError::kUnknownType) << n << " " << c;
    }
  }
  for (const uint32_t u : {4u, 0xffffffffu}) {
    EXPECT_EQ(DecodePayload(FrameClass::kRequest, FrameType::kHandshake, u, ToBytes("a")),
              FrameError::kUnknownHandshake);
  }
}

TEST(FrameTest, ResponsesThatNobodySends) {
  for (const FrameType type :
       {FrameType::kCopyOut, FrameType::kCopyOutStr, FrameType::kRaise, FrameType::kCancel}) {
    EXPECT_EQ(DecodePayload(FrameClass::kResponse, type, 0, {}), FrameError::kUnknownType);
  }
}

TEST(FrameTest, PayloadsOfTheWrongSize) {
  struct Fixed {
    FrameClass cls;
    FrameType type;
    uint32_t u;
    size_t size;
  };
  using enum FrameClass;
  using enum FrameType;
  for (const Fixed& fixed : {Fixed{kRequest, kHandshake, 2, 20}, Fixed{kRequest, kCopyIn, 0, 16},
                             Fixed{kRequest, kCopyInStr, 0, 16}, Fixed{kRequest, kCopyOut, 0, 16},
                             Fixed{kRequest, kCopyOutStr, 0, 16}, Fixed{kRequest, kAnonMmap, 0, 8},
                             Fixed{kRequest, kPrefork, 0, 0}, Fixed{kRequest, kRaise, 0, 0},
                             Fixed{kRequest, kCancel, 0, 8}, Fixed{kResponse, kHandshake, 0, 4},
                             Fixed{kResponse, kSyscall, 0, 24}, Fixed{kResponse, kAnonMmap, 0, 8},
                             Fixed{kResponse, kPrefork, 0, 16}, Fixed{kError, kHandshake, 0, 0}}) {
    for (size_t size = 0; size < 40; ++size) {
      const FrameError wanted = size == fixed.size ? FrameError::kNone : FrameError::kBadPayload;
      EXPECT_EQ(DecodePayload(fixed.cls, fixed.type, fixed.u, Bytes(size)), wanted)
          << static_cast<int>(fixed.cls) << " " << static_cast<int>(fixed.type) << " " << size;
    }
  }
}

TEST(FrameTest, SyscallArgumentsAreWholeSlotsAndNotTooMany) {
  for (size_t size = 0; size <= 8 * (kMaxSyscallArgs + 1); ++size) {
    const bool good = size % 8 == 0 && size <= 8 * kMaxSyscallArgs;
    EXPECT_EQ(DecodePayload(FrameClass::kRequest, FrameType::kSyscall, 0, Bytes(size)),
              good ? FrameError::kNone : FrameError::kBadPayload)
        << size;
  }
}

TEST(FrameTest, CopyOutLengthMustBeThatOfTheData) {
  for (const uint64_t len : {uint64_t{0}, uint64_t{1}, uint64_t{3}, UINT64_MAX}) {
    Bytes payload(18);
    memcpy(payload.data(), &len, sizeof(len));
    EXPECT_EQ(DecodePayload(FrameClass::kRequest, FrameType::kCopyOut, 0, payload),
              FrameError::kBadPayload)
        << len;
  }
}

std::string Block(uint64_t len, uint64_t addr, size_t bytes) {
  const CopyPayload range{len, addr};
  return std::string(reinterpret_cast<const char*>(&range), sizeof range) + std::string(bytes, 'b');
}

FrameError DecodeInline(const std::string& body, InlineTrailer trailer) {
  return DecodePayload(
      FrameClass::kRequest, FrameType::kInline, 1,
      ToBytes(body + std::string(reinterpret_cast<const char*>(&trailer), sizeof trailer)));
}

FrameError DecodeInlineAnswer(const std::string& blocks) {
  return DecodePayload(FrameClass::kResponse, FrameType::kInline, 0,
                       ToBytes(std::string(sizeof(SyscallResultPayload), '\0') + blocks));
}

TEST(FrameTest, BlocksStayWithinTheFrame) {
  using enum FrameError;
  const std::string slots(16, 's');
  const std::string good = Block(3, 100, 3);
  EXPECT_EQ(DecodeInline(slots + good, {2, 1}), kNone);
  EXPECT_EQ(DecodeInline(slots + good + good, {2, 2}), kNone);
  EXPECT_EQ(DecodeInline(slots, {3, 0}), kBadPayload) << "fewer slots than it says";
  EXPECT_EQ(DecodeInline(slots, {UINT32_MAX, 0}), kBadPayload);
  EXPECT_EQ(DecodeInline(std::string(72, 's'), {9, 0}), kBadPayload) << "too many slots";
  EXPECT_EQ(DecodeInline(slots + good, {2, 2}), kBadPayload) << "fewer blocks than it says";
  EXPECT_EQ(DecodeInline(slots, {2, 1}), kBadPayload);
  EXPECT_EQ(DecodeInline(slots + good, {2, UINT32_MAX}), kBadPayload);
  EXPECT_EQ(DecodeInline(slots + Block(4, 100, 3), {2, 1}), kBadPayload) << "beyond the end";
  EXPECT_EQ(DecodeInline(slots + Block(UINT64_MAX, 0, 3), {2, 1}), kBadPayload);
  EXPECT_EQ(DecodeInline(slots + std::string(15, 'b'), {2, 1}), kBadPayload) << "half a head";
  EXPECT_EQ(DecodeInline(slots + Block(3, UINT64_MAX - 2, 3), {2, 1}), kBadPayload)
      << "beyond the last address";
  EXPECT_EQ(DecodeInline(slots + Block(3, UINT64_MAX - 3, 3), {2, 1}), kNone);
  EXPECT_EQ(DecodePayload(FrameClass::kRequest, FrameType::kInline, 1, Bytes(7)), kBadPayload);

  EXPECT_EQ(DecodeInlineAnswer(""), kNone);
  EXPECT_EQ(DecodeInlineAnswer(good + good), kNone);
  EXPECT_EQ(DecodeInlineAnswer(good + "x"), kBadPayload);
  EXPECT_EQ(DecodeInlineAnswer(Block(4, 100, 3)), kBadPayload);
  EXPECT_EQ(DecodeInlineAnswer(Block(3, UINT64_MAX, 3)), kBadPayload);
  EXPECT_EQ(DecodePayload(FrameClass::kResponse, FrameType::kInline, 0, Bytes(23)), kBadPayload);
}

TEST(FrameTest, BlocksAreFewAndShort) {
  std::string many;
  for (size_t i = 0; i < kMaxBlocks; ++i) many += Block(1, i, 1);
  EXPECT_EQ(DecodeInline(many, {0, kMaxBlocks}), FrameError::kNone);
  EXPECT_EQ(DecodeInlineAnswer(many), FrameError::kNone);
  many += Block(1, 0, 1);
  EXPECT_EQ(DecodeInline(many, {0, kMaxBlocks + 1}), FrameError::kBadPayload);
  EXPECT_EQ(DecodeInlineAnswer(many), FrameError::kBadPayload);
  EXPECT_EQ(DecodeInline(many, {0, kMaxBlocks}), FrameError::kNone) << "the rest is not looked at";

  const std::string half = Block(kMaxBlockBytes / 2, 0, kMaxBlockBytes / 2);
  EXPECT_EQ(DecodeInline(half + half, {0, 2}), FrameError::kNone);
  EXPECT_EQ(DecodeInline(half + half + Block(1, 0, 1), {0, 3}), FrameError::kBadPayload);
  EXPECT_EQ(DecodeInlineAnswer(half + half + Block(1, 0, 1)), FrameError::kBadPayload);
}

TEST(FrameTest, CommandNamesEndAtTheirOneNul) {
  for (const uint32_t u : {0u, 3u}) {
    const auto decode = [u](std::string_view payload) {
      return DecodePayload(FrameClass::kRequest, FrameType::kHandshake, u, ToBytes(payload));
    };
    EXPECT_EQ(decode(""), FrameError::kUnterminated);
    EXPECT_EQ(decode("sh"), FrameError::kUnterminated);
    EXPECT_EQ(decode({"\0", 1}), FrameError::kNone);
    EXPECT_EQ(decode({"sh\0", 3}), FrameError::kNone);
    EXPECT_EQ(decode({"sh\0x", 4}), FrameError::kBadPayload);
    EXPECT_EQ(decode({"sh\0\0", 4}), FrameError::kBadPayload);
  }
}

TEST(FrameTest, RandomBytesAreRefusedOrRoundTrip) {
  std::mt19937 random(1);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  int decoded = 0;
  for (int round = 0; round < 200000; ++round) {
    Bytes payload(below(70));
    for (std::byte& b : payload) b = static_cast<std::byte>(below(4) == 0 ? 0 : random());
    FrameHeader header{.len = kHeaderSize + payload.size(),
                       .reqno = random(),
                       .cls = static_cast<FrameClass>(below(4)),
                       .type = static_cast<FrameType>(below(11)),
                       .u = below(5)};
    Message message;
    if (DecodeMessage(header, payload, &message) != FrameError::kNone) continue;
    ++decoded;
    const Bytes again = Encode(header, message);
    ASSERT_TRUE(std::ranges::equal(std::span(again).subspan(kHeaderSize), payload));
    FrameHeader header_again;
    ASSERT_EQ(DecodeHeader(again, kMaxFrame, &header_again), FrameError::kNone);
    ASSERT_EQ(header_again, header);
  }
  EXPECT_GT(decoded, 1000);
}

TEST(WireErrorTest, MapsToErrno) {
  EXPECT_EQ(ErrnoOf(WireError::kNone), 0);
  EXPECT_EQ(ErrnoOf(WireError::kTryAgain), EAGAIN);
  EXPECT_EQ(ErrnoOf(WireError::kAuth), EPERM);
  EXPECT_EQ(ErrnoOf(WireError::kInvalidPrefork), ESRCH);
  EXPECT_EQ(ErrnoOf(WireError::kForkFailed), EIO);
  EXPECT_EQ(ErrnoOf(WireError::kInExec), EBUSY);
  EXPECT_EQ(ErrnoOf(WireError::kNoMemory), ENOMEM);
  EXPECT_EQ(ErrnoOf(WireError::kMalformedRequest), EINVAL);
  EXPECT_EQ(ErrnoOf(static_cast<WireError>(8)), EIO);
}

TEST(FrameErrorTest, EveryErrorHasAnOwnName) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(FrameError::kUnterminated); ++i) {
    names.insert(FrameErrorName(static_cast<FrameError>(i)));
  }
  EXPECT_EQ(names.size(), 9u);
  EXPECT_FALSE(names.contains(FrameErrorName(static_cast<FrameError>(99))));
}

}  // namespace
}  // namespace rump
