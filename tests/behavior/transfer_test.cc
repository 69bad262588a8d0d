// Calls that move bytes by other ways than read(2), write(2), send(2) and recv(2).
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <csignal>
#include <cstdint>
#include <string>
#include <utility>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

Fd Stream() { return Fd(socket(AF_INET, SOCK_STREAM, 0)); }

Fd FileWith(const std::string& data) {
  Fd fd(memfd_create("data", MFD_CLOEXEC));
  EXPECT_TRUE(WriteAll(fd.get(), data));
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_SET), 0);
  return fd;
}

std::pair<Fd, Fd> Pipe() {
  int ends[2];
  EXPECT_THAT(pipe(ends), Succeeds());
  return {Fd(ends[0]), Fd(ends[1])};
}

std::string Received(const Fd& fd) {
  char data[256];
  const ssize_t size = recv(fd.get(), data, sizeof data, 0);
  EXPECT_THAT(size, Succeeds());
  return {data, static_cast<size_t>(size > 0 ? size : 0)};
}

// Counts the SIGPIPEs of its time, which do not end the test.
class BrokenPipes {
 public:
  BrokenPipes() : before_(signal(SIGPIPE, [](int) { count_ = count_ + 1; })) { count_ = 0; }
  ~BrokenPipes() { signal(SIGPIPE, before_); }
  int count() const { return count_; }

 private:
  static inline volatile sig_atomic_t count_ = 0;
  sighandler_t before_;
};

TEST(Sendfile, SendsFilesOnAStream) {
  auto [fd, peer] = TcpPair();
  const Fd file = FileWith("0123456789");
  off_t offset = 2;
  ASSERT_EQ(sendfile(fd.get(), file.get(), &offset, 3), 3);
  EXPECT_EQ(offset, 5);
  ASSERT_EQ(sendfile(fd.get(), file.get(), nullptr, 2), 2);
  EXPECT_EQ(ReadExactly(peer.get(), 5), "23401");
  EXPECT_EQ(lseek(file.get(), 0, SEEK_CUR), 2);
}

TEST(Sendfile, SendsADatagram) {
  auto [fd, peer] = UdpPair();
  const Fd file = FileWith("0123456789");
  off_t offset = 2;
  ASSERT_EQ(sendfile(fd.get(), file.get(), &offset, 3), 3);
  EXPECT_EQ(offset, 5);
  EXPECT_EQ(Received(peer), "234");
  ASSERT_EQ(sendfile(fd.get(), file.get(), nullptr, 100), 10);
  EXPECT_EQ(Received(peer), "0123456789");
  EXPECT_EQ(sendfile(fd.get(), file.get(), nullptr, 100), 0);
}

TEST(Sendfile, NeedsAConnection) {
  const BrokenPipes broken_pipes;
  const Fd file = FileWith("data");
  EXPECT_THAT(sendfile(Stream().get(), file.get(), nullptr, 4), FailsWith(EPIPE));
  EXPECT_THAT(sendfile(Listen().get(), file.get(), nullptr, 4), FailsWith(EPIPE));
  EXPECT_EQ(broken_pipes.count(), 2);
  EXPECT_THAT(sendfile(Fd(socket(AF_INET, SOCK_DGRAM, 0)).get(), file.get(),
                       reinterpret_cast<off_t*>(16), 4),
              FailsWith(EFAULT));
  EXPECT_THAT(sendfile(Fd(socket(AF_INET, SOCK_DGRAM, 0)).get(), file.get(), nullptr, 4),
              FailsWith(EDESTADDRREQ));
  EXPECT_EQ(lseek(file.get(), 0, SEEK_CUR), 0);
}

TEST(Sendfile, TakesNothingFromASocket) {
  auto [stream, peer] = TcpPair();
  const Fd file = FileWith("");
  for (const Fd& fd : {Stream(), Listen(), Fd(socket(AF_INET, SOCK_DGRAM, 0))}) {
    EXPECT_THAT(sendfile(file.get(), fd.get(), nullptr, 4), FailsWith(EINVAL));
    EXPECT_THAT(sendfile(stream.get(), fd.get(), nullptr, 4), FailsWith(EINVAL));
  }
}

