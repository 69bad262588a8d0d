// Calls that carry memory: what the server makes of the blocks of a request, and what it answers.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

constexpr uint64_t kAt = 0x7fff0000;

template <typename T>
std::string BytesOf(const T& object) {
  return {reinterpret_cast<const char*>(&object), sizeof object};
}

class InlineTest : public testing::Test {
 protected:
  explicit InlineTest(const ServerOptions& options = {})
      : server_(options), client_(server_.path()) {
    EXPECT_TRUE(client_.Guest());
  }

  // Sends an INLINE request. `count` blocks count, -1: as many as there are.
  uint64_t Start(uint32_t number, const std::vector<uint64_t>& args,
                 const std::vector<std::string>& blocks = {}, int count = -1) {
    std::string payload;
    for (const uint64_t arg : args) payload += BytesOf(arg);
    for (const std::string& block : blocks) payload += block;
    payload += BytesOf(InlineTrailer{
        static_cast<uint32_t>(args.size()),
        count < 0 ? static_cast<uint32_t>(blocks.size()) : static_cast<uint32_t>(count)});
    client_.Send({.reqno = ++reqno_, .type = FrameType::kInline, .u = number}, payload);
    return reqno_;
  }
  RawFrame Next() {
    const std::optional<RawFrame> frame = client_.Receive();
    EXPECT_TRUE(frame.has_value());
    return frame.value_or(RawFrame{});
  }
  // The next frame is the response to the call: its result, and its blocks.
  SyscallResultPayload ExpectAnswer(uint64_t reqno, std::string* blocks = nullptr) {
    const RawFrame frame = Next();
    EXPECT_EQ(frame.header.cls, FrameClass::kResponse);
    EXPECT_EQ(frame.header.type, FrameType::kInline);
    EXPECT_EQ(frame.header.reqno, reqno);
    SyscallResultPayload result{.error = -1};
    if (frame.payload.size() < sizeof result) return result;
    memcpy(&result, frame.payload.data(), sizeof result);
    if (blocks != nullptr) *blocks = frame.payload.substr(sizeof result);
    return result;
  }
  // The next frame is a COPYIN of that range, which gets `answer`.
  void ExpectCopyIn(uint64_t addr, uint64_t len, std::string_view answer) {
    const RawFrame frame = Next();
    EXPECT_EQ(frame.header.type, FrameType::kCopyIn);
    EXPECT_EQ(frame.payload, BytesOf(CopyPayload{len, addr}));
    client_.Send(
        {.reqno = frame.header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn},
        answer);
  }
  void ExpectMalformed(uint64_t reqno) {
    const RawFrame frame = Next();
    EXPECT_EQ(frame.header.cls, FrameClass::kError);
    EXPECT_EQ(frame.header.reqno, reqno);
    EXPECT_EQ(frame.header.u, static_cast<uint32_t>(WireError::kMalformedRequest));
  }
  struct Pair {
    int first;
    int second;
  };
  // The descriptors that a call has written to kAt.
  static Pair PairIn(const std::string& blocks) {
    Pair pair{-1, -1};
    EXPECT_EQ(blocks.size(), sizeof(CopyPayload) + sizeof pair);
    if (blocks.size() == sizeof(CopyPayload) + sizeof pair) {
      EXPECT_EQ(blocks.substr(0, sizeof(CopyPayload)), BytesOf(CopyPayload{sizeof pair, kAt}));
      memcpy(&pair, blocks.data() + sizeof(CopyPayload), sizeof pair);
    }
    return pair;
  }
  Pair Pipe(int flags = 0) {
    std::string blocks;
    EXPECT_EQ(ExpectAnswer(Start(SYS_pipe2, {kAt, static_cast<uint64_t>(flags)}), &blocks).error,
              0);
    return PairIn(blocks);
  }
  Pair Socketpair() {
    std::string blocks;
    EXPECT_EQ(ExpectAnswer(Start(SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, kAt}), &blocks).error,
              0);
    return PairIn(blocks);
  }
  uint64_t Write(int fd, std::string_view text) {
    return Start(SYS_write, {static_cast<uint64_t>(fd), kAt, text.size()}, {Block(kAt, text)});
  }
  // What a read finds, which came in the blocks of its answer.
  std::string Read(int fd, uint64_t size = 1024) {
    std::string blocks;
    const SyscallResultPayload result =
        ExpectAnswer(Start(SYS_read, {static_cast<uint64_t>(fd), kAt, size}), &blocks);
    if (result.error != 0) return "errno " + std::to_string(result.error);
    if (result.retval[0] == 0) return blocks;
    EXPECT_EQ(blocks.substr(0, sizeof(CopyPayload)), BytesOf(CopyPayload{result.retval[0], kAt}));
    return blocks.substr(sizeof(CopyPayload));
  }

  ServerThread server_;
  RawClient client_;
  uint64_t reqno_ = 1000;
};

