#include "sp_server/kernel/stream_pump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "sp_server/loop/fd_closer.h"
#include "sp_server/loop/pass_fds.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {
namespace {

// A connection that has received `received`, and remembers what it is sent.
class FakeStream final : public StreamSocket {
 public:
  explicit FakeStream(std::string received)
      : StreamSocket(AF_INET, SOCK_STREAM, 0, 0), received_(std::move(received)) {}

  // Urgent bytes stand in brackets, here and in what it has received.
  const std::string& sent() const { return sent_; }
  void Deliver(const std::string& text) { received_ += text; }

  size_t PeekReceived(std::span<iovec> iov) const override {
    if (received_.empty()) return 0;
    if (AtMark()) {
      iov[0] = {const_cast<char*>(received_.data()) + 1, 1};
    } else {
      iov[0] = {const_cast<char*>(received_.data()),
                std::min(received_.find('['), received_.size())};
    }
    return 1;
  }
  bool AtMark() const override { return received_.starts_with('['); }
  void ConsumeReceived(size_t bytes) override { received_.erase(0, AtMark() ? 3 : bytes); }
  bool receive_eof() const override { return false; }
  size_t SendSpace() const override { return space_; }
  void set_space(size_t space) { space_ = space; }
  // Two pieces of memory, of which the first is short.
  size_t PrepareSend(size_t bytes, std::span<iovec> iov) override {
    if (bytes < 3000) return 0;
    prepared_.resize(bytes);
    iov[0] = {prepared_.data(), 1000};
    iov[1] = {prepared_.data() + 1000, bytes - 1000};
    return 2;
  }
  bool SendPrepared(size_t bytes) override {
    sent_.append(prepared_.data(), bytes);
    return true;
  }
  Errno pending_error() const override { return kOk; }
  size_t BufferAskedFor(int) const override { return 0; }
  void Abort() override {}
  Result<size_t> Send(std::span<const std::byte> data, const SocketAddress*, int flags) override {
    const std::string text(reinterpret_cast<const char*>(data.data()), data.size());
    sent_ += (flags & MSG_OOB) != 0 ? "[" + text + "]" : text;
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
  std::string prepared_;
  size_t space_ = 4096;
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
  // Nothing is lost.
  pump.HostReadable(/*ended=*/false);
  EXPECT_EQ(pump.Run(s.get(), stream, buffer, kBudget, closer), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream.sent(), "to the peer");
  std::string got(13, '\0');
  EXPECT_EQ(recv(c.get(), got.data(), got.size(), MSG_DONTWAIT), 13);
  EXPECT_EQ(got, "from the peer");
}

// What the programs at both ends of a pair and the stream see of each other.
class StreamPumpPair : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    s_ = UniqueFd(ends[0]);
    c_ = UniqueFd(ends[1]);
    ASSERT_EQ(send(c_.get(), "k", 1, 0), 1);
    pump_.KeepFirstByte();
  }
  StreamPump::Outcome Run() { return pump_.Run(s_.get(), stream_, buffer_, 4096, closer_); }
  void Send(const std::string& text) {
    ASSERT_EQ(send(c_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    pump_.HostReadable(/*ended=*/false);
  }

  std::vector<std::byte> buffer_ = std::vector<std::byte>(4096);
  FdCloser closer_;
  FakeStream stream_{""};
  StreamPump pump_;
  UniqueFd s_;
  UniqueFd c_;
};

TEST_F(StreamPumpPair, EveryByteIsPassedOnOnce) {
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream_.sent(), "");
  std::string all;
  for (const char* text : {"a", "bc", "d", "efgh"}) {
    Send(text);
    all += text;
    EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
    EXPECT_EQ(stream_.sent(), all);
    EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  }
  Send(std::string(10'000, 'x'));
  while (Run() == StreamPump::Outcome::kMore) {
  }
  EXPECT_EQ(stream_.sent(), all + std::string(10'000, 'x'));
}

// Bytes in S that C has sent.
size_t Queued(const UniqueFd& s) {
  int queued = 0;
  EXPECT_EQ(ioctl(s.get(), FIONREAD, &queued), 0);
  return static_cast<size_t>(queued);
}

TEST_F(StreamPumpPair, PassedOnMessagesDoNotPileUp) {
  constexpr size_t kMessage = 1000;
  size_t most = 0;
  for (size_t i = 0; i < 100; ++i) {
    Send(std::string(kMessage, static_cast<char>('a' + i % 26)));
    EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
    ASSERT_EQ(stream_.sent().size(), (i + 1) * kMessage);
    ASSERT_EQ(stream_.sent().back(), static_cast<char>('a' + i % 26));
    most = std::max(most, Queued(s_));
  }
  EXPECT_LE(most, size_t{8192});
  // Single bytes cost the host's kernel hundreds each.
  for (int i = 0; i < 100; ++i) {
    Send("x");
    EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  }
  EXPECT_LE(Queued(s_), 32u);
  EXPECT_TRUE(pump_.keeps_much());
  pump_.Trim(s_.get(), closer_);
  EXPECT_FALSE(pump_.keeps_much());
  EXPECT_EQ(Queued(s_), 1u);
}

TEST_F(StreamPumpPair, MessagesOfAllSizes) {
  std::mt19937 random(20240607);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  buffer_.resize(20'000);
  std::string to_stream, to_host, got;
  size_t compared = 0;
  for (int step = 0; step < 20'000; ++step) {
    switch (below(6)) {
      case 0:
      case 1: {
        std::string text(1 + below(below(4) == 0 ? 30'000 : 300), '\0');
        for (char& c : text) c = static_cast<char>(random());
        const ssize_t n = send(c_.get(), text.data(), text.size(), MSG_DONTWAIT);
        if (n <= 0) break;
        to_stream.append(text, 0, static_cast<size_t>(n));
        pump_.HostReadable(/*ended=*/false);
        break;
      }
      case 2: {
        const std::string text(below(10'000), static_cast<char>('a' + step % 26));
        stream_.Deliver(text);
        to_host += text;
        break;
      }
      case 3: {
        std::string part(below(20'000) + 1, '\0');
        const ssize_t n = recv(c_.get(), part.data(), part.size(), MSG_DONTWAIT);
        if (n > 0) got.append(part, 0, static_cast<size_t>(n));
        break;
      }
      case 4:
        stream_.set_space(below(10'000));
        break;
      case 5:
        (void)pump_.Run(s_.get(), stream_, buffer_, below(20'000), closer_);
        // Only what has been passed on may be missing from the stream.
        ASSERT_LE(stream_.sent().size(), to_stream.size());
        ASSERT_EQ(
            to_stream.compare(compared, stream_.sent().size() - compared, stream_.sent(), compared),
            0);
        compared = stream_.sent().size();
        break;
    }
  }
  stream_.set_space(1 << 20);
  for (bool more = true; more;) {
    more = pump_.Run(s_.get(), stream_, buffer_, 20'000, closer_) == StreamPump::Outcome::kMore;
    std::string part(100'000, '\0');
    const ssize_t n = recv(c_.get(), part.data(), part.size(), MSG_DONTWAIT);
    if (n > 0) got.append(part, 0, static_cast<size_t>(n)), more = true;
  }
  EXPECT_EQ(stream_.sent(), to_stream);
  EXPECT_EQ(got, to_host);
  s_.reset();
  char byte;
  EXPECT_EQ(recv(c_.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(StreamPumpPair, DescriptorsAmongMessagesAreClosed) {
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  const UniqueFd out(pipe_ends[0]);
  UniqueFd in(pipe_ends[1]);
  Send("before");
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  const int fd = in.get();
  ASSERT_EQ(SendWithFds(c_.get(), std::as_bytes(std::span("with", 4)), std::span(&fd, 1), 0), 4);
  in.reset();
  pump_.HostReadable(/*ended=*/false);
  Send("behind");
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream_.sent(), "beforewithbehind");
  for (int i = 0; i < 20; ++i) {
    Send("more");
    EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  }
  // The closer's thread.
  pollfd closed{.fd = out.get(), .events = 0, .revents = 0};
  EXPECT_EQ(poll(&closed, 1, 10'000), 1);
  EXPECT_NE(closed.revents & POLLHUP, 0);
}

TEST_F(StreamPumpPair, TellsWhetherTheProgramsEndIsFull) {
  stream_.Deliver(std::string(4 << 20, 'x'));
  while (Run() == StreamPump::Outcome::kMore) {
  }
  EXPECT_TRUE(pump_.host_full());
  std::string part(8 << 20, '\0');
  size_t got = 0;
  while (got < size_t{4} << 20) {
    const ssize_t n = recv(c_.get(), part.data(), part.size(), MSG_DONTWAIT);
    ASSERT_GT(n, 0);
    got += static_cast<size_t>(n);
    while (Run() == StreamPump::Outcome::kMore) {
    }
  }
  EXPECT_FALSE(pump_.host_full());
}

TEST_F(StreamPumpPair, ClosingSIsAReset) {
  Send("words");
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  s_.reset();
  char byte;
  EXPECT_EQ(recv(c_.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(StreamPumpPair, WithoutTheKeptByteItIsTheEnd) {
  Send("words");
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  pump_.DropKeptBytes(s_.get(), closer_);
  s_.reset();
  char byte;
  EXPECT_EQ(recv(c_.get(), &byte, 1, 0), 0);
}

TEST_F(StreamPumpPair, EndAndResetOfTheProgram) {
  Send("words");
  c_.reset();
  pump_.HostReadable(/*ended=*/true);
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream_.sent(), "words");
  EXPECT_TRUE(pump_.host_eof());
}

TEST_F(StreamPumpPair, AProgramThatLeavesBytesUnreadResets) {
  Send("words");
  ASSERT_EQ(send(s_.get(), "unread", 6, 0), 6);
  c_.reset();
  pump_.HostReadable(/*ended=*/true);
  EXPECT_EQ(Run(), StreamPump::Outcome::kHostGone);
}

TEST_F(StreamPumpPair, UrgentBytesKeepTheirPlace) {
  pump_.ExpectUrgent(s_.get());
  std::string all;
  // Whatever the pump has room for at a time, and however many bytes there are between.
  for (size_t space = 1; space < 8; ++space) {
    for (size_t before = 0; before < 9; ++before) {
      for (size_t behind = 0; behind < 3; ++behind) {
        stream_.set_space(space);
        const std::string head(before, 'a'), tail(behind, 'b');
        if (before > 0) Send(head);
        ASSERT_EQ(send(c_.get(), "!", 1, MSG_OOB), 1);
        if (behind > 0) Send(tail);
        pump_.HostReadable(/*ended=*/false);
        EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
        all.append(head).append("[!]").append(tail);
        ASSERT_EQ(stream_.sent(), all);
      }
    }
  }
  Send("words");
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream_.sent(), all + "words");
}

TEST_F(StreamPumpPair, KeptUrgentByteIsKeptLikeOthers) {
  pump_.ExpectUrgent(s_.get());
  ASSERT_EQ(send(c_.get(), "!", 1, MSG_OOB), 1);
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream_.sent(), "[!]");
  s_.reset();
  char byte;
  EXPECT_EQ(recv(c_.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(StreamPumpPair, UrgentByteBeforeTheEnd) {
  pump_.ExpectUrgent(s_.get());
  ASSERT_EQ(send(c_.get(), "ab!", 3, MSG_OOB), 3);
  c_.reset();
  pump_.HostReadable(/*ended=*/true);
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream_.sent(), "ab[!]");
  EXPECT_TRUE(pump_.host_eof());
}

TEST_F(StreamPumpPair, UrgentBytesFromTheStream) {
  stream_.Deliver("ab[!]cd");
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  char buffer[8];
  EXPECT_EQ(recv(c_.get(), buffer, 1, MSG_OOB), 1);
  EXPECT_EQ(buffer[0], '!');
  EXPECT_EQ(recv(c_.get(), buffer, sizeof buffer, 0), 2);
  EXPECT_EQ(recv(c_.get(), buffer, sizeof buffer, 0), 2);
  EXPECT_EQ(std::string(buffer, 2), "cd");
}

TEST_F(StreamPumpPair, UrgentDataDoesNoHarm) {
  ASSERT_EQ(send(c_.get(), "!", 1, MSG_OOB), 1);
  pump_.HostReadable(/*ended=*/false);
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  Send("words");
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  EXPECT_EQ(stream_.sent(), "words");
  ASSERT_EQ(send(c_.get(), "!", 1, MSG_OOB), 1);
  c_.reset();
  pump_.HostReadable(/*ended=*/true);
  EXPECT_EQ(Run(), StreamPump::Outcome::kIdle);
  EXPECT_TRUE(pump_.host_eof());
}

}  // namespace
}  // namespace rump
