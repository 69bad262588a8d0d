// What another implementation answered, byte for byte: the recordings in tests/protocol/transcripts
// are replayed against our server. What they say in NetBSD's numbers is said in Linux's, and what
// differs from run to run (the banner, cookies, pids) is masked.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "protocol/frame.h"
#include "tests/protocol/wire_recording.h"
#include "tests/sp_server/raw_client.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

constexpr uint32_t kNetbsdRead = 3;
constexpr uint32_t kNetbsdWrite = 4;
constexpr uint32_t kNetbsdClose = 6;
constexpr uint32_t kNetbsdGetpid = 20;
constexpr uint32_t kNetbsdPipe = 42;
constexpr uint32_t kNetbsdExecve = 59;
constexpr uint32_t kNetbsdWritev = 121;
constexpr uint32_t kNetbsdSocket = 394;

// Calls that NetBSD and Linux have alike but for their number. Numbers that neither has stay.
const std::map<uint32_t, uint32_t>& LinuxNumbers() {
  static const auto& numbers = *new std::map<uint32_t, uint32_t>{
      {kNetbsdRead, SYS_read},     {kNetbsdWrite, SYS_write},   {kNetbsdClose, SYS_close},
      {kNetbsdGetpid, SYS_getpid}, {kNetbsdPipe, SYS_pipe},     {kNetbsdWritev, SYS_writev},
      {kNetbsdExecve, SYS_execve}, {kNetbsdSocket, SYS_socket}, {9999, 9999},
      {0xffffffff, 0xffffffff}};
  return numbers;
}

// The recorded errno where Linux has another number for it.
int LinuxErrno(int netbsd) {
  switch (netbsd) {
    case 47:
      return EAFNOSUPPORT;
    case 78:
      return ENOSYS;
    default:
      return netbsd;
  }
}

// Recordings that cannot be said in Linux's terms.
const std::map<std::string, std::string>& Skipped() {
  static const auto& skipped = *new std::map<std::string, std::string>{
      {"07_open_copyinstr", "opens files, which our kernel has none of"},
      {"12_tcp_16k_write_read",
       "NetBSD's sockaddr and option numbers, and a COPYIN per mbuf cluster of that kernel"},
  };
  return skipped;
}

// Where the recorded server crashed, or was about to: what ours says on the first connection behind
// what the recording has. It closes the connection where `closes`.
struct Ours {
  std::string why;
  FrameHeader header;
  std::string payload;
  bool closes;
};
const std::map<std::string, Ours>& AnswersOfOurs() {
  constexpr auto kNosys = [] {
    const SyscallResultPayload result{.error = ENOSYS, .pad = 0, .retval = {0, 0}};
    return std::string(reinterpret_cast<const char*>(&result), sizeof result);
  };
  static const auto& ours = *new std::map<std::string, Ours>{
      {"err_nohs_emptyguest",
       {"a GUEST without even a NUL crashed the recorded server",
        {.len = kHeaderSize,
         .reqno = 7,
         .cls = FrameClass::kError,
         .type = FrameType::kHandshake,
         .u = static_cast<uint32_t>(WireError::kMalformedRequest)},
        "",
        true}},
      {"err_negsys",
       {"a negative call number crashed the recorded server",
        {.len = kHeaderSize + sizeof(SyscallResultPayload),
         .reqno = 9,
         .cls = FrameClass::kResponse,
         .type = FrameType::kSyscall,
         .u = 0},
        kNosys(),
        false}},
  };
  return ours;
}

// Where Linux's pipe(2), which copies the descriptors out, was asked to put them.
constexpr uint64_t kPipeAddress = 0x5000;

std::vector<RawFrame> Frames(std::string_view bytes) {
  std::vector<RawFrame> frames;
  while (bytes.size() >= kHeaderSize) {
    RawFrame frame;
    memcpy(&frame.header, bytes.data(), kHeaderSize);
    // A header that lies is a frame of its own: nothing can come behind it.
    const bool sound = frame.header.len >= kHeaderSize && frame.header.len <= bytes.size();
    const size_t len = sound ? frame.header.len : bytes.size();
    frame.payload = bytes.substr(kHeaderSize, len - kHeaderSize);
    bytes.remove_prefix(len);
    frames.push_back(std::move(frame));
  }
  return frames;
}

