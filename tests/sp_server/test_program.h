// A program of the server's kernel as tests write one: memory at small addresses, system calls one
// by one or several in flight.
#ifndef TESTS_SP_SERVER_TEST_PROGRAM_H_
#define TESTS_SP_SERVER_TEST_PROGRAM_H_

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sp_server/raw_client.h"

namespace rump {

class TestProgram {
 public:
  // Addresses below this are good, those above are not. Calls take 0 for no address.
  static constexpr uint64_t kMemory = 256 * 1024;
  static constexpr uint64_t kBad = kMemory + 4096;

  explicit TestProgram(const std::string& server, std::string_view name = "test")
      : client_(server), memory_(kMemory, '\0') {
    client_.Guest(name);
    // Each test of calls runs a second time like that.
    if (getenv("CARRY_MEMORY") != nullptr) client_.CarryMemory(&memory_);
  }

  RawClient& client() { return client_; }
  const std::vector<int>& raised() const { return client_.raised(); }

  template <typename T>
  void Put(uint64_t addr, const T& object) {
    memcpy(memory_.data() + addr, &object, sizeof object);
  }
  template <typename T>
  T Get(uint64_t addr) const {
    T object;
    memcpy(&object, memory_.data() + addr, sizeof object);
    return object;
  }
  void PutText(uint64_t addr, std::string_view text) { memory_.replace(addr, text.size(), text); }
  std::string Text(uint64_t addr, size_t size) const { return memory_.substr(addr, size); }

  // The call's result, or -errno.
  template <typename... Args>
  int64_t Call(uint32_t number, Args... args) {
    return Finish(Start(number, args...));
  }
  // Sends the call; Finish gets its result.
  template <typename... Args>
  uint64_t Start(uint32_t number, Args... args) {
    return client_.SendCall(number, {static_cast<uint64_t>(args)...});
  }
  // The same, and returns only once the call waits for more than memory, or is over.
  template <typename... Args>
  uint64_t StartBlocked(uint32_t number, Args... args) {
    const uint64_t reqno = Start(number, args...);
    // Each round trip gives the call one more of its copies.
    constexpr int kCopies = 6;
    for (int i = 0; i < kCopies; ++i) Call(SYS_getpid);
    return reqno;
  }
  bool HasFinished(uint64_t reqno) const { return client_.HasFinished(reqno); }
  int64_t Finish(uint64_t reqno) {
    const SyscallResultPayload result = client_.Finish(reqno, &memory_);
    return result.error != 0 ? -result.error : static_cast<int64_t>(result.retval[0]);
  }

  struct Pair {
    int first;
    int second;
  };
  // The read end and the write end; the ends of a socketpair.
  Pair Pipe(int flags = 0) {
    Call(SYS_pipe2, kScratch, flags);
    return Get<Pair>(kScratch);
  }
  Pair Socketpair(int type) {
    Call(SYS_socketpair, AF_UNIX, type, 0, kScratch);
    return Get<Pair>(kScratch);
  }
  int64_t Write(int fd, std::string_view text) {
    PutText(kScratch, text);
    return Call(SYS_write, fd, kScratch, text.size());
  }
  // What a read of at most `size` bytes finds, or "errno <n>".
  std::string Read(int fd, size_t size = 1024) {
    const int64_t n = Call(SYS_read, fd, kScratch, size);
    return n < 0 ? "errno " + std::to_string(-n) : Text(kScratch, static_cast<size_t>(n));
  }
  int64_t Close(int fd) { return Call(SYS_close, fd); }

  // Puts a sockaddr_un at `addr` and returns its length. A leading '@' stands for an abstract name.
  uint64_t PutUnixAddress(uint64_t addr, std::string_view name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    const bool abstract = name.starts_with('@');
    if (abstract) address.sun_path[0] = '\0';
    Put(addr, address);
    return offsetof(sockaddr_un, sun_path) + name.size() + (abstract ? 0 : 1);
  }
  int64_t BindUnix(int fd, std::string_view name) {
    const uint64_t size = PutUnixAddress(kScratch, name);
    return Call(SYS_bind, fd, kScratch, size);
  }
  int64_t ConnectUnix(int fd, std::string_view name) {
    const uint64_t size = PutUnixAddress(kScratch, name);
    return Call(SYS_connect, fd, kScratch, size);
  }

 private:
  // Where the helpers put things.
  static constexpr uint64_t kScratch = 128 * 1024;

  RawClient client_;
  std::string memory_;
};

}  // namespace rump

#endif  // TESTS_SP_SERVER_TEST_PROGRAM_H_
