// The sysproxy server: listeners, sessions, and the processes that wait for their FORK handshake.
#ifndef SP_SERVER_SERVER_SERVER_H_
#define SP_SERVER_SERVER_SERVER_H_

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "protocol/banner.h"
#include "protocol/frame.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/server/kernel_interface.h"
#include "sp_server/server/listener.h"
#include "sp_server/server/session.h"

namespace rump {

struct ServerOptions {
  // Connected clients. One more has its handshake answered with the error TRYAGAIN.
  size_t max_clients = 8192;
  // Unclaimed preforks of one process; one more is answered with the error NOMEM.
  size_t max_preforks = 1024;
  // How long a prefork waits to be claimed.
  std::chrono::milliseconds prefork_lifetime{60'000};
  // Whether tcp:// may name an address other than loopback. There is no authentication.
  bool allow_remote = false;
  // Bits of Extension that are offered. What belongs to another is answered as by a server that has
  // never heard of it.
  uint32_t extensions = kAllExtensions;
  SessionLimits limits;
};

class Server final : private ServerInfo {
 public:
  // `loop` and `kernel` outlive the server.
  Server(EventLoop* loop, Kernel* kernel, ServerOptions options);
  ~Server() override;

  // Listens at `url`. The status' message names the URL and says what to do.
  absl::Status Listen(const std::string& url);

  EventLoop* loop() const { return loop_; }
  Kernel* kernel() const { return kernel_; }
  const ServerOptions& options() const { return options_; }
  // Connected clients, without those that are being turned away.
  size_t clients() const override { return sessions_.size() - refused_; }
  ServerCounters& counters() { return counters_; }
  // A frame with 64 KiB of memory, of which most long writes are made, arrives by one receive.
  static constexpr size_t kInputBuffer = 68 * 1024;
  // For sessions to receive into, one at a time, kInputBuffer bytes that nobody has kept.
  const std::shared_ptr<std::byte[]>& input_buffer();
  // The banner that every client is sent.
  const std::string& banner() const { return banner_; }

  // For sessions: parks a forked process of `owner` under a new random cookie until it is claimed,
  // its owner ends or it expires.
  Result<PreforkCookie> Park(const Session* owner, std::unique_ptr<KernelProcess> process);
  // The process parked under `cookie`, once; nullptr if there is none.
  std::unique_ptr<KernelProcess> Claim(const PreforkCookie& cookie);
  // Drops what `owner` left unclaimed.
  void DropParked(const Session* owner);
  // Destroys `session`, which is not on the stack.
  void Remove(Session* session);
  // Takes over a connection that a listener accepted.
  void AddClient(UniqueFd socket, Peer peer);
  // Serves `child`, which a client has forked, on a new connection, and returns its end of that.
  Result<UniqueFd> AddChild(Peer parent, std::unique_ptr<KernelProcess> child);

 private:
  struct CookieLess {
    bool operator()(const PreforkCookie& a, const PreforkCookie& b) const;
  };
  struct Parked {
    const Session* owner;
    std::unique_ptr<KernelProcess> process;
    EventLoop::TimerId expiry;
  };

  size_t preforks() const override { return parked_.size(); }
  uint32_t extensions() const override { return options_.extensions; }
  const ServerCounters& counted() const override { return counters_; }

  EventLoop* const loop_;
  Kernel* const kernel_;
  const ServerOptions options_;
  const std::string banner_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::map<Session*, std::unique_ptr<Session>> sessions_;
  size_t refused_ = 0;  // of sessions_, those that are being turned away
  ServerCounters counters_;
  // Two, so that one that is kept for a short time comes back into use.
  std::array<std::shared_ptr<std::byte[]>, 2> input_buffers_;
  std::map<PreforkCookie, Parked, CookieLess> parked_;
  // What each session that has any has parked: with many of others around it must be found at once.
  std::map<const Session*, std::set<PreforkCookie, CookieLess>> parked_by_;
};

}  // namespace rump

#endif  // SP_SERVER_SERVER_SERVER_H_