std::string Bytes(const RawFrame& frame) {
  std::string bytes(kHeaderSize, '\0');
  EncodeHeader(frame.header, reinterpret_cast<std::byte*>(bytes.data()));
  return bytes + frame.payload;
}

// One recorded connection, replayed.
struct Replayed {
  std::unique_ptr<RawClient> client;
  std::map<uint64_t, uint32_t> calls;  // NetBSD's number by reqno
  // Requests of ours that the recorded server did not make: by so much our reqnos are ahead.
  uint64_t shift = 0;
  bool banner = false;
};

class ReplayTest : public testing::TestWithParam<std::string> {
 protected:
  static std::string Name() { return std::filesystem::path(GetParam()).stem(); }

  // In the recordings 0 to 2 are taken from the start.
  static void TakeStandardDescriptors(Replayed* connection) {
    RawClient& client = *connection->client;
    std::string memory(16, '\0');
    ASSERT_EQ(client.Finish(client.SendCall(SYS_pipe, {0}), &memory).error, 0);
    ++connection->shift;
    ASSERT_EQ(client.CallResult(SYS_dup, {0}).retval[0], 2U);
  }

  void FromClient(const std::string& bytes, Replayed* connection) {
    for (RawFrame& frame : Frames(bytes)) {
      const bool request = frame.header.cls == FrameClass::kRequest;
      if (frame.header.type == FrameType::kSyscall && frame.header.len >= kHeaderSize) {
        const auto number = LinuxNumbers().find(frame.header.u);
        ASSERT_NE(number, LinuxNumbers().end()) << "NetBSD's call " << frame.header.u;
        const bool first = connection->calls.empty();
        if (request) connection->calls[frame.header.reqno] = frame.header.u;
        frame.header.u = number->second;
        const bool makes_fds = number->second == SYS_pipe || number->second == SYS_socket;
        if (first && makes_fds) TakeStandardDescriptors(connection);
        if (number->second == SYS_pipe) {
          frame.payload.assign(reinterpret_cast<const char*>(&kPipeAddress), sizeof kPipeAddress);
          frame.header.len += sizeof kPipeAddress;
        }
      } else if (frame.header.type == FrameType::kCopyIn && !request) {
        frame.header.reqno += connection->shift;
      } else if (frame.header.u == static_cast<uint32_t>(HandshakeKind::kFork) &&
                 frame.payload.substr(0, sizeof(PreforkCookie)) == recorded_cookie_) {
        frame.payload.replace(0, sizeof(PreforkCookie), cookie_);
      }
      connection->client->SendBytes(Bytes(frame));
    }
  }

  // The next frame of ours that the recorded server has sent, too.
  std::optional<RawFrame> ReceiveComparable(Replayed* connection) {
    for (;;) {
      std::optional<RawFrame> got = connection->client->Receive();
      if (!got || got->header.cls != FrameClass::kRequest) return got;
      CopyPayload range;
      if (got->payload.size() < sizeof range) return got;
      memcpy(&range, got->payload.data(), sizeof range);
      if (got->header.type == FrameType::kCopyOut && range.addr == kPipeAddress) {
        memcpy(pipe_fds_, got->payload.data() + sizeof range, sizeof pipe_fds_);
      } else {
        return got;
      }
      ++connection->shift;
    }
  }

  void FromServer(const std::string& bytes, Replayed* connection) {
    std::string_view rest = bytes;
    if (!connection->banner) {
      connection->banner = true;
      rest.remove_prefix(rest.find('\n') + 1);
    }
    for (RawFrame wanted : Frames(rest)) {
      std::optional<RawFrame> got = ReceiveComparable(connection);
      ASSERT_TRUE(got.has_value()) << "the connection ended";
      Mask(*connection, &wanted, &*got);
      EXPECT_EQ(Bytes(*got), Bytes(wanted)) << "reqno " << wanted.header.reqno;
    }
  }

