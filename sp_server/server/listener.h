// A socket that accepts sysproxy clients at one URL.
#ifndef SP_SERVER_SERVER_LISTENER_H_
#define SP_SERVER_SERVER_LISTENER_H_

#include <sys/socket.h>
#include <sys/stat.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "protocol/url.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

// The other end of an accepted connection.
struct Peer {
  std::string description;  // "unix pid 4711 uid 0", "tcp://127.0.0.1:40000/"
  // Whether it is on this machine and belongs to root or to the server's own user.
  bool trusted = false;
};

// Who has `credentials` at the other end of a unix socket.
Peer UnixPeer(const ucred& credentials);

class Listener final : private EventLoop::Watcher {
 public:
  // Gets each accepted connection.
  using AcceptFn = std::function<void(UniqueFd socket, Peer peer)>;

  // Binds and listens. A unix socket file that no process listens at any more is replaced; one that
  // a live server has is an error that names the server's pid. A tcp address other than loopback
  // is an error unless `allow_remote`. Messages name `url` and what to do.
  static absl::StatusOr<std::unique_ptr<Listener>> Open(EventLoop* loop, const std::string& url,
                                                        bool allow_remote, AcceptFn on_accept);
  // Stops listening and removes the unix socket file, if it is still this listener's.
  ~Listener();

  // Tries again to accept. To be called when descriptors have become free; a listener that ran out
  // of them accepts nothing until then, or for kPause.
  void Resume();

 private:
  Listener(EventLoop* loop, UniqueFd socket, const Endpoint& endpoint, std::string url,
           AcceptFn on_accept);
  void OnEvents(uint32_t events) override;
  void Pause(int error);

  EventLoop* const loop_;
  UniqueFd socket_;
  const Endpoint endpoint_;
  const AcceptFn on_accept_;
  const std::string url_;
  EventLoop::TimerId pause_ = 0;  // set while no connection is accepted
  bool complained_ = false;
  struct stat file_ = {};  // of the unix socket file
};

}  // namespace rump

#endif  // SP_SERVER_SERVER_LISTENER_H_
