#include "tests/sp_server/server_thread.h"

#include <stdlib.h>
#include <unistd.h>

#include <future>
#include <utility>

namespace rump {

ServerThread::ServerThread(ServerOptions options) {
  char folder[] = "/tmp/rhXXXXXX";
  folder_ = mkdtemp(folder);
  path_ = folder_ + "/s";
  std::promise<void> ready;
  thread_ = std::thread([this, options, &ready] {
    BuiltinKernel kernel(&loop_, [] {});
    auto server = std::make_unique<Server>(&loop_, &kernel, options);
    if (!server->Listen(url()).ok()) abort();
    ready.set_value();
    loop_.Run();
    server.reset();
    loop_.RunOnce(EventLoop::Clock::duration::zero());
  });
  ready.get_future().wait();
}

ServerThread::~ServerThread() {
  loop_.Stop();
  thread_.join();
  rmdir(folder_.c_str());
}

}  // namespace rump