TEST(Splice, MovesBytesOfStreams) {
  auto [fd, peer] = TcpPair();
  auto [out, in] = Pipe();
  ASSERT_TRUE(WriteAll(in.get(), "to the peer"));
  ASSERT_EQ(splice(out.get(), nullptr, fd.get(), nullptr, 100, 0), 11);
  ASSERT_EQ(PollFor(peer.get(), POLLIN, kPatience), POLLIN);
  ASSERT_EQ(splice(peer.get(), nullptr, in.get(), nullptr, 100, 0), 11);
  EXPECT_EQ(ReadExactly(out.get(), 11), "to the peer");
  ASSERT_THAT(fcntl(peer.get(), F_SETFL, O_NONBLOCK), Succeeds());
  EXPECT_THAT(splice(peer.get(), nullptr, in.get(), nullptr, 100, 0), FailsWith(EAGAIN));
}

// As it may be refused, nothing may be lost then.
TEST(Splice, MovesDatagramsOrLeavesThem) {
  auto [fd, peer] = UdpPair();
  auto [out, in] = Pipe();
  ASSERT_TRUE(WriteAll(in.get(), "a datagram"));
  if (splice(out.get(), nullptr, fd.get(), nullptr, 100, 0) != 10) {
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(ReadExactly(out.get(), 10), "a datagram");
    ASSERT_EQ(write(fd.get(), "a datagram", 10), 10);
  }
  ASSERT_EQ(PollFor(peer.get(), POLLIN, kPatience), POLLIN);
  if (splice(peer.get(), nullptr, in.get(), nullptr, 100, 0) == 10) {
    EXPECT_EQ(ReadExactly(out.get(), 10), "a datagram");
  } else {
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(Received(peer), "a datagram");
  }
}

TEST(Splice, NeedsAConnection) {
  const BrokenPipes broken_pipes;
  auto [out, in] = Pipe();
  ASSERT_TRUE(WriteAll(in.get(), "data"));
  for (const Fd& fd : {Stream(), Listen()}) {
    EXPECT_THAT(splice(fd.get(), nullptr, in.get(), nullptr, 4, 0), FailsWith(ENOTCONN));
    EXPECT_THAT(splice(out.get(), nullptr, fd.get(), nullptr, 4, 0), FailsWith(EPIPE));
  }
  EXPECT_EQ(broken_pipes.count(), 2);
  EXPECT_EQ(ReadExactly(out.get(), 4), "data");
}

TEST(Splice, NeedsAPipe) {
  auto [stream, peer] = TcpPair();
  const Fd file = FileWith("data");
  for (const Fd& fd : {Stream(), Listen(), Fd(socket(AF_INET, SOCK_DGRAM, 0))}) {
    EXPECT_THAT(splice(fd.get(), nullptr, stream.get(), nullptr, 4, 0), FailsWith(EINVAL));
    EXPECT_THAT(splice(file.get(), nullptr, fd.get(), nullptr, 4, 0), FailsWith(EINVAL));
    EXPECT_THAT(tee(fd.get(), stream.get(), 4, 0), FailsWith(EINVAL));
    char byte = 0;
    iovec part = {&byte, 1};
    EXPECT_THAT(vmsplice(fd.get(), &part, 1, 0), FailsWith(EBADF));
  }
  loff_t offset = 0;
  auto [out, in] = Pipe();
  const Fd datagram(socket(AF_INET, SOCK_DGRAM, 0));
  EXPECT_THAT(splice(datagram.get(), &offset, in.get(), nullptr, 4, 0), FailsWith(EINVAL));
  EXPECT_THAT(splice(out.get(), nullptr, datagram.get(), &offset, 4, 0), FailsWith(EINVAL));
}

