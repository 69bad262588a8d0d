#include "tests/programs/epoll_load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <iterator>
#include <utility>

namespace rump {
namespace {

constexpr uint32_t kBoth = EPOLLIN | EPOLLOUT | EPOLLRDHUP;

}  // namespace

void Fail(const std::string& what) {
  fprintf(stderr, "%s\n", what.c_str());
  _exit(1);
}

int Check(int result, const char* what) {
  if (result == -1) Fail(std::string(what) + ": " + strerror(errno));
  return result;
}

int SmallSocket() {
  const int fd = Check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
  // Linux retries ever later when segments do not fit into the other end's buffer.
  constexpr int kSegment = 1000, kBuffer = 8192;
  Check(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &kSegment, sizeof kSegment), "TCP_MAXSEG");
  Check(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kBuffer, sizeof kBuffer), "SO_SNDBUF");
  Check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kBuffer, sizeof kBuffer), "SO_RCVBUF");
  return fd;
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

uint64_t Plan::sent() const {
  if (end == End::kWhole) return amount;
  if (end == End::kHalf) return 2 * amount;
  return UINT64_MAX;
}

char ByteAt(const Plan& plan, uint64_t offset) {
  constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15;
  return static_cast<char>(((uint64_t{plan.seed} << 32 ^ offset) * kMultiplier) >> 56);
}

void CheckBytes(const Plan& plan, uint64_t offset, const char* bytes, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    if (bytes[i] == ByteAt(plan, offset + i)) continue;
    Fail("seed " + std::to_string(plan.seed) + ": byte " + std::to_string(offset + i) +
         " is wrong, the " + std::to_string(i) + "th of " + std::to_string(size) + " in one read");
  }
}

EpollSet::EpollSet() : epoll_(Check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}

uint64_t EpollSet::Add(int fd, uint32_t events, Handler handler) {
  const uint64_t key = ++last_key_;
  epoll_event event{.events = events, .data = {.u64 = key}};
  Check(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), "EPOLL_CTL_ADD");
  handlers_.emplace(key, std::move(handler));
  return key;
}

void EpollSet::Modify(int fd, uint64_t key, uint32_t events) {
  epoll_event event{.events = events, .data = {.u64 = key}};
  Check(epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event), "EPOLL_CTL_MOD");
}

void EpollSet::Wait() {
  // Fewer than there are descriptors: what is ready has to wait for its turn.
  epoll_event events[4];
  int n = epoll_wait(epoll_, events, std::size(events), 1000);
  // A process that has been stopped and goes on, or frozen, sees that too (signal(7)).
  if (n == -1 && errno == EINTR) n = 0;
  Check(n, "epoll_wait");
  for (int i = 0; i < n; ++i) {
    const auto handler = handlers_.find(events[i].data.u64);
    if (handler == handlers_.end()) Fail("an event of a descriptor that has been closed");
    handler->second(events[i].events);
  }
}

EpollStream::EpollStream(EpollSet* set, Random* random, int fd)
    : set_(set),
      random_(random),
      fd_(fd),
      trigger_(static_cast<Trigger>(Below(*random, 3))),
      timer_(Check(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), "timerfd_create")) {
  const uint32_t timer_events = Below(*random, 2) == 0 ? EPOLLIN : EPOLLIN | EPOLLET;
  timer_key_ = set_->Add(timer_, timer_events, [this](uint32_t) { OnTimer(); });
  SetTimer();
  armed_ = kBoth | TriggerFlag();
  key_ = set_->Add(fd_, armed_, [this](uint32_t events) { OnEvents(events); });
}

EpollStream::~EpollStream() {
  set_->Forget(key_);
  set_->Forget(timer_key_);
  close(timer_);
  close(fd_);
}

