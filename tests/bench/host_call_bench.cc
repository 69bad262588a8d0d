// What the preload library costs a system call that is none of its business: read(2) of one byte of
// /dev/zero, timed in children that run with and without it, by turns. The bar is 10 ns.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace {

constexpr int kRuns = 15;
constexpr int kBatches = 40;
constexpr int kReads = 20'000;

double Now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// The child: prints the ns per read of its fastest batch.
int TimeReads() {
  const int fd = open("/dev/zero", O_RDONLY);
  double best = 1e18;
  for (int batch = 0; batch < kBatches; ++batch) {
    char byte;
    const double start = Now();
    for (int i = 0; i < kReads; ++i) {
      if (read(fd, &byte, 1) != 1) return 1;
    }
    best = std::min(best, (Now() - start) / kReads);
  }
  printf("%.2f\n", best);
  return 0;
}

double RunChild(const char* self, const std::string& environment) {
  const std::string command = environment + " " + self + " --child";
  FILE* out = popen(command.c_str(), "r");
  double ns = -1;
  if (out == nullptr || fscanf(out, "%lf", &ns) != 1) ns = -1;
  if (out != nullptr && pclose(out) != 0) ns = -1;
  return ns;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--child") == 0) return TimeReads();
  if (argc != 2) {
    fprintf(stderr, "usage: %s path/to/librumphijack.so\n", argv[0]);
    return 2;
  }
  char library[4096];
  if (realpath(argv[1], library) == nullptr) {
    perror(argv[1]);
    return 1;
  }
  double plain = 1e18;
  double preloaded = 1e18;
  for (int run = 0; run < kRuns; ++run) {
    const double a = RunChild(argv[0], "");
    const double b = RunChild(argv[0], std::string("LD_PRELOAD=") + library);
    if (a < 0 || b < 0) return 1;
    plain = std::min(plain, a);
    preloaded = std::min(preloaded, b);
  }
  printf("read(2): %.1f ns plain, %.1f ns preloaded, %+.1f ns\n", plain, preloaded,
         preloaded - plain);
  return 0;
}
