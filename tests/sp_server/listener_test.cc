// Accepting when the process has no descriptor left.
#include "sp_server/server/listener.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {
namespace {

using std::chrono::milliseconds;

TEST(Listener, WithoutDescriptorsItWaitsAndDoesNotSpin) {
  char folder[] = "/tmp/rhXXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/s";
  {
    EventLoop loop;
    std::vector<UniqueFd> accepted;
    auto listener =
        Listener::Open(&loop, "unix://" + path, /*allow_remote=*/false,
                       [&](UniqueFd fd, std::string) { accepted.push_back(std::move(fd)); });
    ASSERT_TRUE(listener.ok()) << listener.status();
    const UniqueFd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path.data(), path.size());
    ASSERT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);

    rlimit limit;
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlimit none = limit;
    none.rlim_cur = 3;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    loop.RunOnce(milliseconds(1000));
    const auto start = EventLoop::Clock::now();
    loop.RunOnce(milliseconds(50));
    EXPECT_GE(EventLoop::Clock::now() - start, milliseconds(45)) << "nothing was to be done";
    EXPECT_TRUE(accepted.empty());

    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int turn = 0; turn < 10 && accepted.empty(); ++turn) loop.RunOnce(milliseconds(1000));
    EXPECT_EQ(accepted.size(), 1U);
  }
  rmdir(folder);
}

}  // namespace
}  // namespace rump
