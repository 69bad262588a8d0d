// Many bulk streams from one process to another, and beside them a byte that goes back and forth
// between two more. Knows nothing of hijacking, as socket_bench. Prints Jain's index of the bytes
// that arrived by each stream in SECONDS (1 if all had as many), the 99th percentile of the byte's
// round trips in milliseconds, and what arrived in megabytes (10^6) a second.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "tests/bench/loopback.h"
#include "tests/bench/stopwatch.h"

namespace {

using rump::Accept;
using rump::Check;
using rump::EchoUntilEnd;
using rump::Fork;
using rump::Join;
using rump::NoDelay;
using rump::Port;
using rump::Stopwatch;

constexpr size_t kPiece = 64 * 1024;
constexpr double kMicrosPerSecond = 1e6;

void AllowDescriptors() {
  rlimit limit;
  Check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
  limit.rlim_cur = limit.rlim_max;
  Check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

// Waits for its sockets together; none of them blocks.
class Streams {
 public:
  Streams() : epoll_(Check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}

  void Add(int fd, uint32_t direction) {
    Check(fcntl(fd, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
    epoll_event event{.events = direction, .data = {.fd = fd}};
    Check(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    ready_.resize(ready_.size() + 1);
  }

  // Calls `serve` once for each socket that is ready.
  template <typename Serve>
  void ServeReady(Serve serve) {
    const int count = epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()), 100);
    if (count < 0 && errno != EINTR) Check(count, "epoll_wait");
    for (int i = 0; i < count; ++i) serve(ready_[static_cast<size_t>(i)].data.fd);
  }

 private:
  int epoll_;
  std::vector<epoll_event> ready_;
};

// Sends until the receiver ends.
void SendOn(Port port, int count) {
  signal(SIGPIPE, SIG_IGN);
  port.Wait();
  Streams streams;
  for (int i = 0; i < count; ++i) streams.Add(port.Connect(), EPOLLOUT);
  const std::vector<char> data(kPiece, 'x');
  bool over = false;
  while (!over) {
    streams.ServeReady([&](int fd) {
      over |= write(fd, data.data(), data.size()) < 0 && errno != EAGAIN && errno != EINTR;
    });
  }
}

// Round trips of a byte until `micros` have passed: the 99th percentile, in milliseconds.
double EchoPercentile(int fd, double micros) {
  std::vector<double> trips;
  const Stopwatch all;
  while (all.Micros() < micros) {
    const Stopwatch trip;
    char byte = 'x';
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) Check(-1, "echo");
    trips.push_back(trip.Micros() / 1000);
  }
  const auto percentile = trips.begin() + static_cast<ptrdiff_t>(trips.size() * 99 / 100);
  std::nth_element(trips.begin(), percentile, trips.end());
  return *percentile;
}

double Jain(const std::vector<double>& values) {
  double sum = 0;
  double squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  return squares == 0 ? 0 : sum * sum / (static_cast<double>(values.size()) * squares);
}

struct Results {
  double jain;
  double megabytes_per_second;
};

// Receives for as long to get going as it then counts.
Results Receive(int listener, int count, double micros, int go) {
  Streams streams;
  for (int i = 0; i < count; ++i) streams.Add(Accept(listener), EPOLLIN);
  std::vector<char> data(kPiece);
  std::vector<double> bytes;
  const auto receive_until_passed = [&] {
    const Stopwatch watch;
    while (watch.Micros() < micros) {
      streams.ServeReady([&](int fd) {
        const ssize_t n = read(fd, data.data(), data.size());
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) Check(-1, "a stream");
        if (n <= 0) return;
        const auto index = static_cast<size_t>(fd);
        if (bytes.size() <= index) bytes.resize(index + 1);
        bytes[index] += static_cast<double>(n);
      });
    }
    return watch.Micros();
  };
  receive_until_passed();
  bytes.clear();
  Check(static_cast<int>(write(go, "", 1)), "write");
  const double passed = receive_until_passed();
  // The numbers of no stream, and those of streams without bytes.
  std::erase(bytes, 0);
  double total = 0;
  for (const double value : bytes) total += value;
  bytes.resize(static_cast<size_t>(count));
  return {.jain = Jain(bytes), .megabytes_per_second = total / passed};
}

void Run(int count, double micros) {
  AllowDescriptors();
  Port bulk;
  Port echo;
  int go[2];
  int result[2];
  Check(pipe(go), "pipe");
  Check(pipe(result), "pipe");
  const pid_t echo_server = Fork([&] {
    const int fd = Accept(echo.Listen());
    NoDelay(fd);
    EchoUntilEnd(fd);
  });
  const pid_t echo_client = Fork([&] {
    echo.Wait();
    const int fd = echo.Connect();
    NoDelay(fd);
    char byte;
    if (read(go[0], &byte, 1) != 1) _exit(1);
    const double percentile = EchoPercentile(fd, micros);
    Check(static_cast<int>(write(result[1], &percentile, sizeof percentile)), "write");
  });
  const pid_t sender = Fork([&] { SendOn(bulk, count); });
  int received[2];
  Check(pipe(received), "pipe");
  const pid_t receiver = Fork([&] {
    const Results results = Receive(bulk.Listen(), count, micros, go[1]);
    Check(static_cast<int>(write(received[1], &results, sizeof results)), "write");
  });
  Join(receiver);
  Join(sender);
  Join(echo_client);
  Join(echo_server);
  Results results;
  double percentile = 0;
  if (read(received[0], &results, sizeof results) != sizeof results ||
      read(result[0], &percentile, sizeof percentile) != sizeof percentile) {
    Check(-1, "results");
  }
  printf("%.4f %.3f %.1f\n", results.jain, percentile, results.megabytes_per_second);
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc == 3 ? atoi(argv[1]) : 0;
  const double seconds = argc == 3 ? atof(argv[2]) : 0;
  if (count < 1 || seconds <= 0) {
    fprintf(stderr, "usage: fairness_bench STREAMS SECONDS\n");
    return 2;
  }
  Run(count, seconds * kMicrosPerSecond);
  return 0;
}
