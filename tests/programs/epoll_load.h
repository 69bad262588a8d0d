// What both ends of the epoll test have in common: an epoll set, and connections in it that are
// read and written only after epoll has said so. Plain system calls, no project code.
#ifndef TESTS_PROGRAMS_EPOLL_LOAD_H_
#define TESTS_PROGRAMS_EPOLL_LOAD_H_

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

namespace rump {

// Ends the program with status 1.
[[noreturn]] void Fail(const std::string& what);
// Returns the result of a system call, which must not have failed.
int Check(int result, const char* what);

// A TCP socket with small buffers, which it hands down to what it accepts.
int SmallSocket();
sockaddr_in Loopback(uint16_t port);

// How a connection ends. The client says so at its beginning.
enum class End : uint32_t {
  kWhole,        // the client shuts down after `amount` bytes, and all come back
  kHalf,         // the server shuts down after `amount` bytes, and receives twice as many
  kServerClose,  // the server closes after `amount` bytes, whatever is on its way
  kServerReset,  // the same, with a reset
  kClientClose,  // the client closes after `amount` bytes, whatever is on its way
  kClientReset,  // the same, with a reset
};
inline constexpr uint32_t kEnds = 6;

// The first bytes of each connection.
struct Plan {
  uint32_t seed;
  End end;
  uint64_t amount;

  // No byte may be lost.
  bool orderly() const { return end == End::kWhole || end == End::kHalf; }
  // Where the server just sends back what it can.
  bool client_closes() const { return end == End::kClientClose || end == End::kClientReset; }
  // What the client sends; without an end where the other end closes.
  uint64_t sent() const;
};
// What follows the plan: the byte at `offset`.
char ByteAt(const Plan& plan, uint64_t offset);
// Fails unless the bytes are those at `offset`.
void CheckBytes(const Plan& plan, uint64_t offset, const char* bytes, size_t size);

using Random = std::minstd_rand;
inline uint32_t Below(Random& random, uint32_t limit) { return random() / 7 % limit; }

class EpollSet {
 public:
  using Handler = std::function<void(uint32_t events)>;

  EpollSet();
  // Returns the key of `fd`, which is removed by closing it after Forget.
  uint64_t Add(int fd, uint32_t events, Handler handler);
  void Modify(int fd, uint64_t key, uint32_t events);
  void Forget(uint64_t key) { handlers_.erase(key); }
  // Calls the handlers of what is ready, after a second at the latest. They must not Forget.
  void Wait();

 private:
  int epoll_;
  uint64_t last_key_ = 0;
  std::unordered_map<uint64_t, Handler> handlers_;
};

// One end of a connection: level-triggered, edge-triggered or one-shot, as chance has it, with
// small buffers, and pauses in reading that a timerfd in the same set begins and ends.
class EpollStream {
 public:
  // Takes over `fd`, which does not block.
  EpollStream(EpollSet* set, Random* random, int fd);
  virtual ~EpollStream();
  EpollStream(const EpollStream&) = delete;
  EpollStream& operator=(const EpollStream&) = delete;

  // To be destroyed.
  bool ended() const { return ended_; }
  std::chrono::steady_clock::duration idle() const {
    return std::chrono::steady_clock::now() - last_progress_;
  }
  // The state, for people; in case of a lost wake-up poll knows better than epoll has said.
  std::string Describe() const;

 protected:
  virtual bool WantsToRead() const = 0;
  virtual bool WantsToWrite() const = 0;
  // Make one call each.
  virtual void ReadOnce() = 0;
  virtual void WriteOnce() = 0;
  virtual std::string DescribeTransfer() const = 0;

  // As the system calls; what does not come to an end here is nothing and EAGAIN.
  ssize_t Read(char* bytes, size_t size);
  ssize_t Write(const char* bytes, size_t size);
  void ShutDown();
  void Finish() { ended_ = true; }
  // Finish, with a reset for the other end.
  void Reset();
  // Deals with errno after Read or Write: EAGAIN is none; where not `allowed`, no other is either.
  void Broken(bool allowed);
  int fd() const { return fd_; }
  Random& random() { return *random_; }

 private:
  enum class Trigger { kLevel, kEdge, kOneShot };

  uint32_t TriggerFlag() const;
  void OnEvents(uint32_t events);
  void OnTimer();
  void SetTimer();
  void Turn();
  bool MoveOnce();
  void Rearm();

  EpollSet* const set_;
  Random* const random_;
  const int fd_;
  const Trigger trigger_;
  const int timer_;
  uint64_t key_ = 0, timer_key_ = 0;
  uint32_t armed_ = 0;
  bool readable_ = false, writable_ = false, paused_ = false, hung_up_ = false, ended_ = false;
  std::chrono::steady_clock::time_point last_progress_ = std::chrono::steady_clock::now();
};

using EpollStreams = std::vector<std::unique_ptr<EpollStream>>;
void DestroyEnded(EpollStreams& streams);

}  // namespace rump

#endif  // TESTS_PROGRAMS_EPOLL_LOAD_H_
