// A thousand random operations on descriptors, of which some are sockets: whatever a program does
// with numbers, each has the meaning that the kernel's rules give it. What is expected is a model
// of these rules, so that the host and the library are held to the same results.
#include <sys/stat.h>
#include <sys/wait.h>

#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

constexpr int kOperations = 1000;
// The program's numbers: from 0, and where the library's own ones may lie.
constexpr int kLow = 40;
constexpr int kHigh = 1000;
constexpr int kHighEnd = 1020;
// What the test needs for itself is elsewhere.
constexpr int kReport = 500;
constexpr int kListener = 501;

enum class Type { kTcp, kUdp, kUnix, kPipeReader, kPipeWriter, kZero };

bool IsSocket(Type type) { return type <= Type::kUnix; }

// An open file description.
struct Description {
  explicit Description(Type t) : type(t) {}
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  ~Description() {
    const std::shared_ptr<Description> other = peer.lock();
    if (other != nullptr && !inbox.empty()) other->reset = true;
  }

  const Type type;
  bool nonblocking = false;
  bool reset = false;  // the peer has ended without reading everything: reading is anybody's guess
  std::deque<std::string> inbox;
  std::weak_ptr<Description> peer;
};

struct Number {
  std::shared_ptr<Description> description;
  bool close_on_exec = false;
};

class RandomProgram {
 public:
  explicit RandomProgram(unsigned seed) : random_(seed) {}

  // The empty string, or what went wrong, behind the operations before.
  std::string Run() {
    for (int i = 0; i < kOperations && failure_.empty(); ++i) Step();
    return failure_.empty() ? failure_ : log_ + failure_;
  }

 private:
  using Operation = void (RandomProgram::*)();

  void Step() {
    static constexpr Operation kAll[] = {
        &RandomProgram::MakeTcp,   &RandomProgram::MakeUdp,     &RandomProgram::MakeUnix,
        &RandomProgram::MakePipe,  &RandomProgram::MakeZero,    &RandomProgram::Dup,
        &RandomProgram::Dup2,      &RandomProgram::Dup2,        &RandomProgram::Dup3,
        &RandomProgram::DupAbove,  &RandomProgram::Close,       &RandomProgram::Close,
        &RandomProgram::Close,     &RandomProgram::CloseRange,  &RandomProgram::NumberFlags,
        &RandomProgram::FileFlags, &RandomProgram::LookAt,      &RandomProgram::AskSocket,
        &RandomProgram::Write,     &RandomProgram::Write,       &RandomProgram::Write,
        &RandomProgram::Read,      &RandomProgram::Read,        &RandomProgram::Read,
        &RandomProgram::ReadAll,   &RandomProgram::ForkAndClose};
    (this->*kAll[Pick(0, std::size(kAll) - 1)])();
  }

  int Pick(int first, int last) { return std::uniform_int_distribution<int>(first, last)(random_); }
  // Any number, mostly an open one.
  int AnyNumber() {
    if (Pick(0, 7) == 0) return Pick(0, 1) == 0 ? Pick(0, kLow) : Pick(kHigh, kHighEnd);
    if (numbers_.empty()) return 0;
    return std::next(numbers_.begin(), Pick(0, static_cast<int>(numbers_.size()) - 1))->first;
  }
  int Target() { return Pick(0, 3) == 0 ? Pick(kHigh, kHighEnd) : Pick(0, kLow); }
  int Lowest(int from = 0) const {
    while (numbers_.contains(from)) ++from;
    return from;
  }
  bool Full() const { return numbers_.size() > 25; }
  Number* Find(int fd) {
    const auto it = numbers_.find(fd);
    return it == numbers_.end() ? nullptr : &it->second;
  }

