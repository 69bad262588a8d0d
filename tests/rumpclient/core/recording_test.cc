// For the same calls, this client sends the bytes that an existing one sent to an existing server.
//
// That server has another ABI: where it said so, it says now that it has ours, and the numbers of
// calls and the addresses in them are replaced by what is sent here; the rest must be the same.
// Cookies and results are the recorded ones.
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "rumpclient/core/connection.h"
#include "tests/protocol/wire_recording.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {
namespace {

std::vector<WireEvent> Recording(std::string_view name) {
  for (const std::string& path : ListWireRecordings()) {
    if (path.find(name) == std::string::npos) continue;
    std::string error;
    auto events = ReadWireRecording(path, &error);
    EXPECT_TRUE(events.has_value()) << error;
    return events.value_or(std::vector<WireEvent>());
  }
  ADD_FAILURE() << "no recording " << name;
  return {};
}

// The recorded server's half of one connection.
class Replay {
 public:
  Replay(std::string_view name, int connection) : events_(Recording(name)) {
    std::erase_if(events_, [=](const WireEvent& event) {
      return event.kind != WireEvent::Kind::kBytes || event.connection != connection;
    });
  }

  void operator()(FakePeer* peer) {
    bool banner = true;
    for (WireEvent& event : events_) {
      if (event.side == WireSide::kClient) {
        const std::string sent = peer->Read(event.bytes.size());
        Learn(sent, &event.bytes);
        EXPECT_EQ(event.bytes, sent) << "line " << event.line;
      } else if (std::exchange(banner, false)) {
        peer->Send(kLinuxBanner);
      } else {
        Translate(&event.bytes);
        peer->Send(event.bytes);
      }
    }
    peer->ExpectEnd();
  }

 private:
  static constexpr size_t kWord = sizeof(uint64_t);
  static constexpr uint64_t kLowestAddress = 0x100000;

  static uint64_t WordAt(const std::string& bytes, size_t at) {
    uint64_t word;
    memcpy(&word, bytes.data() + at, kWord);
    return word;
  }

  // Puts number and addresses of the frame that was sent into the recorded one.
  void Learn(const std::string& sent, std::string* recorded) {
    FrameHeader header;
    memcpy(&header, recorded->data(), sizeof header);
    if (sent.size() != recorded->size()) return;
    if (header.type == FrameType::kSyscall) {
      constexpr size_t kNumber = offsetof(FrameHeader, u);
      recorded->replace(kNumber, sizeof header.u, sent, kNumber, sizeof header.u);
    } else if (header.type != FrameType::kCopyIn || recorded->size() != iovecs_) {
      return;
    }
    for (size_t at = kHeaderSize; at + kWord <= sent.size(); at += kWord) {
      const uint64_t word = WordAt(*recorded, at);
      if (word < kLowestAddress) continue;
      addresses_[word] = WordAt(sent, at);
      recorded->replace(at, kWord, sent, at, kWord);
    }
  }

  // Puts our addresses into a COPYIN or COPYOUT of the server's.
  void Translate(std::string* bytes) {
    FrameHeader header;
    memcpy(&header, bytes->data(), sizeof header);
    if (header.type != FrameType::kCopyIn && header.type != FrameType::kCopyOut) return;
    constexpr size_t kAddress = kHeaderSize + offsetof(CopyPayload, addr);
    const auto known = addresses_.find(WordAt(*bytes, kAddress));
    ASSERT_NE(addresses_.end(), known);
    memcpy(bytes->data() + kAddress, &known->second, kWord);
    if (WordAt(*bytes, kHeaderSize) == 2 * sizeof(iovec)) iovecs_ = kHeaderSize + 2 * sizeof(iovec);
  }

  std::vector<WireEvent> events_;
  std::map<uint64_t, uint64_t> addresses_;  // recorded to ours
  size_t iovecs_ = 0;                       // length of the frame that answers with an iovec array
};

Call MakeCall(uint32_t number, std::vector<uint64_t> args = {}) {
  Call call;
  call.number = number;
  call.nargs = args.size();
  std::copy(args.begin(), args.end(), call.args);
  return call;
}

uint64_t Address(const void* p) { return reinterpret_cast<uint64_t>(p); }

// A client of the recording `name` that has made its handshake.
class Client {
 public:
  explicit Client(std::string_view name) : server_(Replay(name, 1)) {
    EXPECT_EQ(0, connection_.Open(server_.endpoint()));
    EXPECT_EQ(0, connection_.Guest("tclient"));
  }
  ~Client() { connection_.Abandon(); }
  Connection* operator->() { return &connection_; }

