// Sockets between two processes, timed. The program knows nothing of hijacking: run.sh runs it
// natively and under `rump run`. Prints one number.
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string_view>
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

constexpr size_t kStreamWrite = 64 * 1024;
constexpr size_t kStreamRead = 256 * 1024;
// Bulk programs have their buffers on pages; off them, the copies of the kernel are slower.
struct alignas(4096) Page {
  char bytes[4096];
};

void PingPong(int fd, int rounds) {
  char byte = 'x';
  for (int i = 0; i < rounds; ++i) {
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) {
      perror("ping-pong");
      exit(1);
    }
  }
}

double TimePingPong(int fd, int rounds) {
  PingPong(fd, rounds / 10);
  const Stopwatch watch;
  PingPong(fd, rounds);
  return watch.Micros() / rounds;
}

// Microseconds per round trip of a byte over a unix socket pair.
double Pair(int rounds) {
  int ends[2];
  Check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
  const pid_t pid = Fork([&] {
    close(ends[0]);
    EchoUntilEnd(ends[1]);
  });
  close(ends[1]);
  const double micros = TimePingPong(ends[0], rounds);
  close(ends[0]);
  Join(pid);
  return micros;
}

// Microseconds per round trip of a byte over TCP.
double Echo(int rounds) {
  Port port;
  const pid_t pid = Fork([&] {
    port.Wait();
    const int fd = port.Connect();
    NoDelay(fd);
    EchoUntilEnd(fd);
  });
  const int listener = port.Listen();
  const int fd = Accept(listener);
  NoDelay(fd);
  const double micros = TimePingPong(fd, rounds);
  close(fd);
  Join(pid);
  return micros;
}

// Microseconds per connection: connect, accept, close, and the other side's close.
double Connect(int connections) {
  Port port;
  const pid_t pid = Fork([&] {
    port.Wait();
    for (int i = 0; i < connections; ++i) {
      const int fd = port.Connect();
      char byte;
      if (read(fd, &byte, 1) != 0) _exit(1);
      close(fd);
    }
  });
  const int listener = port.Listen();
  close(Accept(listener));
  const Stopwatch watch;
  for (int i = 1; i < connections; ++i) close(Accept(listener));
  Join(pid);
  return watch.Micros() / (connections - 1);
}

void Send(int fd, int mebibytes) {
  const std::vector<Page> data(kStreamWrite / sizeof(Page));
  for (size_t left = static_cast<size_t>(mebibytes) << 20; left > 0;) {
    left -=
        static_cast<size_t>(Check(static_cast<int>(write(fd, data.data(), kStreamWrite)), "write"));
  }
  close(fd);
}

// Megabytes (10^6) per second that arrive from `sender`, which sends so many mebibytes.
double Receive(int fd, int mebibytes, pid_t sender) {
  std::vector<Page> data(kStreamRead / sizeof(Page));
  const Stopwatch watch;
  size_t total = 0;
  for (ssize_t n; (n = Check(static_cast<int>(read(fd, data.data(), kStreamRead)), "read")) > 0;) {
    total += static_cast<size_t>(n);
  }
  const double micros = watch.Micros();
  Join(sender);
  if (total != static_cast<size_t>(mebibytes) << 20) {
    fprintf(stderr, "%zu bytes arrived\n", total);
    exit(1);
  }
  return static_cast<double>(total) / micros;
}

// One TCP stream.
double Stream(int mebibytes) {
  Port port;
  const pid_t pid = Fork([&] {
    port.Wait();
    Send(port.Connect(), mebibytes);
  });
  const int listener = port.Listen();
  return Receive(Accept(listener), mebibytes, pid);
}

// One stream over a unix socket pair: what no direct pair can be faster than.
double PairStream(int mebibytes) {
  int ends[2];
  Check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
  const pid_t pid = Fork([&] {
    close(ends[0]);
    Send(ends[1], mebibytes);
  });
  close(ends[1]);
  return Receive(ends[0], mebibytes, pid);
}

struct Benchmark {
  std::string_view name;
  double (*run)(int count);
};
constexpr Benchmark kBenchmarks[] = {{"pair", Pair},
                                     {"echo", Echo},
                                     {"connect", Connect},
                                     {"stream", Stream},
                                     {"pair_stream", PairStream}};

}  // namespace

int main(int argc, char** argv) {
  const int count = argc == 3 ? atoi(argv[2]) : 0;
  for (const Benchmark& benchmark : kBenchmarks) {
    if (count < 2 || argv[1] != benchmark.name) continue;
    printf("%.3f\n", benchmark.run(count));
    return 0;
  }
  fprintf(stderr, "usage: socket_bench pair|echo|connect ROUNDS | stream|pair_stream MEBIBYTES\n");
  return 2;
}