TEST_F(InlineTest, OneFrameEachWay) {
  const Pair pipe = Pipe();
  EXPECT_EQ(ExpectAnswer(Write(pipe.second, "hello")).retval[0], 5U);
  EXPECT_EQ(Read(pipe.first), "hello");
  const std::string most(kMaxBlockBytes - 1024, 'm');
  EXPECT_EQ(ExpectAnswer(Write(pipe.second, most)).retval[0], most.size());
  EXPECT_EQ(Read(pipe.first, most.size()), most);
}

// What a pipe keeps of a request, rather than copy it, is no other request's to be received into.
TEST_F(InlineTest, LargeWritesStayWhatTheyWere) {
  std::vector<Pair> pipes;
  std::vector<std::string> texts;
  for (char c = 'a'; c < 'g'; ++c) {
    pipes.push_back(Pipe());
    texts.emplace_back(kMaxBlockBytes - 1024, c);
    ASSERT_EQ(ExpectAnswer(Write(pipes.back().second, texts.back())).retval[0],
              texts.back().size());
  }
  for (size_t i = 0; i < pipes.size(); ++i) {
    EXPECT_EQ(Read(pipes[i].first, 100), texts[i].substr(0, 100));
    ASSERT_EQ(ExpectAnswer(Write(pipes[i].second, "behind")).retval[0], 6U);
  }
  for (size_t i = 0; i < pipes.size(); ++i) {
    EXPECT_EQ(Read(pipes[i].first, texts[i].size()), texts[i].substr(100) + "behind");
  }
}