  // Makes the call; its first value, or minus its error.
  long Issue(Call call) {
    EXPECT_EQ(0, connection_.Issue(&call));
    return call.error != 0 ? -call.error : static_cast<long>(call.retval[0]);
  }
  // The recorded pipe(2) returns both ends, and takes no memory.
  void Pipe() {
    Call pipe = MakeCall(SYS_getpid);
    EXPECT_EQ(0, connection_.Issue(&pipe));
    EXPECT_EQ(3u, pipe.retval[0]);
    EXPECT_EQ(4u, pipe.retval[1]);
  }

 private:
  FakeServer server_;
  Connection connection_;
};

TEST(RecordingTest, GuestAndGetpid) {
  Client client("01_");
  Call getpid = MakeCall(SYS_getpid);
  EXPECT_EQ(0, client->Issue(&getpid));
  EXPECT_EQ(2u, getpid.retval[0]);
  EXPECT_EQ(1u, getpid.retval[1]);
}

TEST(RecordingTest, Socket) {
  Client client("02_");
  EXPECT_EQ(3, client.Issue(MakeCall(SYS_socket, {2, 1, 0})));
}

TEST(RecordingTest, ErrorOfACall) {
  Client client("03_");
  EXPECT_EQ(-47, client.Issue(MakeCall(SYS_socket, {77, 1, 0}))) << "as the server's ABI has it";
}

TEST(RecordingTest, CopyInAndCopyOut) {
  Client client("04_");
  client.Pipe();
  EXPECT_EQ(5, client.Issue(MakeCall(SYS_write, {4, Address("hello"), 5})));
  std::string buffer(0x11170, '\0');
  EXPECT_EQ(5, client.Issue(MakeCall(SYS_read, {3, Address(buffer.data()), buffer.size()})));
  EXPECT_EQ("hello", buffer.substr(0, 5));
}

TEST(RecordingTest, LongCopies) {
  Client client("05_");
  client.Pipe();
  std::string buffer(0x10000, kElidedFiller);
  const uint64_t addr = Address(buffer.data());
  EXPECT_EQ(0x10000, client.Issue(MakeCall(SYS_write, {4, addr, buffer.size()})));
  EXPECT_EQ(0x10000, client.Issue(MakeCall(SYS_read, {3, addr, buffer.size()})));
}

TEST(RecordingTest, Writev) {
  Client client("06_");
  client.Pipe();
  char ab[] = "ab";
  char cde[] = "cde";
  const iovec parts[] = {{ab, 2}, {cde, 3}};
  EXPECT_EQ(5, client.Issue(MakeCall(SYS_writev, {4, Address(parts), 2})));
}

TEST(RecordingTest, ParentOfAFork) {
  Client client("08_");
  client.Pipe();
  PreforkCookie cookie;
  EXPECT_EQ(0, client->Prefork(&cookie));
  char c = 0;
  EXPECT_EQ(1, client.Issue(MakeCall(SYS_read, {3, Address(&c), 1})));
  EXPECT_EQ('c', c);
}

TEST(RecordingTest, ChildOfAFork) {
  const PreforkCookie cookie = {{0x12bc9e1b, 0x2c66367b, 0xa1351dbe, 0xd93bee45}};
  FakeServer server(Replay("08_", 2));
  Connection connection;
  ASSERT_EQ(0, connection.Open(server.endpoint()));
  ASSERT_EQ(0, connection.Fork(cookie, false));
  Call getpid = MakeCall(SYS_getpid);
  EXPECT_EQ(0, connection.Issue(&getpid));
  Call write = MakeCall(SYS_write, {4, Address("c"), 1});
  EXPECT_EQ(0, connection.Issue(&write));
  EXPECT_EQ(1u, write.retval[0]);
  connection.Abandon();
}

TEST(RecordingTest, Exec) {
  Client client("09_");
  EXPECT_EQ(12, client.Issue(MakeCall(SYS_getpid)));
  ASSERT_TRUE(client->Suspend());
  Connection next;
  ASSERT_EQ(0, next.Adopt(client->inheritance()));
  client->Forget();
  ASSERT_EQ(0, next.Exec("exe"));
  Call getpid = MakeCall(SYS_getpid);
  EXPECT_EQ(0, next.Issue(&getpid));
  EXPECT_EQ(12u, getpid.retval[0]);
  next.Abandon();
}

TEST(RecordingTest, Raise) {
  signal(SIGPIPE, SIG_IGN);
  Client client("10_");
  client.Pipe();
  EXPECT_EQ(0, client.Issue(MakeCall(SYS_close, {3})));
  EXPECT_EQ(-EPIPE, client.Issue(MakeCall(SYS_write, {4, Address("x"), 1})));
}

}  // namespace
}  // namespace rump::client
