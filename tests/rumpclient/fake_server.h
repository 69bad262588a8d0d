// A server that says what a test wants it to say, on an AF_UNIX socket and a thread of this
// process.
#ifndef TESTS_RUMPCLIENT_FAKE_SERVER_H_
#define TESTS_RUMPCLIENT_FAKE_SERVER_H_

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "protocol/frame.h"
#include "protocol/url.h"

namespace rump::client {

inline constexpr std::string_view kLinuxBanner = "RUMPSP-0.4-Linux-6.1.0/x86_64\n";

struct ReceivedFrame {
  FrameHeader header;  // len 0: the client closed the connection
  std::string payload;
  int fd = -1;  // that came with it; the receiver's

  // Argument `i` of a SYSCALL.
  uint64_t arg(size_t i) const;
};

// The server's end of one connection. A function that meets the end of the connection, or bytes of
// another kind than it expects, reports a test failure.
class FakePeer {
 public:
  explicit FakePeer(int fd) : fd_(fd) {}
  ~FakePeer() { Close(); }
  FakePeer(const FakePeer&) = delete;
  FakePeer& operator=(const FakePeer&) = delete;

  // `n` bytes, fewer only at the end of the connection.
  std::string Read(size_t n, int* fd = nullptr);
  ReceivedFrame ReadFrame();
  // The same, and checks class and type.
  ReceivedFrame ExpectRequest(FrameType type);
  ReceivedFrame ExpectResponse(FrameType type);
  void ExpectEnd();

  // False if the client has closed the connection.
  bool Send(std::string_view bytes, int fd = -1);
  // Waits until the client has taken all bytes from the socket.
  void Drain();
  void Close();

  // Banner and an accepted GUEST handshake.
  void Welcome(std::string_view banner = kLinuxBanner);
  // Answers a PREFORK with a cookie.
  void GrantPrefork();
  // The answer to a SYSCALL.
  void Answer(const ReceivedFrame& call, uint64_t retval, int fd = -1);
  void Fail(const ReceivedFrame& call, int error);
  // What the client sends for [addr, addr + len).
  std::string CopyIn(uint64_t addr, uint64_t len);
  std::string CopyInStr(uint64_t addr, uint64_t max);
  void CopyOut(uint64_t addr, std::string_view data);

 private:
  int fd_;
  uint64_t next_reqno_ = 0;
};

// A whole frame, its length filled in.
std::string Frame(FrameClass cls, FrameType type, uint64_t reqno, uint32_t u,
                  std::string_view payload);
std::string HandshakeAnswer(uint64_t reqno, int32_t error);
std::string SyscallAnswer(uint64_t reqno, int32_t error, uint64_t retval, uint32_t u = 0);
std::string CopyOutFrame(uint64_t reqno, uint64_t addr, std::string_view data);

enum class Transport { kUnix, kTcp };

// Accepts connections one after another and runs the script on each.
class FakeServer {
 public:
  explicit FakeServer(std::function<void(FakePeer*)> script, int connections = 1,
                      Transport transport = Transport::kUnix);
  // Waits for the script to end.
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  const Endpoint& endpoint() const { return endpoint_; }
  std::string url() const;

 private:
  std::string directory_;
  Endpoint endpoint_;
  int listener_;
  std::thread thread_;
};

}  // namespace rump::client

#endif  // TESTS_RUMPCLIENT_FAKE_SERVER_H_
