// A server with the built-in kernel and the TCP/IP stack, on a thread of the test, at a unix socket
// in a fresh folder.
#ifndef TESTS_SP_SERVER_SERVER_THREAD_H_
#define TESTS_SP_SERVER_SERVER_THREAD_H_

#include <memory>
#include <string>
#include <thread>

#include "sp_server/kernel/kernel.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/server/server.h"

namespace rump {

class ServerThread {
 public:
  explicit ServerThread(const ServerOptions& options = {}, const KernelLimits& limits = {});
  ~ServerThread();

  const std::string& path() const { return path_; }
  std::string url() const { return "unix://" + path_; }

 private:
  std::string folder_;
  std::string path_;
  EventLoop loop_;
  std::thread thread_;
};

}  // namespace rump

#endif  // TESTS_SP_SERVER_SERVER_THREAD_H_