std::string EpollStream::Describe() const {
  constexpr const char* kTriggers[] = {"level-triggered", "edge-triggered", "one-shot"};
  pollfd now{.fd = fd_, .events = POLLIN | POLLOUT | POLLRDHUP, .revents = 0};
  poll(&now, 1, 0);
  int unread = 0;
  ioctl(fd_, FIONREAD, &unread);
  char text[300];
  snprintf(
      text, sizeof text,
      "%s, armed 0x%x, poll says 0x%x, %d bytes to read, %s, %s%s, idle for %ld ms",
      kTriggers[static_cast<int>(trigger_)], armed_, now.revents, unread,
      readable_ ? "readable" : "not readable", writable_ ? "writable" : "not writable",
      paused_ ? ", paused" : "",
      static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(idle()).count()));
  return DescribeTransfer() + "; " + text;
}

ssize_t EpollStream::Read(char* bytes, size_t size) {
  const ssize_t n = read(fd_, bytes, size);
  // A short read has emptied the socket, so that there will be an edge: unless that has been the
  // end's.
  if (n < 0 || (n < static_cast<ssize_t>(size) && !hung_up_)) readable_ = false;
  if (n >= 0) last_progress_ = std::chrono::steady_clock::now();
  return n;
}

ssize_t EpollStream::Write(const char* bytes, size_t size) {
  const ssize_t n = write(fd_, bytes, size);
  if (n < static_cast<ssize_t>(size)) writable_ = false;
  if (n >= 0) last_progress_ = std::chrono::steady_clock::now();
  return n;
}

void EpollStream::ShutDown() { Check(shutdown(fd_, SHUT_WR), "shutdown"); }

void EpollStream::Reset() {
  const linger reset{.l_onoff = 1, .l_linger = 0};
  Check(setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "SO_LINGER");
  Finish();
}

void EpollStream::Broken(bool allowed) {
  if (errno == EAGAIN) return;
  if (!allowed || (errno != ECONNRESET && errno != EPIPE)) {
    Fail(strerror(errno) + std::string(": ") + Describe());
  }
  Finish();
}

uint32_t EpollStream::TriggerFlag() const {
  if (trigger_ == Trigger::kEdge) return EPOLLET;
  return trigger_ == Trigger::kOneShot ? uint32_t{EPOLLONESHOT} : 0;
}

void EpollStream::OnEvents(uint32_t events) {
  if ((events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0) hung_up_ = true;
  // These are told again and again while nobody reads.
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) paused_ = false;
  if ((events & ~uint32_t{EPOLLOUT}) != 0) readable_ = true;
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) writable_ = true;
  if (trigger_ == Trigger::kOneShot) armed_ = EPOLLONESHOT;
  Turn();
}

void EpollStream::OnTimer() {
  uint64_t expirations = 0;
  Check(static_cast<int>(read(timer_, &expirations, sizeof expirations)), "read of a timerfd");
  paused_ = !paused_ && !hung_up_;
  SetTimer();
  Turn();
}

void EpollStream::SetTimer() {
  constexpr uint32_t kLongest = 40'000'000;
  const itimerspec when{.it_interval = {},
                        .it_value = {.tv_sec = 0, .tv_nsec = 1 + Below(*random_, kLongest)}};
  Check(timerfd_settime(timer_, 0, &when, nullptr), "timerfd_settime");
}

void EpollStream::Turn() {
  // Who is not told again of what is left goes on to the end.
  while (!ended_ && MoveOnce() && trigger_ == Trigger::kEdge) continue;
  if (trigger_ != Trigger::kEdge) readable_ = writable_ = false;
  if (!ended_) Rearm();
}

bool EpollStream::MoveOnce() {
  const bool read = readable_ && !paused_ && WantsToRead();
  if (read) ReadOnce();
  const bool write = !ended_ && writable_ && WantsToWrite();
  if (write) WriteOnce();
  return read || write;
}

void EpollStream::Rearm() {
  if (trigger_ == Trigger::kEdge) return;
  uint32_t events = TriggerFlag();
  if (!paused_ && WantsToRead()) events |= EPOLLIN | EPOLLRDHUP;
  if (WantsToWrite()) events |= EPOLLOUT;
  if (events == armed_) return;
  set_->Modify(fd_, key_, events);
  armed_ = events;
}

void DestroyEnded(EpollStreams& streams) {
  std::erase_if(streams, [](const auto& stream) { return stream->ended(); });
}

}  // namespace rump