// The same of what a connection keeps, until it is acknowledged.
TEST_F(InlineTest, LargeSendsStayWhatTheyWere) {
  const auto call = [&](uint32_t number, const std::vector<uint64_t>& args,
                        const std::vector<std::string>& blocks = {}) {
    const SyscallResultPayload result = ExpectAnswer(Start(number, args, blocks));
    EXPECT_EQ(result.error, 0);
    return result.retval[0];
  };
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(4321);
  const std::string name = Block(kAt, BytesOf(address));
  const uint64_t listener = call(SYS_socket, {AF_INET, SOCK_STREAM, 0});
  call(SYS_bind, {listener, kAt, sizeof address}, {name});
  call(SYS_listen, {listener, 1});
  const uint64_t client = call(SYS_socket, {AF_INET, SOCK_STREAM, 0});
  call(SYS_connect, {client, kAt, sizeof address}, {name});
  const uint64_t server = call(SYS_accept, {listener, 0, 0});
  std::string sent;
  for (char c = 'a'; c < 'k'; ++c) {
    const std::string text(kMaxBlockBytes - 1024, c);
    ASSERT_EQ(ExpectAnswer(Write(static_cast<int>(client), text)).retval[0], text.size());
    sent += text;
  }
  std::string got;
  while (got.size() < sent.size()) got += Read(static_cast<int>(server), 50'000);
  EXPECT_TRUE(got == sent);
}

TEST_F(InlineTest, CallWithoutMemory) {
  const SyscallResultPayload result = ExpectAnswer(Start(SYS_getpid, {}));
  EXPECT_EQ(result.error, 0);
  EXPECT_GT(result.retval[0], 1U);
  EXPECT_EQ(ExpectAnswer(Start(4000, {1, 2})).error, ENOSYS);
  EXPECT_EQ(ExpectAnswer(Start(SYS_read, {1})).error, EINVAL) << "slots are missing";
}

// A SYSCALL is answered as one, also by a server that has been asked otherwise before.
TEST_F(InlineTest, PlainCallsStayPlain) {
  const Pair pipe = Pipe();
  std::string memory = "plain";
  const auto writer = static_cast<uint64_t>(pipe.second);
  EXPECT_EQ(client_.Finish(client_.SendCall(SYS_write, {writer, 0, 5}), &memory).retval[0], 5U);
  client_.Send({.reqno = 7, .type = FrameType::kSyscall, .u = SYS_read},
               BytesOf(static_cast<uint64_t>(pipe.first)) + BytesOf(kAt) + BytesOf(uint64_t{9}));
  EXPECT_EQ(Next().header.type, FrameType::kCopyOut);
  const RawFrame answer = Next();
  EXPECT_EQ(answer.header.type, FrameType::kSyscall);
  EXPECT_EQ(answer.payload.size(), sizeof(SyscallResultPayload));
}

TEST_F(InlineTest, WhatIsMissingIsAskedFor) {
  const Pair pipe = Pipe();
  const auto writer = static_cast<uint64_t>(pipe.second);
  // None, elsewhere, too short, not quite there, of no length.
  const std::vector<std::vector<std::string>> insufficient = {
      {},
      {Block(kAt + 4, "none")},
      {Block(kAt, "non"), Block(kAt + 3, "e")},
      {Block(kAt - 1, "none"), Block(kAt + 1, "none")},
      {Block(kAt, ""), Block(0, "none"), Block(UINT64_MAX - 4, "none")}};
  for (const std::vector<std::string>& blocks : insufficient) {
    const uint64_t call = Start(SYS_write, {writer, kAt, 4}, blocks);
    ExpectCopyIn(kAt, 4, "text");
    EXPECT_EQ(ExpectAnswer(call).retval[0], 4U);
    EXPECT_EQ(Read(pipe.first), "text");
  }
}

TEST_F(InlineTest, BlocksMayOverlapAndHoldMore) {
  const Pair pipe = Pipe();
  const auto writer = static_cast<uint64_t>(pipe.second);
  const uint64_t call =
      Start(SYS_write, {writer, kAt, 4},
            {Block(kAt + 2, "cd"), Block(kAt - 2, "..abcd.."), Block(kAt, "abcd")});
  EXPECT_EQ(ExpectAnswer(call).retval[0], 4U);
  EXPECT_EQ(Read(pipe.first), "abcd");
}

// The client met bad memory while it sent.
TEST_F(InlineTest, VoidBlocksAreNotUsed) {
  const Pair pipe = Pipe();
  const auto writer = static_cast<uint64_t>(pipe.second);
  const uint64_t call = Start(SYS_write, {writer, kAt, 4}, {Block(kAt, "void")}, 0);
  ExpectCopyIn(kAt, 4, "");
  EXPECT_EQ(ExpectAnswer(call).error, EFAULT);
}

TEST_F(InlineTest, MalformedRequestsLeaveTheConnectionAlive) {
  const Pair pipe = Pipe();
  const std::vector<uint64_t> args = {static_cast<uint64_t>(pipe.second), kAt, 4};
  std::string too_long = Block(kAt, "text");
  too_long[0] = 5;
  std::string too_far = Block(kAt, "text");
  memset(too_far.data() + sizeof(uint64_t), 0xff, sizeof(uint64_t));
  const std::vector<std::string> one_too_many(kMaxBlocks + 1, Block(kAt, "text"));
  const std::vector<std::string> too_much(2, Block(kAt, std::string(kMaxBlockBytes / 2 + 1, 'x')));
  ExpectMalformed(Start(SYS_write, args, {too_long}));
  ExpectMalformed(Start(SYS_write, args, {too_far}));
  ExpectMalformed(Start(SYS_write, args, one_too_many));
  ExpectMalformed(Start(SYS_write, args, too_much));
  ExpectMalformed(Start(SYS_write, args, {Block(kAt, "text")}, 2));
  ExpectMalformed(Start(SYS_write, std::vector<uint64_t>(kMaxSyscallArgs + 1)));
  client_.Send({.reqno = 7, .type = FrameType::kInline, .u = SYS_getpid}, "short");
  ExpectMalformed(7);
  EXPECT_EQ(ExpectAnswer(Write(pipe.second, "still")).retval[0], 5U);
  EXPECT_EQ(Read(pipe.first), "still") << "and nothing else was written";
}

// What a call holds while it waits is bounded by what it copies in, not by what it was sent.
TEST_F(InlineTest, CallThatWaitsForgetsItsBlocks) {
  const Pair pipe = Pipe();
  const std::string full(64 * 1024, 'f');
  ASSERT_EQ(ExpectAnswer(Write(pipe.second, full)).retval[0], full.size());
  const uint64_t call = Write(pipe.second, "later");
  EXPECT_EQ(Read(pipe.first, full.size()), full);
  ExpectCopyIn(kAt, 5, "LATER");
  EXPECT_EQ(ExpectAnswer(call).retval[0], 5U);
  EXPECT_EQ(Read(pipe.first), "LATER");
}

TEST_F(InlineTest, DatagramsKeepTheirBounds) {
  std::string blocks;
  ASSERT_EQ(ExpectAnswer(Start(SYS_socketpair, {AF_UNIX, SOCK_DGRAM, 0, kAt}), &blocks).error, 0);
  const Pair pair = PairIn(blocks);
  for (const std::string_view text : {"one", "", "three"}) {
    EXPECT_EQ(ExpectAnswer(Write(pair.second, text)).retval[0], text.size());
  }
  EXPECT_EQ(Read(pair.first), "one");
  EXPECT_EQ(Read(pair.first), "");
  EXPECT_EQ(Read(pair.first), "three");
}

TEST_F(InlineTest, VectorsAndWhatTheyName) {
  const Pair pipe = Pipe();
  const iovec vectors[2] = {{reinterpret_cast<void*>(kAt + 100), 3},
                            {reinterpret_cast<void*>(kAt + 200), 4}};
  const std::vector<uint64_t> args = {static_cast<uint64_t>(pipe.second), kAt, 2};
  const std::string array = Block(kAt, BytesOf(vectors));
  EXPECT_EQ(ExpectAnswer(
                Start(SYS_writev, args, {array, Block(kAt + 100, "abc"), Block(kAt + 200, "defg")}))
                .retval[0],
            7U);
  EXPECT_EQ(Read(pipe.first), "abcdefg");
  const uint64_t half = Start(SYS_writev, args, {array, Block(kAt + 200, "defg")});
  ExpectCopyIn(kAt + 100, 3, "ABC");
  EXPECT_EQ(Next().header.type, FrameType::kCopyIn) << "the blocks are gone when the call waits";
  client_.Close();
  (void)half;
}

TEST_F(InlineTest, AnswerThatIsTooLongComesByCopies) {
  const Pair pair = Socketpair();
  const std::string data(kMaxBlockBytes, 'd');
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(ExpectAnswer(Write(pair.second, data)).retval[0], data.size());
  }
  const uint64_t size = 2 * data.size();
  const uint64_t call = Start(SYS_read, {static_cast<uint64_t>(pair.first), kAt, size});
  const RawFrame copy = Next();
  EXPECT_EQ(copy.header.type, FrameType::kCopyOut);
  EXPECT_EQ(copy.payload, Block(kAt, data + data));
  std::string blocks;
  EXPECT_EQ(ExpectAnswer(call, &blocks).retval[0], size);
  EXPECT_EQ(blocks, "");
}

