// pthread_cancel(3) of threads that are in socket calls: pthreads(7), "Cancellation points".
#include <pthread.h>
#include <stdio.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <string>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// Whether thread `tid` of this process sleeps in a system call.
bool Sleeps(pid_t tid) {
  std::ifstream stat("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string line;
  std::getline(stat, line);
  const size_t name_end = line.rfind(')');
  return name_end != std::string::npos && line.substr(name_end, 3) == ") S";
}

// A thread that can be cancelled.
class Thread {
 public:
  explicit Thread(std::function<void()> body) : body_(std::move(body)) {
    EXPECT_EQ(pthread_create(&thread_, nullptr, Run, this), 0);
  }

  // Cancels it, when it sleeps if `sleeping`, and waits for its end.
  void Cancel(bool sleeping) {
    while (sleeping && !Sleeps(tid_)) sched_yield();
    EXPECT_EQ(pthread_cancel(thread_), 0);
    void* result = nullptr;
    EXPECT_EQ(pthread_join(thread_, &result), 0);
    EXPECT_EQ(result, PTHREAD_CANCELED);
    EXPECT_TRUE(unwound_);
  }

 private:
  struct Unwinding {
    std::atomic<bool>* done;
    ~Unwinding() { *done = true; }
  };

  static void* Run(void* self) {
    auto* const thread = static_cast<Thread*>(self);
    const Unwinding unwinding{&thread->unwound_};
    thread->tid_ = gettid();
    thread->body_();
    return nullptr;
  }

  const std::function<void()> body_;
  pthread_t thread_{};
  std::atomic<pid_t> tid_{0};
  std::atomic<bool> unwound_{false};
};

Fd BoundUdp() {
  Fd fd(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in address = Loopback(0);
  EXPECT_THAT(bind(fd.get(), Addr(address), sizeof address), Succeeds());
  return fd;
}

void SendTo(const Fd& from, const Fd& to) {
  const sockaddr_in address = Loopback(PortOf(to));
  EXPECT_EQ(sendto(from.get(), "x", 1, 0, Addr(address), sizeof address), 1);
}

TEST(Cancellation, EndsAWaitForADatagram) {
  const Fd fd = BoundUdp();
  char byte;
  for (const auto& receive : std::initializer_list<std::function<void()>>{
           [&] { (void)recv(fd.get(), &byte, 1, 0); },
           [&] { (void)recvfrom(fd.get(), &byte, 1, 0, nullptr, nullptr); },
           [&] { (void)!read(fd.get(), &byte, 1); },
       }) {
    Thread(receive).Cancel(/*sleeping=*/true);
  }
  SendTo(fd, fd);
  EXPECT_EQ(recv(fd.get(), &byte, 1, 0), 1);
}

TEST(Cancellation, EndsAWaitForAConnection) {
  const Fd listener = Listen();
  Thread([&] { accept(listener.get(), nullptr, nullptr); }).Cancel(/*sleeping=*/true);
  const Fd client = Connect(PortOf(listener));
  const Fd server(accept(listener.get(), nullptr, nullptr));
  EXPECT_TRUE(WriteAll(client.get(), "hello"));
  EXPECT_EQ(ReadExactly(server.get(), 5), "hello");
}

TEST(Cancellation, EndsAWaitForBytes) {
  auto [fd, peer] = TcpPair();
  Thread([fd = fd.get()] { ReadExactly(fd, 1); }).Cancel(/*sleeping=*/true);
  EXPECT_TRUE(WriteAll(peer.get(), "x"));
  EXPECT_EQ(ReadExactly(fd.get(), 1), "x");
}

// Wherever the threads are, nothing of what other threads use may be torn.
TEST(Cancellation, AnywhereLeavesTheSocketUsable) {
  const Fd fd = BoundUdp();
  constexpr int kThreads = 300;
  for (int i = 0; i < kThreads; ++i) {
    std::atomic<int> rounds{0};
    Thread thread([&] {
      char byte;
      for (;;) {
        SendTo(fd, fd);
        (void)recv(fd.get(), &byte, 1, 0);
        ++rounds;
      }
    });
    while (rounds <= i % 4) sched_yield();
    thread.Cancel(/*sleeping=*/false);
    char byte;
    while (recv(fd.get(), &byte, 1, MSG_DONTWAIT) == 1) {
    }
    SendTo(fd, fd);
    ASSERT_EQ(PollFor(fd.get(), POLLIN, kPatience), POLLIN);
    ASSERT_EQ(recv(fd.get(), &byte, 1, 0), 1);
  }
}

}  // namespace
}  // namespace rump
