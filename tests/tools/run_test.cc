// `rump run` as a whole, beside doubles of the library and the server.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string ReadAll(int fd) {
  std::string text;
  char chunk[4096];
  ssize_t n;
  // A terminal whose other side is closed reports EIO.
  while ((n = read(fd, chunk, sizeof(chunk))) > 0) text.append(chunk, static_cast<size_t>(n));
  return text;
}

std::string ReadLine(int fd) {
  std::string line;
  char c;
  while (read(fd, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

// A started rump, with pipes on its standard streams.
struct Running {
  pid_t pid = -1;
  UniqueFd in, out, err;

  int Wait(int options = 0) const {
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, options), pid);
    return status;
  }
};

struct Finished {
  int status = 0;  // as wait(2) has it
  std::string out, err;

  int exit_status() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
};

std::pair<UniqueFd, UniqueFd> Pipe() {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

class RunTest : public ::testing::Test {
 protected:
  using Environment = std::vector<std::pair<std::string, std::string>>;

  RunTest() {
    char name[] = "/tmp/rhXXXXXX";
    directory_ = mkdtemp(name);
    // Copies: rump looks for the others beside itself, not beside what a link points to.
    fs::copy_file("tools/rump", directory_ + "/rump");
    fs::copy_file("tests/tools/rump_server", directory_ + "/rump_server");
    fs::copy_file("tests/tools/librumphijack.so", directory_ + "/librumphijack.so");
    unsetenv("RUMP_SERVER");
    unsetenv("LD_PRELOAD");
  }
  ~RunTest() override { fs::remove_all(directory_); }

  // In the child: does not return.
  [[noreturn]] void ExecRump(std::vector<std::string> words, const Environment& environment) {
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    words.insert(words.begin(), "rump");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    execv((directory_ + "/rump").c_str(), argv.data());
    _exit(99);
  }

  Running Start(const std::vector<std::string>& words, const Environment& environment = {}) {
    auto [in_read, in_write] = Pipe();
    auto [out_read, out_write] = Pipe();
    auto [err_read, err_write] = Pipe();
    Running running;
    running.pid = fork();
    if (running.pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(in_read.get(), STDIN_FILENO);
      dup2(out_write.get(), STDOUT_FILENO);
      dup2(err_write.get(), STDERR_FILENO);
      if (chdir(directory_.c_str()) != 0) _exit(98);
      ExecRump(words, environment);
    }
    running.in = std::move(in_write);
    running.out = std::move(out_read);
    running.err = std::move(err_read);
    return running;
  }

  Finished Run(const std::vector<std::string>& words, const Environment& environment = {}) {
    Running running = Start(words, environment);
    running.in.reset();
    Finished finished;
    finished.out = ReadAll(running.out.get());
    finished.err = ReadAll(running.err.get());
    finished.status = running.Wait();
    return finished;
  }

  Finished RunShell(const std::string& script, const Environment& environment = {}) {
    return Run({"run", "--", "/bin/sh", "-c", script}, environment);
  }

  // Listens on directory_/sock as a server would.
  UniqueFd Listen() {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    (directory_ + "/sock").copy(name.sun_path, sizeof(name.sun_path) - 1);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
    EXPECT_EQ(listen(fd.get(), 8), 0);
    return fd;
  }

  std::string directory_;
};

TEST_F(RunTest, PassesTheExitStatusOn) {
  EXPECT_EQ(RunShell("exit 0").exit_status(), 0);
  EXPECT_EQ(RunShell("exit 7").exit_status(), 7);
}

TEST_F(RunTest, DiesByTheSignalThatTheProgramDiesBy) {
  for (const int signal : {SIGTERM, SIGKILL, SIGINT}) {
    const Finished finished = RunShell("kill -" + std::to_string(signal) + " $$");
    ASSERT_TRUE(WIFSIGNALED(finished.status)) << finished.status;
    EXPECT_EQ(WTERMSIG(finished.status), signal);
  }
}

TEST_F(RunTest, PreloadsTheLibraryBeforeOthers) {
  const std::string library = directory_ + "/librumphijack.so";
  EXPECT_EQ(RunShell("echo $LD_PRELOAD").out, library + "\n");
  EXPECT_EQ(RunShell("echo $LD_PRELOAD", {{"LD_PRELOAD", "libm.so.6"}}).out,
            library + ":libm.so.6\n");
  EXPECT_THAT(RunShell("cat /proc/self/maps").out, HasSubstr(library));
}

TEST_F(RunTest, StandardOutputIsTheProgramsAlone) {
  const Finished finished = RunShell("echo words");
  EXPECT_EQ(finished.out, "words\n");
  EXPECT_EQ(finished.err, "a server's words go to standard error\n");
}

TEST_F(RunTest, ThePrivateServerEndsWithTheProgram) {
  const Finished finished = RunShell(
      "echo ${RUMP_SERVER#unix://}; read pid <${RUMP_SERVER#unix://}.pid; echo $pid; "
      "kill -0 $pid && echo alive");
  const size_t path_end = finished.out.find('\n');
  ASSERT_NE(path_end, std::string::npos) << finished.err;
  const fs::path socket = finished.out.substr(0, path_end);
  const pid_t pid = std::stoi(finished.out.substr(path_end + 1));
  EXPECT_THAT(finished.out, EndsWith("\nalive\n"));
  EXPECT_FALSE(fs::exists(socket.parent_path()));
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(RunTest, ThePrivateServerEndsWhenRumpIsKilled) {
  Running running =
      Start({"run", "--", "/bin/sh", "-c",
             "echo ${RUMP_SERVER#unix://}; cat ${RUMP_SERVER#unix://}.pid; read wait"});
  const fs::path socket = ReadLine(running.out.get());
  const pid_t pid = std::stoi(ReadLine(running.out.get()));
  const UniqueFd server(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  ASSERT_TRUE(server.valid());
  kill(running.pid, SIGKILL);
  EXPECT_TRUE(WIFSIGNALED(running.Wait()));
  pollfd ended = {.fd = server.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&ended, 1, -1), 1);
  fs::remove_all(socket.parent_path());
}

TEST_F(RunTest, PassesSignalsOn) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH}) {
    Running running = Start(
        {"run", "--", "/bin/sh", "-c",
         "trap 'exit 3' " + std::to_string(signal) + "; echo ready; while :; do read x; done"});
    ASSERT_EQ(ReadLine(running.out.get()), "ready");
    kill(running.pid, signal);
    const int status = running.Wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 3) << signal << " " << status;
  }
}