TEST_F(InlineTest, AddressesThatWrapAroundComeByCopies) {
  const uint64_t call = Start(SYS_pipe2, {UINT64_MAX, 0});
  const RawFrame copy = Next();
  EXPECT_EQ(copy.header.type, FrameType::kCopyOut);
  EXPECT_EQ(copy.payload.substr(0, sizeof(CopyPayload)),
            BytesOf(CopyPayload{2 * sizeof(int), UINT64_MAX}));
  std::string blocks;
  EXPECT_EQ(ExpectAnswer(call, &blocks).error, 0);
  EXPECT_EQ(blocks, "");
}

TEST_F(InlineTest, AnswerWithTooManyBlocksComesByCopies) {
  constexpr size_t kMore = 3;
  const Pair pipe = Pipe();
  std::vector<iovec> vectors;
  std::string data;
  for (size_t i = 0; i < kMaxBlocks + kMore; ++i) {
    vectors.push_back({reinterpret_cast<void*>(kAt + 10 * i), 1});
    data += static_cast<char>('a' + i);
  }
  ASSERT_EQ(ExpectAnswer(Write(pipe.second, data)).retval[0], data.size());
  const std::string array(reinterpret_cast<const char*>(vectors.data()),
                          vectors.size() * sizeof(iovec));
  const uint64_t call =
      Start(SYS_readv, {static_cast<uint64_t>(pipe.first), 0x10000, vectors.size()},
            {Block(0x10000, array)});
  for (size_t i = 0; i < kMaxBlocks; ++i) {
    const RawFrame copy = Next();
    EXPECT_EQ(copy.header.type, FrameType::kCopyOut);
    EXPECT_EQ(copy.payload, Block(kAt + 10 * i, data.substr(i, 1)));
  }
  std::string blocks;
  EXPECT_EQ(ExpectAnswer(call, &blocks).retval[0], data.size());
  std::string rest;
  for (size_t i = kMaxBlocks; i < data.size(); ++i) {
    rest += Block(kAt + 10 * i, data.substr(i, 1));
  }
  EXPECT_EQ(blocks, rest);
}