  void Mask(const Replayed& connection, RawFrame* wanted, RawFrame* got) {
    if (wanted->header.cls == FrameClass::kRequest) {
      // The recorded server gives a RAISE the reqno of its call.
      const bool raise = wanted->header.type == FrameType::kRaise;
      wanted->header.reqno = raise ? got->header.reqno : wanted->header.reqno + connection.shift;
      return;
    }
    if (wanted->header.type == FrameType::kPrefork &&
        got->payload.size() == wanted->payload.size()) {
      recorded_cookie_ = wanted->payload;
      cookie_ = got->payload;
      EXPECT_NE(cookie_, recorded_cookie_);
      wanted->payload = got->payload;
    }
    if (wanted->header.type != FrameType::kSyscall || wanted->header.cls != FrameClass::kResponse ||
        wanted->payload.size() != sizeof(SyscallResultPayload)) {
      return;
    }
    SyscallResultPayload result;
    memcpy(&result, wanted->payload.data(), sizeof result);
    result.pad = 0;
    result.error = LinuxErrno(result.error);
    const uint32_t call = connection.calls.at(wanted->header.reqno);
    if (call == kNetbsdPipe) {
      // There the descriptors are results; here they were copied out.
      EXPECT_EQ(static_cast<uint64_t>(pipe_fds_[0]), result.retval[0]);
      EXPECT_EQ(static_cast<uint64_t>(pipe_fds_[1]), result.retval[1]);
      result.retval[0] = result.retval[1] = 0;
    } else if (call == kNetbsdGetpid && got->payload.size() == sizeof result) {
      // There the parent is the second result.
      SyscallResultPayload ours;
      memcpy(&ours, got->payload.data(), sizeof ours);
      EXPECT_GT(ours.retval[0], 1U);
      result.retval[0] = ours.retval[0];
      result.retval[1] = 0;
    }
    wanted->payload.assign(reinterpret_cast<const char*>(&result), sizeof result);
  }

  ServerThread server_;
  std::string recorded_cookie_;
  std::string cookie_;
  int pipe_fds_[2] = {};
};

TEST_P(ReplayTest, AnswersAreTheRecordedOnes) {
  if (const auto skipped = Skipped().find(Name()); skipped != Skipped().end()) {
    GTEST_SKIP() << skipped->second;
  }
  std::string error;
  const auto events = ReadWireRecording(GetParam(), &error);
  ASSERT_TRUE(events.has_value()) << error;
  const auto ours = AnswersOfOurs().find(Name());
  std::map<int, Replayed> connections;
  for (size_t i = 0; i < events->size(); ++i) {
    const WireEvent& event = (*events)[i];
    SCOPED_TRACE("line " + std::to_string(event.line));
    Replayed& connection = connections[event.connection];
    if (event.kind == WireEvent::Kind::kOpen) {
      connection.client = std::make_unique<RawClient>(server_.path());
      ASSERT_TRUE(connection.client->connected());
    } else if (event.kind == WireEvent::Kind::kBytes) {
      if (event.side == WireSide::kClient) {
        FromClient(event.bytes, &connection);
      } else if (connection.client->connected()) {
        FromServer(event.bytes, &connection);
      }
    } else if (event.side == WireSide::kClient) {
      connection.client->Close();
    } else if (connection.client->connected()) {
      // The recorder saw some ends before the bytes that brought them about.
      for (size_t next = i + 1; next < events->size(); ++next) {
        const WireEvent& late = (*events)[next];
        if (late.kind == WireEvent::Kind::kBytes && late.side == WireSide::kClient) {
          FromClient(late.bytes, &connection);
        }
      }
      if (ours != AnswersOfOurs().end()) {
        const std::optional<RawFrame> got = connection.client->Receive();
        ASSERT_TRUE(got.has_value()) << ours->second.why;
        EXPECT_EQ(got->header, ours->second.header) << ours->second.why;
        EXPECT_EQ(got->payload, ours->second.payload) << ours->second.why;
      }
      if (ours == AnswersOfOurs().end() || ours->second.closes) {
        EXPECT_TRUE(connection.client->AtEnd());
      }
      break;
    }
    if (HasFatalFailure()) return;
  }
  EXPECT_TRUE(RawClient(server_.path()).Guest()) << "the server must live on";
}

INSTANTIATE_TEST_SUITE_P(All, ReplayTest, testing::ValuesIn(ListWireRecordings()),
                         [](const auto& info) {
                           return std::filesystem::path(info.param).stem().string();
                         });

TEST(ReplaySetTest, TablesNameRecordings) {
  std::vector<std::string> names;
  for (const std::string& path : ListWireRecordings()) {
    names.push_back(std::filesystem::path(path).stem());
  }
  for (const auto& [name, why] : Skipped()) EXPECT_THAT(names, testing::Contains(name));
  for (const auto& [name, ours] : AnswersOfOurs()) EXPECT_THAT(names, testing::Contains(name));
}

}  // namespace
}  // namespace rump
