// What exec_test.cc's programs turn into: exec_program WHAT ARGUMENT...
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"

extern char** environ;

namespace {

void Check(bool good, const char* what) {
  if (good) return;
  fprintf(stderr, "exec_program: %s: %s\n", what, strerror(errno));
  _exit(1);
}

void* ReadForEver(void* fd) {
  char c;
  rump_sys_read(*static_cast<int*>(fd), &c, 1);
  // The next program starts clean: this thread is not in it.
  _exit(3);
}

void* CallForEver(void*) {
  for (;;) rump_sys_getpid();
}

// chain TIMES PID READER WRITER SILENT: execs itself until TIMES is 0, every time from below a pool
// of threads that are in calls, most of them in reads of SILENT.
int Chain(const std::vector<std::string>& args) {
  const int times = std::stoi(args[0]);
  const int reader = std::stoi(args[2]);
  const int writer = std::stoi(args[3]);
  int silent = std::stoi(args[4]);
  Check(getenv("RUMPCLIENT__EXECFD") == nullptr, "RUMPCLIENT__EXECFD is taken out");
  Check(getenv("RUMP__PARSEDSERVER") == nullptr, "RUMP__PARSEDSERVER is taken out");
  Check(rump_sys_getpid() == std::stoi(args[1]), "the process is the same");
  char c = 0;
  Check(rump_sys_write(writer, "x", 1) == 1 && rump_sys_read(reader, &c, 1) == 1 && c == 'x',
        "the descriptors are the same");
  if (times == 0) return 0;
  constexpr int kBlocked = 56;
  constexpr int kBusy = 8;
  for (int i = 0; i < kBlocked + kBusy; ++i) {
    pthread_t thread;
    Check(pthread_create(&thread, nullptr, i < kBlocked ? ReadForEver : CallForEver, &silent) == 0,
          "pthread_create");
  }
  for (int i = 0; i < 50; ++i) rump_sys_getpid();
  const std::string left = std::to_string(times - 1);
  const char* const argv[] = {"exec_program",  "chain",         left.c_str(),    args[1].c_str(),
                              args[2].c_str(), args[3].c_str(), args[4].c_str(), nullptr};
  rumpclient_exec("/proc/self/exe", const_cast<char**>(argv), environ);
  Check(false, "rumpclient_exec");
  return 1;
}

// open FD...: which of these are open, as a status with a bit for each.
int Open(const std::vector<std::string>& fds) {
  int open = 0;
  for (size_t i = 0; i < fds.size(); ++i) {
    const uint64_t args[] = {static_cast<uint64_t>(std::stoi(fds[i])), F_GETFD, 0};
    long retval[2];
    if (rumpclient_syscall(SYS_fcntl, args, sizeof args, retval) == 0) open |= 1 << i;
  }
  return open;
}

// mask: 0 if no signal is blocked.
int Mask() {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, nullptr, &mask);
  return sigisemptyset(&mask) ? 0 : 1;
}

// own: 0 if the library's descriptor, the only one that is high, is closed by a plain exec.
int Own() {
  constexpr int kLowest = 1000;
  int fd = kLowest;
  while (fd < 2 * kLowest && fcntl(fd, F_GETFD) == -1) ++fd;
  return fcntl(fd, F_GETFD) == FD_CLOEXEC ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 2, argv + argc);
  Check(rumpclient_init() == 0, "rumpclient_init");
  const std::string_view what = argv[1];
  if (what == "chain") return Chain(args);
  if (what == "open") return Open(args);
  if (what == "mask") return Mask();
  if (what == "own") return Own();
  if (what == "pid") return rump_sys_getpid() == std::stoi(args[0]) ? 0 : 1;
  return 2;
}
