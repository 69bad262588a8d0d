// What clients can make the kernel hold: each limit is met, and what counted towards it is given
// back when its process has ended.
#include "sp_server/kernel/limits.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "protocol/syscalls.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

constexpr uint64_t kArgs = 4096;
constexpr int kForever = -1;

class LimitsTest : public testing::Test {
 protected:
  void StartServer(const KernelLimits& limits) {
    server_ = std::make_unique<ServerThread>(ServerOptions(), limits);
    observer_ = std::make_unique<TestProgram>(server_->path(), "observer");
  }
  std::unique_ptr<TestProgram> NewProgram() {
    return std::make_unique<TestProgram>(server_->path());
  }

  // A number of the server's statistics.
  size_t Statistic(const std::string& name) {
    constexpr uint64_t kSize = 64 * 1024;
    const int64_t size = observer_->Call(
        kSysQuery, static_cast<uint64_t>(QueryKind::kStatisticsJson), kArgs, kSize, 0);
    const std::string report = observer_->Text(kArgs, static_cast<size_t>(size));
    const size_t at = report.find("\"" + name + "\":");
    EXPECT_NE(at, std::string::npos) << report;
    return strtoull(report.c_str() + at + name.size() + 3, nullptr, 10);
  }
  // Whether the number comes down to 0, now that its programs are gone.
  bool BecomesZero(const std::string& name) {
    constexpr int kTries = 100'000;
    for (int i = 0; i < kTries; ++i) {
      if (Statistic(name) == 0) return true;
    }
    return false;
  }

  std::unique_ptr<ServerThread> server_;
  std::unique_ptr<TestProgram> observer_;
};

TEST_F(LimitsTest, ProcessesAndCopiesOfThem) {
  StartServer({.processes = 12});
  const auto forks = [](TestProgram& program) {
    program.client().Send({.reqno = 900, .type = FrameType::kPrefork});
    const std::optional<RawFrame> answer = program.client().Receive();
    return answer.has_value() && answer->header.cls == FrameClass::kResponse;
  };
  // As many as `program` gets.
  const auto copies = [&](TestProgram& program) {
    int count = 0;
    while (forks(program)) ++count;
    return count;
  };
  auto greedy = NewProgram();
  EXPECT_EQ(copies(*greedy), 3) << "of the 6, half";
  const auto second = NewProgram();
  EXPECT_EQ(copies(*second), 2);
  const auto third = NewProgram();
  EXPECT_EQ(copies(*third), 1);
  EXPECT_EQ(Statistic("processes"), 4U + 6U);
  EXPECT_EQ(copies(*third), 0);
  // Guests get the rest.
  std::vector<RawClient> guests;
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(guests.emplace_back(server_->path()).Guest());
  EXPECT_FALSE(RawClient(server_->path()).Guest());
  // A copy that is claimed counts as a client's; those of who leaves make room.
  greedy.reset();
  while (Statistic("processes") != 8U) sched_yield();
  EXPECT_EQ(copies(*third), 1);
  EXPECT_TRUE(RawClient(server_->path()).Guest());
}

