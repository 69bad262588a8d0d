#include "sp_server/kernel/stream_pump.h"

#include <errno.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "sp_server/loop/fd_closer.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {
namespace {

// A connection that has received `received`, and remembers what it is sent.
class FakeStream final : public StreamSocket {
 public:
  explicit FakeStream(std::string received)
      : StreamSocket(AF_INET, SOCK_STREAM, 0, 0), received_(std::move(received)) {}

  const std::string& sent() const { return sent_; }

  size_t PeekReceived(std::span<iovec> iov) const override {
    if (received_.empty()) return 0;
    iov[0] = {const_cast<char*>(received_.data()), received_.size()};
    return 1;
  }
  void ConsumeReceived(size_t bytes) override { received_.erase(0, bytes); }
  bool receive_eof() const override { return false; }
  size_t SendSpace() const override { return 4096; }
  void Abort() override {}
  Result<size_t> Send(std::span<const std::byte> data, const SocketAddress*, int) override {
    sent_.append(reinterpret_cast<const char*>(data.data()), data.size());
    return data.size();
  }

  uint32_t Poll() const override { return 0; }
  Errno Bind(const SocketAddress&) override { return kOk; }
  Errno Listen(int) override { return kOk; }
  Result<std::shared_ptr<Socket>> Accept(SocketAddress*) override { return Errno(EINVAL); }
  Errno Connect(const SocketAddress&) override { return kOk; }
  Result<SocketAddress> LocalAddress() override { return SocketAddress(); }
  Result<SocketAddress> PeerAddress() override { return SocketAddress(); }
  Result<Received> Receive(std::span<std::byte>, int) override { return Errno(EAGAIN); }
  Errno Shutdown(int) override { return kOk; }
  Errno SetOption(int, int, std::span<const std::byte>) override { return kOk; }
  Result<size_t> GetOption(int, int, std::span<std::byte>) override { return Errno(EINVAL); }
  Errno TakeError() override { return kOk; }

 private:
  std::string received_;
  std::string sent_;
};

TEST(StreamPump, ErrorThatIsNobodysIsTriedAgain) {
  constexpr size_t kBudget = 4096;
  std::vector<std::byte> buffer(kBudget);
  FdCloser closer;
  FakeStream stream("from the peer");
  StreamPump pump;
  // A socket without a peer stands for a host that is short of memory: it fails both ways, and not
  // for being empty, full or closed.
  const UniqueFd alone(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(pump.Run(alone.get(), stream, buffer, kBudget, closer), StreamPump::Outcome::kRetry);
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd s(ends[0]);
  const UniqueFd c(ends[1]);
  ASSERT_EQ(send(c.get(), "to the peer", 11, 0), 11);
  // Nothing is lost, and S counts as readable still.
  EXPECT_EQ(pump.Run(s.get(), stream, buffer, kBudget, closer), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream.sent(), "to the peer");
  std::string got(13, '\0');
  EXPECT_EQ(recv(c.get(), got.data(), got.size(), MSG_DONTWAIT), 13);
  EXPECT_EQ(got, "from the peer");
}

}  // namespace
}  // namespace rump