TEST(VectorsWithFlags, WithoutAnOffsetAreReadvAndWritev) {
  char data[16] = "datagram";
  iovec part = {data, 8};
  auto [fd, peer] = UdpPair();
  ASSERT_EQ(pwritev2(fd.get(), &part, 1, -1, 0), 8);
  part.iov_len = sizeof data;
  ASSERT_EQ(preadv2(peer.get(), &part, 1, -1, 0), 8);
  EXPECT_THAT(preadv2(peer.get(), &part, 1, -1, RWF_NOWAIT), FailsWith(EAGAIN));
  EXPECT_THAT(preadv2(peer.get(), &part, 1, -1, 1 << 30), FailsWith(EOPNOTSUPP));

  auto [stream, other] = TcpPair();
  ASSERT_EQ(pwritev2(stream.get(), &part, 1, -1, 0), 16);
  ASSERT_EQ(preadv2(other.get(), &part, 1, -1, 0), 16);

  const BrokenPipes broken_pipes;
  EXPECT_THAT(pwritev2(Stream().get(), &part, 1, -1, 0), FailsWith(EPIPE));
  EXPECT_THAT(preadv2(Stream().get(), &part, 1, -1, 0), FailsWith(ENOTCONN));
  EXPECT_THAT(preadv2(Listen().get(), &part, 1, -1, 0), FailsWith(ENOTCONN));
  EXPECT_EQ(broken_pipes.count(), 1);
}

// What is no length is not sent for what may lie behind the buffer.
TEST(Vectors, HaveLengthsThatMakeSense) {
  const auto stream = TcpPair();
  const auto datagrams = UdpPair();
  char data[] = "data";
  volatile size_t most = SIZE_MAX;  // which compilers would warn of
  iovec endless = {data, SIZE_MAX};
  iovec second[] = {{data, 4}, {data, SIZE_MAX}};
  for (const auto* pair : {&stream, &datagrams}) {
    const int fd = pair->first.get();
    EXPECT_THAT(write(fd, data, most), FailsWith(EFAULT));
    EXPECT_THAT(read(fd, data, most), FailsWith(EFAULT));
    for (const auto& [iov, count] : {std::pair(&endless, 1), std::pair(&second[0], 2)}) {
      msghdr message = {};
      message.msg_iov = iov;
      message.msg_iovlen = static_cast<size_t>(count);
      mmsghdr messages[] = {{message, 0}};
      EXPECT_THAT(writev(fd, iov, count), FailsWith(EINVAL));
      EXPECT_THAT(pwritev2(fd, iov, count, -1, 0), FailsWith(EINVAL));
      EXPECT_THAT(sendmsg(fd, &message, 0), FailsWith(EINVAL));
      EXPECT_THAT(sendmmsg(fd, messages, 1, 0), FailsWith(EINVAL));
      EXPECT_THAT(readv(fd, iov, count), FailsWith(EINVAL));
      EXPECT_THAT(preadv2(fd, iov, count, -1, 0), FailsWith(EINVAL));
      EXPECT_THAT(recvmsg(fd, &message, 0), FailsWith(EINVAL));
      EXPECT_THAT(recvmmsg(fd, messages, 1, 0, nullptr), FailsWith(EINVAL));
    }
    EXPECT_EQ(PollFor(pair->second.get(), POLLIN, kBriefly), 0);
    EXPECT_EQ(write(fd, data, 4), 4);
    EXPECT_EQ(Received(pair->second), "data");
  }
}

TEST(Vectors, AreWhereTheyCanBe) {
  const auto stream = TcpPair();
  const auto datagrams = UdpPair();
  int ends[2];
  ASSERT_THAT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), Succeeds());
  const Fd local[] = {Fd(ends[0]), Fd(ends[1])};
  // Volatile, since compilers look at what is null.
  for (volatile intptr_t address : {intptr_t{0}, intptr_t{8}, intptr_t{-4096}}) {
    auto* const iov = reinterpret_cast<iovec*>(address);
    msghdr message = {};
    message.msg_iov = iov;
    message.msg_iovlen = 1;
    auto* const header = reinterpret_cast<msghdr*>(address);
    auto* const headers = reinterpret_cast<mmsghdr*>(address);
    for (const int fd : {stream.first.get(), datagrams.first.get(), local[0].get()}) {
      EXPECT_THAT(writev(fd, iov, 1), FailsWith(EFAULT));
      EXPECT_THAT(readv(fd, iov, 1), FailsWith(EFAULT));
      EXPECT_THAT(sendmsg(fd, &message, 0), FailsWith(EFAULT));
      EXPECT_THAT(recvmsg(fd, &message, 0), FailsWith(EFAULT));
      EXPECT_THAT(sendmsg(fd, header, 0), FailsWith(EFAULT));
      EXPECT_THAT(recvmsg(fd, header, 0), FailsWith(EFAULT));
      EXPECT_THAT(sendmmsg(fd, headers, 1, 0), FailsWith(EFAULT));
      EXPECT_THAT(recvmmsg(fd, headers, 1, 0, nullptr), FailsWith(EFAULT));
    }
  }
}