TEST_F(LimitsTest, DescriptorsOfOneProcess) {
  StartServer({.process_files = 5});
  const auto program = NewProgram();
  const int listener = static_cast<int>(program->Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(program->BindUnix(listener, "@name"), 0);
  ASSERT_EQ(program->Call(SYS_listen, listener, 1), 0);
  const int end = static_cast<int>(program->Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(program->ConnectUnix(end, "@name"), 0);
  const auto [reader, writer] = program->Pipe();
  EXPECT_EQ(program->Call(SYS_dup, writer), 4);
  EXPECT_EQ(program->Call(SYS_dup, writer), -EMFILE);
  EXPECT_EQ(program->Call(SYS_pipe, kArgs), -EMFILE);
  EXPECT_EQ(program->Call(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, kArgs), -EMFILE);
  EXPECT_EQ(program->Call(SYS_epoll_create1, 0), -EMFILE);
  EXPECT_EQ(program->Call(SYS_dup2, writer, 5), -EBADF);
  EXPECT_EQ(program->Call(SYS_fcntl, writer, F_DUPFD, 5), -EINVAL);
  EXPECT_EQ(program->Call(SYS_poll, kArgs, 6, 0), -EINVAL);
  // The connection waits for its descriptor.
  EXPECT_EQ(program->Call(SYS_accept, listener, 0, 0), -EMFILE);
  EXPECT_EQ(program->Close(4), 0);
  EXPECT_EQ(program->Call(SYS_accept, listener, 0, 0), 4);
  EXPECT_EQ(NewProgram()->Pipe().second, 1) << "others have their own";
}

TEST_F(LimitsTest, DescriptorsOfAllProcesses) {
  StartServer({.files = 6});
  {
    const auto first = NewProgram();
    const auto second = NewProgram();
    first->Pipe();
    first->Pipe();
    second->Pipe();
    EXPECT_EQ(Statistic("fd_entries"), 6U);
    EXPECT_EQ(second->Call(SYS_dup, 0), -ENFILE);
    EXPECT_EQ(second->Call(SYS_dup2, 0, 2), -ENFILE);
    EXPECT_EQ(second->Call(SYS_dup2, 0, 1), 1) << "no new entry";
    second->client().Send({.reqno = 900, .type = FrameType::kPrefork});
    const std::optional<RawFrame> refused = second->client().Receive();
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(refused->header.u, static_cast<uint32_t>(WireError::kForkFailed));
    // A free entry below an open one still costs; the last ones do not.
    EXPECT_EQ(first->Close(2), 0);
    EXPECT_EQ(second->Call(SYS_dup, 0), -ENFILE);
    EXPECT_EQ(first->Close(3), 0);
    EXPECT_EQ(second->Call(SYS_dup, 0), 2);
    second->client().Send({.reqno = 901, .type = FrameType::kPrefork});
    ASSERT_TRUE(second->client().Receive().has_value());
  }
  EXPECT_TRUE(BecomesZero("fd_entries"));
  EXPECT_TRUE(BecomesZero("memory"));
}

TEST_F(LimitsTest, DatagramsThatNobodyReceives) {
  constexpr size_t kLimit = 100'000;
  StartServer({.datagram_bytes = kLimit});
  {
    const auto program = NewProgram();
    const auto make = [&] {
      return static_cast<uint64_t>(program->Call(SYS_socket, AF_INET, SOCK_DGRAM, 0));
    };
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // Each takes twice what is left for all, and gets at least one.
    for (uint16_t port = 5001; port < 5005; ++port) {
      const uint64_t to = make(), from = make();
      address.sin_port = htons(port);
      program->Put(kArgs, address);
      ASSERT_EQ(program->Call(SYS_bind, to, kArgs, sizeof address), 0);
      ASSERT_EQ(program->Call(SYS_connect, from, kArgs, sizeof address), 0);
      const std::string text(1000, 'x');
      for (int i = 0; i < 150; ++i) EXPECT_EQ(program->Write(static_cast<int>(from), text), 1000);
      EXPECT_EQ(program->Read(static_cast<int>(to), 2000).size(), 1000U);
    }
    EXPECT_GT(Statistic("memory"), kLimit / 2);
    EXPECT_LE(Statistic("memory"), kLimit);
  }
  EXPECT_TRUE(BecomesZero("memory"));
}

TEST_F(LimitsTest, BytesInPipes) {
  constexpr size_t kSmall = 4096;
  constexpr size_t kLarge = 65'536;
  StartServer({.memory_bytes = kLarge + kSmall});
  {
    const auto program = NewProgram();
    const auto [large, large_writer] = program->Pipe();
    const auto [small, small_writer] = program->Pipe();
    const auto [third, third_writer] = program->Pipe();
    EXPECT_EQ(Statistic("memory"), 0U) << "empty pipes cost nothing";
    const std::string text(kSmall, 'x');
    EXPECT_EQ(program->Write(large_writer, text.substr(0, 100)), 100);
    EXPECT_EQ(Statistic("memory"), kSmall);
    EXPECT_EQ(program->Write(large_writer, text), static_cast<int64_t>(text.size()));
    EXPECT_EQ(Statistic("memory"), kLarge);
    EXPECT_EQ(program->Write(small_writer, "abc"), 3);
    EXPECT_EQ(Statistic("memory"), kLarge + kSmall);
    EXPECT_EQ(program->Write(third_writer, "x"), -ENOMEM);
    EXPECT_EQ(program->Read(large, kLarge).size(), text.size() + 100);
    EXPECT_EQ(Statistic("memory"), kSmall);
    EXPECT_EQ(program->Write(third_writer, "x"), 1);
    EXPECT_EQ(program->Read(small), "abc");
  }
  EXPECT_TRUE(BecomesZero("memory"));
}

TEST_F(LimitsTest, BytesInUnixSockets) {
  StartServer({.memory_bytes = 20'000});
  for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    const auto program = NewProgram();
    const auto [a, b] = program->Socketpair(type);
    const std::string text(3000, 'x');
    int64_t sent = 0;
    int times = -1;
    do {
      sent = program->Write(a, text);
      ++times;
    } while (sent == static_cast<int64_t>(text.size()));
    EXPECT_EQ(sent, -ENOBUFS);
    EXPECT_EQ(times, 6);
    EXPECT_EQ(program->Read(b, text.size()), text);
    EXPECT_EQ(program->Write(a, text), static_cast<int64_t>(text.size()));
    program->client().Close();
    EXPECT_TRUE(BecomesZero("memory"));
  }
}

TEST_F(LimitsTest, ConnectionsThatNobodyAccepts) {
  StartServer({.memory_bytes = 10'000});
  {
    const auto program = NewProgram();
    const int listener = static_cast<int>(program->Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(program->BindUnix(listener, "@name"), 0);
    ASSERT_EQ(program->Call(SYS_listen, listener, 1000), 0);
    const auto connect = [&] {
      const int end = static_cast<int>(program->Call(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
      const int64_t result = program->ConnectUnix(end, "@name");
      EXPECT_EQ(program->Close(end), 0);
      return result;
    };
    for (int i = 0; i < 4; ++i) EXPECT_EQ(connect(), 0);
    EXPECT_EQ(connect(), -ENOBUFS);
    EXPECT_GT(program->Call(SYS_accept, listener, 0, 0), 0);
    EXPECT_EQ(connect(), 0);
  }
  EXPECT_TRUE(BecomesZero("memory"));
}

TEST_F(LimitsTest, FilesThatPollWaitsFor) {
  StartServer({.memory_bytes = 40'000});
  {
    const auto program = NewProgram();
    const auto [reader, writer] = program->Pipe();
    constexpr int kFiles = 60;
    const pollfd entry{.fd = reader, .events = POLLIN, .revents = 0};
    for (uint64_t i = 0; i < kFiles; ++i) program->Put(kArgs + i * sizeof entry, entry);
    std::vector<uint64_t> blocked;
    while (!program->HasFinished(
        blocked.emplace_back(program->StartBlocked(SYS_poll, kArgs, kFiles, kForever)))) {
      ASSERT_LT(blocked.size(), 100U);
    }
    EXPECT_EQ(program->Finish(blocked.back()), -ENOMEM);
    blocked.pop_back();
    EXPECT_GE(blocked.size(), 4U);
    program->Close(writer);
    for (const uint64_t call : blocked) EXPECT_GT(program->Finish(call), 0);
    EXPECT_EQ(Statistic("memory"), 0U);
    program->Pipe();
    program->StartBlocked(SYS_poll, kArgs, 1, kForever);
  }
  EXPECT_TRUE(BecomesZero("memory"));
}

TEST_F(LimitsTest, FilesThatEpollWatches) {
  StartServer({.memory_bytes = 10'000});
  {
    const auto program = NewProgram();
    const auto [reader, writer] = program->Pipe();
    const auto epoll = program->Call(SYS_epoll_create1, 0);
    program->Put(kArgs, epoll_event{.events = EPOLLIN, .data = {}});
    int64_t error = 0;
    int fd = reader;
    std::vector<int> copies;
    while ((error = program->Call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, kArgs)) == 0) {
      fd = copies.emplace_back(static_cast<int>(program->Call(SYS_dup, reader)));
      ASSERT_LT(copies.size(), 1000U);
    }
    EXPECT_EQ(error, -ENOMEM);
    EXPECT_EQ(program->Call(SYS_epoll_ctl, epoll, EPOLL_CTL_DEL, reader, 0), 0);
    EXPECT_EQ(program->Call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, kArgs), 0);
    // The file's end frees what watched it.
    program->Close(reader);
    for (const int copy : copies) program->Close(copy);
    EXPECT_EQ(Statistic("memory"), 0U);
    program->Call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, writer, kArgs);
    EXPECT_GT(Statistic("memory"), 0U);
  }
  EXPECT_TRUE(BecomesZero("memory"));
}

TEST_F(LimitsTest, CopiesThatCallsWaitFor) {
  StartServer({.memory_bytes = 10'000});
  {
    const auto program = NewProgram();
    const auto [reader, writer] = program->Pipe();
    // Nobody answers what these ask for.
    RawClient& client = program->client();
    client.SendCall(SYS_write, {static_cast<uint64_t>(writer), kArgs, 9000});
    ASSERT_EQ(client.Receive()->header.type, FrameType::kCopyIn);
    EXPECT_EQ(program->Call(SYS_writev, writer, kArgs, 1000), -ENOMEM);
    EXPECT_EQ(program->Call(SYS_readv, reader, kArgs, 1000), -ENOMEM);
    const auto [a, b] = program->Socketpair(SOCK_DGRAM);
    EXPECT_EQ(program->Call(SYS_sendto, a, kArgs, 9000, 0, 0, 0), -ENOBUFS);
    EXPECT_EQ(program->Call(SYS_setsockopt, a, SOL_SOCKET, SO_SNDBUF, kArgs, 4096), -ENOMEM);
    constexpr auto kLargeRequest = _IOC(_IOC_READ, 'x', 0, 8000);
    EXPECT_EQ(program->Call(SYS_ioctl, reader, kLargeRequest, kArgs), -ENOMEM);
  }
  EXPECT_TRUE(BecomesZero("memory"));
}

class HostObjectLimitsTest : public LimitsTest {
 protected:
  struct Made {
    uint64_t object;
    UniqueFd c;
    int error;
  };
  static Made Make(TestProgram& program) {
    const SyscallResultPayload result =
        program.client().CallResult(kSysHostSocket, {AF_INET, SOCK_STREAM, 0});
    return {result.retval[0], program.client().TakeFd(), result.error};
  }
};

TEST_F(HostObjectLimitsTest, OfOneProcess) {
  StartServer({.process_objects = 2});
  {
    const auto program = NewProgram();
    const Made first = Make(*program);
    Made second = Make(*program);
    ASSERT_EQ(second.error, 0);
    EXPECT_EQ(Make(*program).error, EMFILE);
    EXPECT_EQ(Make(*NewProgram()).error, 0) << "others have their own";
    second.c.reset();
    EXPECT_EQ(program->Call(kSysHostRelease, second.object), 0);
    EXPECT_EQ(Make(*program).error, 0);
  }
  EXPECT_TRUE(BecomesZero("objects"));
}

TEST_F(HostObjectLimitsTest, ConnectionsCountForTheirListener) {
  StartServer({.process_objects = 2});
  const auto program = NewProgram();
  const auto other = NewProgram();
  const Made listener = Make(*program);
  ASSERT_EQ(program->Call(SYS_listen, listener.object, 5), 0);
  sockaddr_in address;
  program->Put(kArgs, socklen_t{sizeof address});
  ASSERT_EQ(program->Call(SYS_getsockname, listener.object, kArgs + 8, kArgs), 0);
  address = program->Get<sockaddr_in>(kArgs + 8);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  other->Put(kArgs, address);
  std::vector<Made> ends;
  for (int i = 0; i < 2; ++i) {
    ends.push_back(Make(*other));
    EXPECT_EQ(other->Call(kSysHostConnect, ends.back().object, kArgs, sizeof address,
                          kHostConnectNotify, 0),
              0);
  }
  const auto accept = [&](int flags) {
    AcceptRecord record;
    iovec iov{&record, sizeof record};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr msg{};
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control;
    msg.msg_controllen = sizeof control;
    if (recvmsg(listener.c.get(), &msg, flags) <= 0) return UniqueFd();
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    return UniqueFd(fd);
  };
  UniqueFd first = accept(0);
  EXPECT_TRUE(first.valid());
  EXPECT_EQ(Make(*program).error, EMFILE);
  EXPECT_FALSE(accept(MSG_DONTWAIT).valid());
  // With room for it again the second one comes.
  first.reset();
  EXPECT_TRUE(accept(0).valid());
}

}  // namespace
}  // namespace rump
