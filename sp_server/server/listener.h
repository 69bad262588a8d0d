// A socket that accepts sysproxy clients at one URL.
#ifndef SP_SERVER_SERVER_LISTENER_H_
#define SP_SERVER_SERVER_LISTENER_H_

#include <sys/stat.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "protocol/url.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

class Listener final : private EventLoop::Watcher {
 public:
  // Gets each accepted connection and a description of its other end.
  using AcceptFn = std::function<void(UniqueFd socket, std::string peer)>;

  // Binds and listens. A unix socket file that no process listens at any more is replaced; one that
  // a live server has is an error that names the server's pid. A tcp address other than loopback
  // is an error unless `allow_remote`. Messages name `url` and what to do.
  static absl::StatusOr<std::unique_ptr<Listener>> Open(EventLoop* loop, const std::string& url,
                                                        bool allow_remote, AcceptFn on_accept);
  // Stops listening and removes the unix socket file, if it is still this listener's.
  ~Listener();

 private:
  Listener(EventLoop* loop, UniqueFd socket, const Endpoint& endpoint, AcceptFn on_accept);
  void OnEvents(uint32_t events) override;
  // Lets clients wait a while.
  void Pause();

  EventLoop* const loop_;
  UniqueFd socket_;
  const Endpoint endpoint_;
  const AcceptFn on_accept_;
  struct stat file_ = {};  // of the unix socket file
  EventLoop::TimerId resume_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_SERVER_LISTENER_H_
