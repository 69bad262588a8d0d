// The cheapest system call of a rump kernel server: prints the microseconds that getpid takes a
// client of the server at RUMP_SERVER.
#include <stdio.h>
#include <stdlib.h>

#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/bench/stopwatch.h"

namespace {

bool Call(int times) {
  for (int i = 0; i < times; ++i) {
    if (rump_sys_getpid() <= 0) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const int calls = argc == 2 ? atoi(argv[1]) : 0;
  if (calls <= 0) {
    fprintf(stderr, "usage: null_call_bench CALLS\n");
    return 2;
  }
  if (rumpclient_init() != 0) return 1;
  const bool warm = Call(calls / 10);
  const rump::Stopwatch watch;
  if (!warm || !Call(calls)) {
    perror("rump_sys_getpid");
    return 1;
  }
  printf("%.3f\n", watch.Micros() / calls);
  return 0;
}
