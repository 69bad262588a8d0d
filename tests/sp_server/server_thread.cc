#include "tests/sp_server/server_thread.h"

#include <stdlib.h>
#include <unistd.h>

#include <future>
#include <utility>

#include "sp_server/net/inet_family.h"
#include "sp_server/net/net_stack.h"

namespace rump {

ServerThread::ServerThread(const ServerOptions& options, const KernelLimits& limits) {
  char folder[] = "/tmp/rhXXXXXX";
  folder_ = mkdtemp(folder);
  path_ = folder_ + "/s";
  std::promise<void> ready;
  thread_ = std::thread([this, options, limits, &ready] {
    NetStack& stack = NetStack::Get();
    BuiltinKernel kernel(
        &loop_, [&stack] { stack.Drain(64); }, limits);
    loop_.AddPoller(&stack);
    RegisterInet(&kernel.families(), &stack, kernel.datagram_memory());
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