TEST_F(RunTest, StopsAndContinuesWithTheProgram) {
  Running running = Start({"run", "--", "/bin/sh", "-c", "kill -STOP $$; exit 4"});
  ASSERT_TRUE(WIFSTOPPED(running.Wait(WUNTRACED)));
  kill(running.pid, SIGCONT);
  const int status = running.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 4) << status;
}

TEST_F(RunTest, TheTerminalsInterruptIsDeliveredOnce) {
  int terminal;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, nullptr);
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    constexpr char kScript[] =
        "trap 'echo interrupted' INT; trap 'exit 5' USR1; stty -echo; echo ready; "
        "while :; do read x; done";
    ExecRump({"run", "--", "/bin/sh", "-c", kScript}, {});
  }
  const UniqueFd owner(terminal);
  std::string line;
  do {
    line = ReadLine(terminal);
  } while (!line.empty() && line != "ready\r");
  // rump is held until the program has had its interrupt: two at once would look like one.
  kill(pid, SIGSTOP);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  ASSERT_TRUE(WIFSTOPPED(status));
  ASSERT_EQ(write(terminal, "\x03", 1), 1);
  EXPECT_THAT(ReadLine(terminal), EndsWith("interrupted\r"));
  kill(pid, SIGUSR1);
  kill(pid, SIGCONT);
  EXPECT_EQ(ReadAll(terminal), "");
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 5) << status;
}

TEST_F(RunTest, UsesTheServerThatIsNamed) {
  const UniqueFd server = Listen();
  const std::string url = "unix://" + directory_ + "/sock";
  Finished finished = RunShell("echo $RUMP_SERVER", {{"RUMP_SERVER", url}});
  EXPECT_EQ(finished.out, url + "\n") << finished.err;
  // A relative path must outlive a chdir of the program.
  finished = Run({"run", "--server", "unix://sock", "sh", "-c", "echo $RUMP_SERVER"},
                 {{"RUMP_SERVER", "unix:///nonexistent"}});
  EXPECT_EQ(finished.out, url + "\n") << finished.err;
}

