// epoll_client PORT SECONDS SEED: connections to an epoll_server for that long, each ended in one
// of many ways and followed by another. Fails if one byte is wrong, missing or too much, or if a
// connection makes no progress.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/programs/epoll_load.h"

namespace rump {
namespace {

constexpr size_t kConnections = 4;
// Most transfers are short, some more than all buffers hold.
constexpr uint32_t kSmallestBits = 4, kSizes = 20;
constexpr auto kPatience = std::chrono::seconds(20);

class ClientStream : public EpollStream {
 public:
  ClientStream(EpollSet* set, Random* random, int fd, const Plan& plan)
      : EpollStream(set, random, fd), plan_(plan) {}

 private:
  bool WantsToRead() const override { return connected_ && !all_received_; }
  bool WantsToWrite() const override { return !connected_ || !shut_down_; }
  void ReadOnce() override;
  void WriteOnce() override;
  std::string DescribeTransfer() const override;

  void Connected();
  void FinishIfDone();
  // Errors are to be expected.
  bool rough() const { return !plan_.orderly(); }

  const Plan plan_;
  size_t plan_sent_ = 0;
  uint64_t sent_ = 0, received_ = 0;
  bool connected_ = false, shut_down_ = false, all_received_ = false;
};

void ClientStream::ReadOnce() {
  char bytes[8192];
  const ssize_t n = Read(bytes, 1 + Below(random(), sizeof bytes));
  if (n < 0) return Broken(rough());
  CheckBytes(plan_, received_, bytes, static_cast<size_t>(n));
  received_ += static_cast<uint64_t>(n);
  if (received_ > plan_.amount && !plan_.client_closes()) Fail("too much: " + Describe());
  if (plan_.client_closes() && received_ >= plan_.amount) {
    return plan_.end == End::kClientReset ? Reset() : Finish();
  }
  if (n > 0) return;
  if (plan_.client_closes() || plan_.end == End::kServerReset ||
      (!rough() && received_ != plan_.amount)) {
    Fail("an early end: " + Describe());
  }
  all_received_ = true;
  if (plan_.end == End::kServerClose) return Finish();
  FinishIfDone();
}

void ClientStream::WriteOnce() {
  if (!connected_) return Connected();
  if (plan_sent_ < sizeof plan_) {
    const ssize_t n =
        Write(reinterpret_cast<const char*>(&plan_) + plan_sent_, sizeof plan_ - plan_sent_);
    if (n < 0) return Broken(false);
    plan_sent_ += static_cast<size_t>(n);
    return;
  }
  char bytes[8192];
  const uint64_t size = std::min<uint64_t>(1 + Below(random(), sizeof bytes), plan_.sent() - sent_);
  for (size_t i = 0; i < size; ++i) bytes[i] = ByteAt(plan_, sent_ + i);
  const ssize_t n = Write(bytes, size);
  if (n < 0) return Broken(rough());
  sent_ += static_cast<uint64_t>(n);
  if (sent_ != plan_.sent()) return;
  ShutDown();
  shut_down_ = true;
  FinishIfDone();
}

void ClientStream::Connected() {
  int error = 0;
  socklen_t size = sizeof error;
  Check(getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &size), "SO_ERROR");
  if (error != 0) Fail(std::string("connect: ") + strerror(error));
  connected_ = true;
}

void ClientStream::FinishIfDone() {
  if (shut_down_ && all_received_) Finish();
}

std::string ClientStream::DescribeTransfer() const {
  char text[200];
  snprintf(text, sizeof text, "seed %u ends by %u after %lu, %s, %lu sent%s, %lu received%s",
           plan_.seed, static_cast<uint32_t>(plan_.end), plan_.amount,
           connected_ ? "connected" : "connecting", sent_, shut_down_ ? " and the end" : "",
           received_, all_received_ ? " and the end" : "");
  return text;
}

int StartConnecting(uint16_t port, End end) {
  const int fd = SmallSocket();
  if (end == End::kServerReset || end == End::kClientReset) {
    // A hijacked connection is told to stay in the stack, since a direct pair knows no resets.
    // Natively there is no such option.
    constexpr int kTcpDirect = 0x7270, kOff = 0;
    setsockopt(fd, IPPROTO_TCP, kTcpDirect, &kOff, sizeof kOff);
  }
  const sockaddr_in address = Loopback(port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == -1 &&
      errno != EINPROGRESS) {
    Check(-1, "connect");
  }
  return fd;
}

void Run(uint16_t port, std::chrono::seconds duration, uint32_t seed) {
  const auto end = std::chrono::steady_clock::now() + duration;
  Random random(seed);
  EpollSet set;
  EpollStreams streams;
  uint32_t started = 0;
  do {
    while (streams.size() < kConnections && std::chrono::steady_clock::now() < end) {
      const Plan plan{.seed = seed << 20 | ++started,
                      .end = static_cast<End>(Below(random, kEnds)),
                      .amount = 1 + Below(random, 1u << (kSmallestBits + Below(random, kSizes)))};
      // The server has two listeners.
      const int fd = StartConnecting(static_cast<uint16_t>(port + Below(random, 2)), plan.end);
      streams.push_back(std::make_unique<ClientStream>(&set, &random, fd, plan));
    }
    set.Wait();
    DestroyEnded(streams);
    for (const auto& stream : streams) {
      if (stream->idle() > kPatience) Fail("no progress: " + stream->Describe());
    }
  } while (!streams.empty() || std::chrono::steady_clock::now() < end);
  printf("%u connections\n", started);
}

}  // namespace
}  // namespace rump

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  signal(SIGPIPE, SIG_IGN);
  rump::Run(static_cast<uint16_t>(atoi(argv[1])), std::chrono::seconds(atoi(argv[2])),
            static_cast<uint32_t>(atoi(argv[3])));
}
