#include "sp_server/server/listener.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rump {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr milliseconds kPatience{10'000};

class ListenerTest : public testing::Test {
 protected:
  ListenerTest() {
    char folder[] = "/tmp/rhXXXXXX";
    folder_ = mkdtemp(folder);
  }
  ~ListenerTest() override {
    listeners_.clear();
    rmdir(folder_.c_str());
  }

  std::string unix_url() const { return "unix://" + folder_ + "/s"; }

  Listener* Open(const std::string& url) {
    auto listener =
        Listener::Open(&loop_, url, /*allow_remote=*/false, [this](UniqueFd socket, Peer peer) {
          accepted_.push_back(std::move(socket));
          peers_.push_back(std::move(peer));
        });
    EXPECT_TRUE(listener.ok()) << listener.status();
    if (!listener.ok()) return nullptr;
    listeners_.push_back(*std::move(listener));
    return listeners_.back().get();
  }

  static void Connect(const std::string& url, const UniqueFd& socket) {
    Endpoint endpoint;
    ASSERT_EQ(ParseUrl(url, "", &endpoint), UrlError::kNone);
    ASSERT_EQ(connect(socket.get(), &endpoint.any, endpoint.len), 0) << strerror(errno);
  }

  void RunUntilAccepted(size_t count) {
    while (accepted_.size() < count) loop_.RunOnce(kPatience);
  }

  std::string folder_;
  EventLoop loop_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<UniqueFd> accepted_;
  std::vector<Peer> peers_;
};

// A free port of loopback, for listeners that must name one.
std::string FreeTcpUrl() {
  const UniqueFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  EXPECT_EQ(bind(probe.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  return "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
}

// Lets the process open no descriptor more, as long as it lives.
class NoMoreFds {
 public:
  NoMoreFds() {
    getrlimit(RLIMIT_NOFILE, &limit_);
    int highest = 0;
    DIR* fds = opendir("/proc/self/fd");
    while (const dirent* entry = readdir(fds)) highest = std::max(highest, atoi(entry->d_name));
    closedir(fds);
    // Fill the holes below, so that the limit is exact.
    for (;;) {
      UniqueFd fd(dup(0));
      if (fd.get() > highest) break;
      holes_.push_back(std::move(fd));
    }
    rlimit none = limit_;
    none.rlim_cur = static_cast<rlim_t>(highest) + 1;
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoMoreFds() { setrlimit(RLIMIT_NOFILE, &limit_); }

 private:
  rlimit limit_;
  std::vector<UniqueFd> holes_;
};

TEST_F(ListenerTest, SeveralUrlsAtOnce) {
  const std::string tcp = FreeTcpUrl();
  Open(unix_url());
  Open(tcp);
  const UniqueFd by_tcp(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Connect(tcp, by_tcp);
  RunUntilAccepted(1);
  const UniqueFd by_unix(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Connect(unix_url(), by_unix);
  RunUntilAccepted(2);

  EXPECT_THAT(peers_[0].description, HasSubstr("tcp://127.0.0.1:"));
  EXPECT_FALSE(peers_[0].trusted);
  EXPECT_THAT(peers_[1].description, HasSubstr("unix pid " + std::to_string(getpid())));
  EXPECT_TRUE(peers_[1].trusted);
  int no_delay = 0;
  socklen_t size = sizeof no_delay;
  ASSERT_EQ(getsockopt(accepted_[0].get(), IPPROTO_TCP, TCP_NODELAY, &no_delay, &size), 0);
  EXPECT_NE(no_delay, 0);
}

TEST_F(ListenerTest, ShortageOfDescriptorsPausesIt) {
  Open(unix_url());
  const UniqueFd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  {
    const NoMoreFds no_more;
    Connect(unix_url(), client);
    loop_.RunOnce(kPatience);
    // One that did not pause would have its turn at once.
    const auto start = EventLoop::Clock::now();
    loop_.RunOnce(milliseconds(30));
    EXPECT_GE(EventLoop::Clock::now() - start, milliseconds(30));
    EXPECT_TRUE(accepted_.empty());
  }
  RunUntilAccepted(1);
}

TEST_F(ListenerTest, ResumesWhenToldTo) {
  Listener* listener = Open(unix_url());
  const UniqueFd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  {
    const NoMoreFds no_more;
    Connect(unix_url(), client);
    loop_.RunOnce(kPatience);
  }
  EXPECT_TRUE(accepted_.empty());
  listener->Resume();
  loop_.RunOnce(milliseconds(0));
  EXPECT_EQ(accepted_.size(), 1U);
}

}  // namespace
}  // namespace rump
