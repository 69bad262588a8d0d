// The program as a process of a rump kernel server: its connection, through forks, execs and
// losses.
#ifndef RUMPCLIENT_PROCESS_H_
#define RUMPCLIENT_PROCESS_H_

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include <atomic>

#include "protocol/frame.h"
#include "protocol/url.h"
#include "rumpclient/core/call.h"
#include "rumpclient/core/connection.h"
#include "rumpclient/core/futex.h"
#include "rumpclient/core/interruption.h"
#include "rumpclient/core/signal_block.h"

namespace rump::client {

// Functions that return int: 0, or an errno. See <rump/rumpclient.h> for what they mean.
class Process {
 public:
  constexpr Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  int Init();

  // Makes `call`. ENOTCONN: there is no connection, or it was lost meanwhile.
  int Issue(Call* call);
  // The same for a thread that has blocked its signals, and lets in those of `mask`'s complement
  // while it waits.
  int IssueBlocked(Call* call, const SignalBlock& block, SignalSet mask);

  // time_t as for rumpclient_setconnretry().
  void SetRetry(time_t retry) { retry_.store(retry, std::memory_order_relaxed); }

  int Prefork(PreforkCookie* cookie);
  // In the child of any kind of fork: makes the parked process its own. EBUSY: it is the parent
  // itself, in the middle of calls, or a child on this memory has claimed before.
  int Claim(const PreforkCookie& cookie, const SignalBlock& block);
  // Makes the server drop the parked process.
  int CancelFork(const PreforkCookie& cookie, const SignalBlock& block);
  // In the parent, when a child that shared its memory is gone.
  void ForgetSharingChild();
  // Prefork, fork_function() and Claim. -1 with errno; a child that cannot claim ends.
  pid_t Fork(pid_t (*fork_function)());

  // execve(2). Returns only if it failed.
  int Exec(const char* path, char* const argv[], char* const envp[]);

  // The connection's descriptor, or -1.
  int own_fd();
  // Gives it another number.
  int MoveFd();

 private:
  enum State : uint32_t { kNone, kConnected, kConnecting };

  // Emptied by the kernel in the child of a fork, however it was made: the connection is not the
  // child's. A child on its parent's memory sees its parent's.
  struct Page {
    std::atomic<pid_t> owner;
    std::atomic<uint32_t> state;
    std::atomic<uint32_t> users;       // calls that use the connection
    std::atomic<uint32_t> generation;  // of connections, counted
    FutexLock init_lock;
  };

  struct CallInterruption;
  static void WaitCancellably(Interruption* interruption, const Wait& wait);
  static void EndCancelled(void* cancelled);

  bool MapPage();
  // kConnecting, by one thread at a time; the others' calls wait for what comes next.
  bool BeginConnecting(uint32_t expected);
  void EndConnecting(State state);
  int Connect();
  int Inherit(const char* descriptor);
  int ConnectTo(const char* url);
  // Makes the connection anew while no call uses it; signals as in `mask`.
  int Renew(SignalSet mask);

  // Counts a use of the connection. False: there is none, and will be none for this thread.
  bool Enter(SignalSet mask, uint32_t* generation);
  // The same, but false also while it is made anew.
  bool TryEnter(uint32_t* generation);
  void Leave();
  bool AwaitConnecting(SignalSet mask);
  // After the connection of `generation` was lost: whether the call is to be issued again.
  bool Recover(uint32_t generation, bool sent, SignalSet mask);
  bool Reconnect(SignalSet mask);

  // The connection that this thread is to use: another one in a child on its parent's memory.
  Connection& connection();
  bool in_sharing_child() const;
  // False in a child of any kind of fork that has not made one its own.
  bool owns_connection() const;

  // For a child on its parent's memory.
  int ClaimOnSharedMemory(const PreforkCookie& cookie, const Interruption& interruption);

  // Around an exec. False: there is no connection to keep.
  bool Suspend(const Interruption& interruption);
  void Resume();

  Page* page_ = nullptr;
  // No call of this library's wants a descriptor of the host's.
  Connection connections_[2] = {Connection(/*takes_fds=*/false), Connection(/*takes_fds=*/false)};
  std::atomic<uint32_t> active_{0};
  Endpoint endpoint_;
  std::atomic<time_t> retry_{0};
  bool announced_ = false;  // that the connection is lost
  // A child on its parent's memory is known by the thread that it runs as.
  std::atomic<const void*> sharing_child_{nullptr};
  std::atomic<const void*> execing_{nullptr};
  std::atomic<const void*> connecting_{nullptr};
};

// The only one.
extern Process process;

// Prints one line, without a lock or memory.
[[gnu::format(printf, 1, 2)]] void Complain(const char* format, ...);

inline constexpr const char* kExecFdVariable = "RUMPCLIENT__EXECFD";
inline constexpr const char* kParsedServerVariable = "RUMP__PARSEDSERVER";

}  // namespace rump::client

#endif  // RUMPCLIENT_PROCESS_H_
