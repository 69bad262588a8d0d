// epoll_server PORT: sends back what epoll_clients send to PORT and PORT + 1, and ends each
// connection as they ask for. SIGTERM ends it as soon as there are none left. Fails if one byte is
// wrong, missing or too much.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/programs/epoll_load.h"

namespace rump {
namespace {

// Less than clients have: they fail, and this end's view is in the log by then.
constexpr auto kPatience = std::chrono::seconds(12);

class ServerStream : public EpollStream {
 public:
  using EpollStream::EpollStream;
  bool told = false;

 private:
  bool has_plan() const { return plan_received_ == sizeof plan_; }
  // What is to be sent back.
  uint64_t unsent() const { return shut_down_ ? 0 : received_ - sent_; }
  bool WantsToRead() const override {
    return !all_received_ && (!has_plan() || unsent() < sizeof buffer_);
  }
  bool WantsToWrite() const override { return unsent() > 0; }
  void ReadOnce() override;
  void WriteOnce() override;
  std::string DescribeTransfer() const override;

  void ReadPlan();
  void Ended();
  // The client closes at any time.
  bool rough() const { return has_plan() && !plan_.orderly(); }

  Plan plan_{};
  size_t plan_received_ = 0;
  uint64_t sent_ = 0, received_ = 0;
  // The byte at offset n of the stream is at n modulo its size.
  char buffer_[4096];
  bool shut_down_ = false, all_received_ = false;
};

void ServerStream::ReadPlan() {
  const ssize_t n =
      Read(reinterpret_cast<char*>(&plan_) + plan_received_, sizeof plan_ - plan_received_);
  if (n < 0) return Broken(false);
  if (n == 0) Fail("an end before the plan: " + Describe());
  plan_received_ += static_cast<size_t>(n);
}

void ServerStream::ReadOnce() {
  if (!has_plan()) return ReadPlan();
  const size_t begin = received_ % sizeof buffer_;
  const size_t room = std::min<size_t>(sizeof buffer_ - begin, sizeof buffer_ - unsent());
  const ssize_t n = Read(buffer_ + begin, room);
  if (n < 0) return Broken(rough());
  if (n == 0) return Ended();
  CheckBytes(plan_, received_, buffer_ + begin, static_cast<size_t>(n));
  received_ += static_cast<uint64_t>(n);
}

void ServerStream::Ended() {
  all_received_ = true;
  if (rough()) return Finish();
  if (received_ != plan_.sent()) Fail("an early end: " + Describe());
  if (unsent() == 0) Finish();
}

void ServerStream::WriteOnce() {
  const size_t begin = sent_ % sizeof buffer_;
  uint64_t size = std::min<uint64_t>(unsent(), sizeof buffer_ - begin);
  if (!plan_.client_closes()) size = std::min(size, plan_.amount - sent_);
  const ssize_t n = Write(buffer_ + begin, size);
  if (n < 0) return Broken(rough());
  sent_ += static_cast<uint64_t>(n);
  if (all_received_ && unsent() == 0) return Finish();
  if (plan_.client_closes() || sent_ < plan_.amount) return;
  if (plan_.end == End::kServerClose) Finish();
  if (plan_.end == End::kServerReset) Reset();
  if (plan_.end != End::kHalf) return;
  ShutDown();
  shut_down_ = true;
  if (all_received_) Finish();
}

std::string ServerStream::DescribeTransfer() const {
  char text[200];
  snprintf(text, sizeof text, "server: seed %u ends by %u after %lu, %lu received%s, %lu sent%s",
           plan_.seed, static_cast<uint32_t>(plan_.end), plan_.amount, received_,
           all_received_ ? " and the end" : "", sent_, shut_down_ ? " and the end" : "");
  return text;
}

int Listen(uint16_t port) {
  const int fd = SmallSocket();
  const sockaddr_in address = Loopback(port);
  Check(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
  Check(listen(fd, 200), "listen");
  return fd;
}

class Server {
 public:
  explicit Server(uint16_t port) {
    AddListener(port, EPOLLIN);
    AddListener(static_cast<uint16_t>(port + 1), EPOLLIN | EPOLLET);
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, nullptr);
    set_.Add(Check(signalfd(-1, &term, SFD_NONBLOCK), "signalfd"), EPOLLIN | EPOLLET,
             [this](uint32_t) { ending_ = true; });
  }

  void Run() {
    puts("listening");
    fflush(stdout);
    while (!ending_ || !streams_.empty()) {
      set_.Wait();
      DestroyEnded(streams_);
      TellOfIdle();
    }
  }

 private:
  void AddListener(uint16_t port, uint32_t events) {
    const int fd = Listen(port);
    set_.Add(fd, events, [this, fd, events](uint32_t) {
      while (AcceptOne(fd) && (events & EPOLLET) != 0) continue;
    });
  }

  bool AcceptOne(int listener) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd == -1 && errno == EAGAIN) return false;
    streams_.push_back(std::make_unique<ServerStream>(&set_, &random_, Check(fd, "accept4")));
    return true;
  }

  void TellOfIdle() {
    for (const auto& stream : streams_) {
      auto& server_stream = static_cast<ServerStream&>(*stream);
      if (server_stream.told || stream->idle() < kPatience) continue;
      server_stream.told = true;
      fprintf(stderr, "no progress: %s\n", stream->Describe().c_str());
    }
  }

  EpollSet set_;
  Random random_{1};
  EpollStreams streams_;
  bool ending_ = false;
};

}  // namespace
}  // namespace rump

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  rump::Server(static_cast<uint16_t>(atoi(argv[1]))).Run();
}