TEST(Vectors, HaveHeadersThatMakeSense) {
  const auto [fd, peer] = UdpPair();
  ASSERT_EQ(write(peer.get(), "data", 4), 4);
  ASSERT_EQ(PollFor(fd.get(), POLLIN, kPatience), POLLIN);
  char data[8];
  iovec buffer = {data, sizeof data};
  mmsghdr messages[1] = {};
  msghdr& message = messages[0].msg_hdr;
  message.msg_iov = &buffer;
  message.msg_iovlen = 1;
  volatile intptr_t nowhere = 8;
  EXPECT_THAT(
      recvmmsg(fd.get(), messages, 1, MSG_DONTWAIT, reinterpret_cast<timespec*>(intptr_t{nowhere})),
      FailsWith(EFAULT));
  for (timespec timeout : {timespec{0, -1}, timespec{-1, 0}, timespec{0, 1'000'000'000}}) {
    EXPECT_THAT(recvmmsg(fd.get(), messages, 1, MSG_DONTWAIT, &timeout), FailsWith(EINVAL));
  }
  sockaddr_in from;
  message.msg_name = &from;
  message.msg_namelen = static_cast<socklen_t>(-1);
  EXPECT_THAT(recvmsg(fd.get(), &message, MSG_DONTWAIT), FailsWith(EINVAL));
  EXPECT_THAT(sendmsg(fd.get(), &message, MSG_DONTWAIT), FailsWith(EINVAL));
  message.msg_name = nullptr;
  EXPECT_EQ(recvmsg(fd.get(), &message, MSG_DONTWAIT), 4);
}

TEST(Files, SocketsAreNone) {
  auto [stream, peer] = TcpPair();
  const Fd file = FileWith("data");
  char data[4];
  iovec part = {data, sizeof data};
  const Fd fresh = Stream();
  const Fd listener = Listen();
  const Fd datagram(socket(AF_INET, SOCK_DGRAM, 0));
  for (const int fd : {stream.get(), fresh.get(), listener.get(), datagram.get()}) {
    EXPECT_THAT(pread(fd, data, 4, 0), FailsWith(ESPIPE));
    EXPECT_THAT(pwrite(fd, data, 4, 0), FailsWith(ESPIPE));
    EXPECT_THAT(preadv(fd, &part, 1, 0), FailsWith(ESPIPE));
    EXPECT_THAT(pwritev(fd, &part, 1, 0), FailsWith(ESPIPE));
    EXPECT_THAT(preadv2(fd, &part, 1, 0, 0), FailsWith(ESPIPE));
    EXPECT_THAT(pwritev2(fd, &part, 1, 0, 0), FailsWith(ESPIPE));
    EXPECT_THAT(lseek(fd, 0, SEEK_SET), FailsWith(ESPIPE));
    EXPECT_THAT(ftruncate(fd, 0), FailsWith(EINVAL));
    EXPECT_THAT(fsync(fd), FailsWith(EINVAL));
    EXPECT_THAT(fdatasync(fd), FailsWith(EINVAL));
    EXPECT_THAT(fallocate(fd, 0, 0, 4), FailsWith(ENODEV));
    EXPECT_THAT(copy_file_range(file.get(), nullptr, fd, nullptr, 4, 0), FailsWith(EINVAL));
    EXPECT_THAT(copy_file_range(fd, nullptr, file.get(), nullptr, 4, 0), FailsWith(EINVAL));
    EXPECT_EQ(isatty(fd), 0);
    EXPECT_EQ(errno, ENOTTY);
    struct stat status;
    ASSERT_THAT(fstat(fd, &status), Succeeds());
    EXPECT_TRUE(S_ISSOCK(status.st_mode));
  }
}

}  // namespace
}  // namespace rump