TEST_F(RunTest, SaysWhatItUsesIfAsked) {
  const UniqueFd server = Listen();
  const std::string url = "unix://" + directory_ + "/sock";
  const Finished finished = Run({"run", "--server", url, "-v", "/bin/true"});
  EXPECT_EQ(finished.err, "rump run: /bin/true with " + directory_ +
                              "/librumphijack.so on the server at " + url + "\n");
}

TEST_F(RunTest, RefusesServersThatCannotServe) {
  Finished finished = Run({"run", "--server", "tcp://127.0.0.1:1234/", "/bin/true"});
  EXPECT_EQ(finished.exit_status(), 125);
  EXPECT_THAT(finished.err, HasSubstr("cannot be passed over TCP"));

  finished = Run({"run", "/bin/true"}, {{"RUMP_SERVER", "http://example"}});
  EXPECT_EQ(finished.exit_status(), 125);
  EXPECT_THAT(finished.err, HasSubstr("RUMP_SERVER 'http://example'"));

  finished = Run({"run", "/bin/true"}, {{"RUMP_SERVER", "unix:///nonexistent/sock"}});
  EXPECT_EQ(finished.exit_status(), 125);
  EXPECT_THAT(finished.err, HasSubstr("unix:///nonexistent/sock (from RUMP_SERVER)"));
  EXPECT_THAT(finished.err, HasSubstr("No such file or directory"));
}

TEST_F(RunTest, RefusesProgramsThatCannotBeHijacked) {
  Finished finished = Run({"run", "no-such-program"});
  EXPECT_EQ(finished.exit_status(), 127);
  EXPECT_THAT(finished.err, HasSubstr("'no-such-program' is not in any directory of PATH"));

  finished = Run({"run", "/bin/busybox", "true"});
  EXPECT_EQ(finished.exit_status(), 126);
  EXPECT_THAT(finished.err, HasSubstr("/bin/busybox is statically linked"));

  finished = Run({"run", "/etc/passwd"});
  EXPECT_EQ(finished.exit_status(), 126);
  EXPECT_THAT(finished.err, HasSubstr("/etc/passwd is not executable"));
}

TEST_F(RunTest, ReportsAServerThatDoesNotStart) {
  const Finished finished = RunShell("echo never", {{"FAKE_SERVER_STATUS", "3"}});
  EXPECT_EQ(finished.exit_status(), 125);
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(finished.err, HasSubstr("ended at its start with status 3"));

  fs::remove(directory_ + "/rump_server");
  EXPECT_EQ(RunShell("echo never").exit_status(), 125);
  fs::remove(directory_ + "/librumphijack.so");
  EXPECT_THAT(RunShell("echo never").err, HasSubstr("librumphijack.so is not where it belongs"));
}

TEST_F(RunTest, FindsTheOtherPartsWhereAnInstallationHasThem) {
  fs::create_directory(directory_ + "/lib");
  fs::create_directory(directory_ + "/sp_server");
  fs::create_directory(directory_ + "/bin");
  fs::rename(directory_ + "/librumphijack.so", directory_ + "/lib/librumphijack.so");
  fs::rename(directory_ + "/rump_server", directory_ + "/sp_server/rump_server");
  fs::rename(directory_ + "/rump", directory_ + "/bin/rump");
  fs::create_symlink(directory_ + "/bin/rump", directory_ + "/rump");
  EXPECT_EQ(RunShell("echo $LD_PRELOAD").out, directory_ + "/lib/librumphijack.so\n");
}

TEST_F(RunTest, NamesMistakesInItsUse) {
  Finished finished = Run({"run"});
  EXPECT_EQ(finished.exit_status(), 125);
  EXPECT_THAT(finished.err, HasSubstr("no program is named"));
  finished = Run({"walk"});
  EXPECT_EQ(finished.exit_status(), 125);
  EXPECT_THAT(finished.err, HasSubstr("unknown command 'walk'"));
  finished = Run({"ps"});
  EXPECT_EQ(finished.exit_status(), 1);
  EXPECT_THAT(finished.err, HasSubstr("set RUMP_SERVER"));
  EXPECT_THAT(Run({"help", "run"}).out, HasSubstr("--server URL"));
  EXPECT_EQ(Run({"--version"}).out, "rump 0.1 (RUMPSP 0.4)\n");
}

}  // namespace
}  // namespace rump