// Another call's answer comes between.
TEST_F(InlineTest, CallThatGoesOnAfterACopyHasItSent) {
  const Pair pair = Socketpair();
  const uint64_t call =
      Start(SYS_recvfrom, {static_cast<uint64_t>(pair.first), kAt, 6, MSG_WAITALL, 0, 0});
  const uint64_t first = Write(pair.second, "abc");
  std::vector<RawFrame> frames = {Next(), Next()};
  if (frames[0].header.type != FrameType::kCopyOut) std::swap(frames[0], frames[1]);
  EXPECT_EQ(frames[0].header.type, FrameType::kCopyOut);
  EXPECT_EQ(frames[0].payload, Block(kAt, "abc"));
  EXPECT_EQ(frames[1].header.reqno, first);
  const uint64_t second = Write(pair.second, "def");
  frames = {Next(), Next()};
  if (frames[0].header.reqno != second) std::swap(frames[0], frames[1]);
  EXPECT_EQ(frames[0].header.reqno, second);
  EXPECT_EQ(frames[1].header.reqno, call);
  EXPECT_EQ(frames[1].payload.substr(sizeof(SyscallResultPayload)), Block(kAt + 3, "def"));
}

class InlineOffTest : public InlineTest {
 protected:
  InlineOffTest() : InlineTest(Options()) {}
  static ServerOptions Options() {
    ServerOptions options;
    options.extensions = kAllExtensions & ~uint32_t{kExtensionInline};
    return options;
  }
};

TEST_F(InlineOffTest, IsAnUnknownType) {
  ExpectMalformed(Start(SYS_getpid, {}));
  EXPECT_EQ(client_.CallResult(SYS_getpid, {}).error, 0);
}

}  // namespace
}  // namespace rump
