// Many processes with many threads on one server, killed at random: no wrong answer, and nothing of
// the dead is left.
//
// As a test it runs for kDuration; `stress_test --seconds N` runs longer.
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kProcesses = 32;
constexpr int kThreads = 8;
constexpr std::chrono::milliseconds kKillEvery{100};
constexpr std::chrono::seconds kDuration{60};
// What a client's exit status says.
constexpr int kWrongAnswer = 3;

[[noreturn]] void Wrong(const char* what) {
  fprintf(stderr, "wrong answer: %s (errno %s)\n", what, strerror(errno));
  _exit(kWrongAnswer);
}

// One round of calls whose answers are known.
void MixedCalls(std::mt19937& random, pid_t pid) {
  if (rump_sys_getpid() != pid) Wrong("getpid");
  int ends[2];
  if (rump_sys_pipe(ends) != 0) Wrong("pipe");
  std::string out(1 + random() % 60'000, '\0');
  for (char& c : out) c = static_cast<char>(random());
  std::string in(out.size(), '\0');
  if (rump_sys_write(ends[1], out.data(), out.size()) != static_cast<ssize_t>(out.size())) {
    Wrong("write");
  }
  size_t got = 0;
  while (got < in.size()) {
    const ssize_t n = rump_sys_read(ends[0], in.data() + got, in.size() - got);
    if (n <= 0) Wrong("read");
    got += static_cast<size_t>(n);
  }
  if (in != out) Wrong("bytes of a pipe");
  if (rump_sys_close(ends[0]) != 0 || rump_sys_close(ends[1]) != 0) Wrong("close");
  if (rump_sys_read(-1, in.data(), 1) != -1 || errno != EBADF) Wrong("read of nothing");

  const int fd = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) Wrong("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (rump_sys_bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      rump_sys_listen(fd, 1) != 0 ||
      rump_sys_getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    Wrong("bind, listen, getsockname");
  }
  const int client = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
  if (rump_sys_connect(client, reinterpret_cast<sockaddr*>(&address), size) != 0) Wrong("connect");
  const int server = rump_sys_accept(fd, nullptr, nullptr);
  if (server < 0) Wrong("accept");
  if (rump_sys_write(client, out.data(), 1) != 1 || rump_sys_read(server, in.data(), 1) != 1 ||
      in[0] != out[0]) {
    Wrong("byte of a connection");
  }
  for (const int each : {fd, client, server}) {
    if (rump_sys_close(each) != 0) Wrong("close of a socket");
  }
}

[[noreturn]] void RunClient() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (rumpclient_init() != 0) Wrong("rumpclient_init");
  const pid_t pid = rump_sys_getpid();
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([pid, i] {
      std::mt19937 random(static_cast<unsigned>(getpid() * kThreads + i));
      for (;;) MixedCalls(random, pid);
    });
  }
  for (std::thread& thread : threads) thread.join();
  _exit(0);
}

pid_t Start(std::vector<std::string> args) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  perror(argv[0]);
  _exit(127);
}

std::string OutputOf(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  size_t n;
  while ((n = fread(buffer, 1, sizeof buffer, pipe)) > 0) output.append(buffer, n);
  pclose(pipe);
  return output;
}

// What the server's kernel holds, as `rump stats --json` tells it: one line for each.
std::string HeldObjects() {
  std::istringstream statistics(OutputOf("tools/rump stats --json 2>/dev/null"));
  std::string held;
  for (std::string line; std::getline(statistics, line);) {
    for (const char* name : {"processes", "objects", "fd_entries", "memory"}) {
      if (line.starts_with(" \"" + std::string(name) + "\":")) held += line + '\n';
    }
  }
  return held;
}

size_t OpenFds(pid_t pid) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
    ++count;
  }
  return count;
}

size_t ResidentKiB(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoul(line.substr(6));
  }
  return 0;
}

int RunStress(const std::string& self, std::chrono::seconds duration) {
  char folder[] = "/tmp/rhXXXXXX";
  if (mkdtemp(folder) == nullptr) return 1;
  const std::string url = std::string("unix://") + folder + "/s";
  setenv("RUMP_SERVER", url.c_str(), 1);
  const pid_t server = Start({"sp_server/rump_server", "-s", url});
  const std::string ps = "tools/rump ps 2>/dev/null";
  while (OutputOf(ps).empty()) {
    if (waitpid(server, nullptr, WNOHANG) != 0) return 1;
  }
  const std::string idle_report = OutputOf(ps);
  const std::string idle_objects = HeldObjects();
  const size_t idle_fds = OpenFds(server);

  std::vector<pid_t> clients;
  for (int i = 0; i < kProcesses; ++i) clients.push_back(Start({self, "--client"}));
  std::mt19937 random(1);
  int killed = 0;
  int wrong = 0;
  size_t early_memory = 0;
  const auto reap = [&](pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status)) ++wrong;
  };
  const auto begin = Clock::now();
  for (auto next = begin + kKillEvery; Clock::now() - begin < duration; next += kKillEvery) {
    std::this_thread::sleep_until(next);
    pid_t& victim = clients[random() % clients.size()];
    kill(victim, SIGKILL);
    reap(victim);
    ++killed;
    victim = Start({self, "--client"});
    if (early_memory == 0 && Clock::now() - begin > duration / 4)
      early_memory = ResidentKiB(server);
  }
  const size_t late_memory = ResidentKiB(server);
  for (const pid_t client : clients) {
    kill(client, SIGKILL);
    reap(client);
  }
  // The server reads of the last ends in its own time, but reads them it must.
  bool clean = false;
  for (const auto patience = Clock::now() + std::chrono::seconds(20);
       !clean && Clock::now() < patience;) {
    clean =
        OutputOf(ps) == idle_report && HeldObjects() == idle_objects && OpenFds(server) <= idle_fds;
  }
  printf(
      "%d clients killed, %d wrong; server's memory %zu KiB after a quarter, %zu KiB at the end; "
      "%zu descriptors idle, %zu at the end\n%s%s",
      killed, wrong, early_memory, late_memory, idle_fds, OpenFds(server), OutputOf(ps).c_str(),
      HeldObjects().c_str());
  kill(server, SIGTERM);
  int status = 0;
  waitpid(server, &status, 0);
  rmdir(folder);
  // A third more covers what the allocator keeps between the peaks of different moments.
  const bool flat = late_memory < early_memory + early_memory / 3 + 8192;
  if (!clean) puts("FAILED: something of the killed is left");
  if (!flat) puts("FAILED: the server's memory grows");
  if (status != 0) printf("FAILED: the server ended with status %d\n", status);
  return wrong == 0 && clean && flat && status == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "--client") RunClient();
  std::chrono::seconds duration = kDuration;
  if (mode == "--seconds" && argc > 2) duration = std::chrono::seconds(atoi(argv[2]));
  return RunStress(std::filesystem::read_symlink("/proc/self/exe"), duration);
}
