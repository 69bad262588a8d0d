// What the preload library costs a program that does nothing: /bin/true with and without it, by
// turns. The bar is 250 us.
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/bench/stopwatch.h"

namespace {

constexpr int kUsualRuns = 400;

// Microseconds from the start to the end of /bin/true, or -1.
double RunTrue(char* const* environment) {
  char program[] = "/bin/true";
  char* const arguments[] = {program, nullptr};
  const rump::Stopwatch stopwatch;
  pid_t child = -1;
  int status = -1;
  if (posix_spawn(&child, program, nullptr, nullptr, arguments, environment) != 0) return -1;
  if (waitpid(child, &status, 0) != child || status != 0) return -1;
  return stopwatch.Micros();
}

// The time that a tenth of the runs stays below: what others do on the machine is in the rest.
double Typical(std::vector<double> values) {
  const auto tenth = values.begin() + static_cast<ptrdiff_t>(values.size() / 10);
  std::nth_element(values.begin(), tenth, values.end());
  return *tenth;
}

}  // namespace

int main(int argc, char** argv) {
  char library[4096];
  const int runs = argc > 2 ? atoi(argv[2]) : kUsualRuns;
  if (argc < 2 || runs < 1 || realpath(argv[1], library) == nullptr) {
    fprintf(stderr, "usage: %s path/to/librumphijack.so [RUNS]\n", argv[0]);
    return 2;
  }
  std::string preload = std::string("LD_PRELOAD=") + library;
  const char* const entry = getenv("RUMPHIJACK_ENTRY");
  std::string entry_setting = std::string("RUMPHIJACK_ENTRY=") + (entry == nullptr ? "" : entry);
  char* const plain_environment[] = {entry_setting.data(), nullptr};
  char* const environment[] = {preload.data(), entry_setting.data(), nullptr};
  std::vector<double> plain;
  std::vector<double> preloaded;
  for (int run = 0; run < runs; ++run) {
    plain.push_back(RunTrue(plain_environment));
    preloaded.push_back(RunTrue(environment));
    if (plain.back() < 0 || preloaded.back() < 0) return 1;
  }
  printf("/bin/true: %.1f us plain, %.1f us preloaded, %+.1f us\n", Typical(plain),
         Typical(preloaded), Typical(preloaded) - Typical(plain));
  return 0;
}