  // `result` of a call, which has to be `expected`: a value or -errno.
  bool Expect(const std::string& call, long result, long expected) {
    if (result == -1) result = -errno;
    log_ += call + " = " + std::to_string(result) + "\n";
    if (result == expected) return true;
    if (failure_.empty()) failure_ = "instead of " + std::to_string(expected);
    return false;
  }
  static std::string Call(const char* name, std::initializer_list<long> arguments) {
    std::string text = name;
    for (const long argument : arguments) text += " " + std::to_string(argument);
    return text;
  }

  // `fd` is new, and the lowest that was free.
  std::shared_ptr<Description> Add(const char* call, int fd, Type type) {
    auto description = std::make_shared<Description>(type);
    if (Expect(call, fd, Lowest())) numbers_[fd].description = description;
    return description;
  }
  void AddPair(const char* call, const int (&fds)[2], Type first, Type second) {
    const auto a = Add(call, fds[0], first);
    const auto b = Add(call, fds[1], second);
    a->peer = b;
    b->peer = a;
  }
  void MakeTcp() {
    if (Full()) return;
    sockaddr_in address{};
    socklen_t size = sizeof address;
    Expect("getsockname", getsockname(kListener, Addr(address), &size), 0);
    const auto client = Add("socket tcp", socket(AF_INET, SOCK_STREAM, 0), Type::kTcp);
    const int fd = LastAdded(client);
    Expect("connect", connect(fd, Addr(address), sizeof address), 0);
    const auto server = Add("accept", accept(kListener, nullptr, nullptr), Type::kTcp);
    client->peer = server;
    server->peer = client;
  }
  int LastAdded(const std::shared_ptr<Description>& description) {
    for (const auto& [fd, number] : numbers_) {
      if (number.description == description) return fd;
    }
    return -1;
  }
  // Its datagrams come to itself.
  void MakeUdp() {
    if (Full()) return;
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const auto description = Add("socket udp", fd, Type::kUdp);
    description->peer = description;
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    Expect("bind", bind(fd, Addr(address), sizeof address), 0);
    Expect("getsockname", getsockname(fd, Addr(address), &size), 0);
    Expect("connect", connect(fd, Addr(address), sizeof address), 0);
  }
  void MakeUnix() {
    if (Full()) return;
    int fds[2];
    Expect("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    AddPair("of the pair", fds, Type::kUnix, Type::kUnix);
  }
  void MakePipe() {
    if (Full()) return;
    int fds[2];
    Expect("pipe", pipe(fds), 0);
    AddPair("of the pipe", fds, Type::kPipeReader, Type::kPipeWriter);
  }
  void MakeZero() {
    if (!Full()) Add("open", open("/dev/zero", O_RDWR), Type::kZero);
  }

  // `result` of a call that gives `fd` the number `target` as well.
  void ExpectDup(const std::string& call, int fd, long result, int target, bool close_on_exec) {
    const Number* const old = Find(fd);
    if (!Expect(call, result, old != nullptr ? target : -EBADF) || old == nullptr) return;
    numbers_[target] = {old->description, close_on_exec};
  }
  void Dup() {
    const int fd = AnyNumber();
    if (!Full()) ExpectDup(Call("dup", {fd}), fd, dup(fd), Lowest(), false);
  }
  void Dup2() {
    const int fd = AnyNumber();
    const int target = Target();
    const bool same = fd == target;
    const bool kept = same && Find(fd) != nullptr && Find(fd)->close_on_exec;
    ExpectDup(Call("dup2", {fd, target}), fd, dup2(fd, target), target, kept);
  }
  void Dup3() {
    const int fd = AnyNumber();
    const int target = Target();
    const int flags = Pick(0, 1) * O_CLOEXEC;
    const std::string call = Call("dup3", {fd, target, flags});
    const long result = dup3(fd, target, flags);
    if (fd == target) {
      Expect(call, result, -EINVAL);
    } else {
      ExpectDup(call, fd, result, target, flags != 0);
    }
  }
  void DupAbove() {
    if (Full()) return;
    const int fd = AnyNumber();
    const int from = Pick(0, kLow);
    const bool close_on_exec = Pick(0, 1) == 1;
    const int command = close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD;
    ExpectDup(Call("fcntl", {fd, command, from}), fd, fcntl(fd, command, from), Lowest(from),
              close_on_exec);
  }
  void Close() {
    const int fd = AnyNumber();
    Expect(Call("close", {fd}), close(fd), Find(fd) != nullptr ? 0 : -EBADF);
    numbers_.erase(fd);
  }
  // Few numbers among the low ones, or the high ones.
  void CloseRange() {
    const bool high = Pick(0, 1) == 1;
    const int first = high ? Pick(kHigh, kHighEnd) : Pick(0, kLow);
    const int last = std::min(first + Pick(0, 6), high ? kHighEnd : kLow);
    Expect(Call("close_range", {first, last}),
           close_range(static_cast<unsigned>(first), static_cast<unsigned>(last), 0), 0);
    numbers_.erase(numbers_.lower_bound(first), numbers_.upper_bound(last));
  }

  void NumberFlags() {
    const int fd = AnyNumber();
    Number* const number = Find(fd);
    if (number != nullptr && Pick(0, 1) == 0) {
      number->close_on_exec = !number->close_on_exec;
      Expect(Call("set flags of", {fd}), fcntl(fd, F_SETFD, number->close_on_exec ? FD_CLOEXEC : 0),
             0);
    }
    Expect(Call("flags of", {fd}), fcntl(fd, F_GETFD),
           number == nullptr       ? -EBADF
           : number->close_on_exec ? FD_CLOEXEC
                                   : 0);
  }
  void FileFlags() {
    const int fd = AnyNumber();
    Number* const number = Find(fd);
    if (number == nullptr) {
      Expect(Call("F_GETFL", {fd}), fcntl(fd, F_GETFL), -EBADF);
      return;
    }
    bool& nonblocking = number->description->nonblocking;
    if (Pick(0, 1) == 0) {
      nonblocking = !nonblocking;
      Expect(Call("F_SETFL", {fd}), fcntl(fd, F_SETFL, nonblocking ? O_NONBLOCK : 0), 0);
    }
    Expect(Call("F_GETFL", {fd}), fcntl(fd, F_GETFL) & O_NONBLOCK, nonblocking ? O_NONBLOCK : 0);
  }
  void LookAt() {
    const int fd = AnyNumber();
    const Number* const number = Find(fd);
    // The library does not take fstat(2), so that its own descriptor would be seen.
    if (number == nullptr && fd >= kHigh) return;
    struct stat status {};
    Expect(Call("fstat", {fd}), fstat(fd, &status), number != nullptr ? 0 : -EBADF);
    if (number == nullptr) return;
    const Type type = number->description->type;
    Expect("type", status.st_mode & S_IFMT,
           IsSocket(type)        ? S_IFSOCK
           : type == Type::kZero ? S_IFCHR
                                 : S_IFIFO);
  }
  void AskSocket() {
    const int fd = AnyNumber();
    const Number* const number = Find(fd);
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    const long result = getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    const std::string call = Call("getsockname", {fd});
    if (number == nullptr) {
      Expect(call, result, -EBADF);
    } else if (const Type type = number->description->type; IsSocket(type)) {
      Expect(call, result, 0);
      Expect("family", address.ss_family, type == Type::kUnix ? AF_UNIX : AF_INET);
    } else {
      Expect(call, result, -ENOTSOCK);
    }
  }

  void Write() {
    const int fd = AnyNumber();
    const std::string data(static_cast<size_t>(Pick(1, 100)), static_cast<char>(Pick('a', 'z')));
    Number* const number = Find(fd);
    long expected = static_cast<long>(data.size());
    if (number == nullptr || number->description->type == Type::kPipeReader) {
      expected = -EBADF;
    } else if (Description& d = *number->description; d.type != Type::kZero) {
      const std::shared_ptr<Description> peer = d.peer.lock();
      // That nobody reads any more, and what fills up, is for other tests.
      if (d.reset || peer == nullptr || peer->inbox.size() > 20) return;
      peer->inbox.push_back(data);
    }
    Expect(Call("write", {fd, expected}), write(fd, data.data(), data.size()), expected);
  }
  void Read() {
    const int fd = AnyNumber();
    Number* const number = Find(fd);
    char buffer[64];
    if (number == nullptr || number->description->type == Type::kPipeWriter) {
      Expect(Call("read", {fd}), read(fd, buffer, sizeof buffer), -EBADF);
    } else if (number->description->type == Type::kZero) {
      Expect(Call("read", {fd}), read(fd, buffer, 10), 10);
    } else if (!number->description->reset) {
      ReadData(fd, number->description.get());
    }
  }
  void ReadAll() {
    const int fd = AnyNumber();
    Number* const number = Find(fd);
    if (number == nullptr || number->description->reset) return;
    while (failure_.empty() && !number->description->inbox.empty()) {
      ReadData(fd, number->description.get());
    }
  }
  // What one write has sent, or that there is nothing or an end.
  void ReadData(int fd, Description* d) {
    const bool ended = d->peer.expired();
    const bool readable = ended || !d->inbox.empty();
    const short events = PollFor(fd, POLLIN, readable ? kPatience : 0);
    Expect(Call("poll", {fd}), (events & (POLLIN | POLLHUP)) != 0, readable);
    if (!readable || !failure_.empty()) return;
    const std::string expected = d->inbox.empty() ? "" : d->inbox.front();
    const std::string data = ReadExactly(fd, d->inbox.empty() ? 1 : expected.size());
    if (!d->inbox.empty()) d->inbox.pop_front();
    Expect(Call("read", {fd}), static_cast<long>(data.size()), static_cast<long>(expected.size()));
    if (data != expected && failure_.empty()) failure_ = data + " instead of " + expected;
  }

  // What a child closes is its own; what it sends through a socket is sent.
  void ForkAndClose() {
    const int fd = AnyNumber();
    Number* const number = Find(fd);
    const std::shared_ptr<Description> peer = number == nullptr || number->description->reset
                                                  ? nullptr
                                                  : number->description->peer.lock();
    const bool writes = peer != nullptr && number->description->type != Type::kPipeReader;
    const unsigned first = static_cast<unsigned>(Pick(0, kLow));
    const pid_t pid = fork();
    if (pid == 0) {
      if (writes && write(fd, "child", 5) != 5) _exit(1);
      if (close(fd) != (number != nullptr ? 0 : -1) || close(fd) != -1) _exit(2);
      _exit(close_range(first, ~0u, 0) == 0 && socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 3);
    }
    if (writes) peer->inbox.push_back("child");
    int status = -1;
    Expect(Call("fork", {fd}), waitpid(pid, &status, 0) == pid, 1);
    Expect("child", status, 0);
  }

  std::mt19937 random_;
  std::map<int, Number> numbers_;
  std::string log_;
  std::string failure_;
};

class RandomDescriptors : public testing::TestWithParam<unsigned> {};

TEST_P(RandomDescriptors, MeanWhatTheyShould) {
  const Fd listener = Listen();
  int report[2];
  ASSERT_EQ(pipe(report), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    if (dup2(report[1], kReport) < 0 || dup2(listener.get(), kListener) < 0) _exit(1);
    close_range(0, kReport - 1, 0);
    close_range(kListener + 1, ~0u, 0);
    _exit(WriteAll(kReport, RandomProgram(GetParam()).Run()) ? 0 : 2);
  }
  close(report[1]);
  EXPECT_EQ(ReadExactly(report[0], 1 << 20), "");
  close(report[0]);
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomDescriptors, testing::Range(0u, 8u));

}  // namespace
}  // namespace rump
