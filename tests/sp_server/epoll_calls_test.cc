// epoll instances by their system calls.
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sp_server/server_thread.h"
#include "tests/sp_server/test_program.h"

namespace rump {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

constexpr uint64_t kEvent = 4096;
constexpr uint64_t kEvents = 8192;
constexpr uint64_t kName = 16384;
constexpr int kForever = -1;
constexpr uint64_t kMany = 64;

class EpollCallsTest : public testing::Test {
 protected:
  int Create() { return static_cast<int>(program_.Call(SYS_epoll_create1, EPOLL_CLOEXEC)); }
  int64_t Ctl(int epoll, int op, int fd, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = static_cast<uint64_t>(fd) | uint64_t{7} << 60;
    program_.Put(kEvent, event);
    return program_.Call(SYS_epoll_ctl, epoll, op, fd, kEvent);
  }
  int64_t Add(int epoll, int fd, uint32_t events) { return Ctl(epoll, EPOLL_CTL_ADD, fd, events); }
  // The `count` events that a wait has found: descriptor and events.
  std::vector<std::pair<int, uint32_t>> Found(int64_t count) {
    std::vector<std::pair<int, uint32_t>> found;
    for (int64_t i = 0; i < count; ++i) {
      const auto event = program_.Get<epoll_event>(kEvents + i * sizeof(epoll_event));
      EXPECT_EQ(event.data.u64 >> 60, 7U);
      found.emplace_back(static_cast<int>(event.data.u64 & 0xffff), event.events);
    }
    return found;
  }
  std::vector<std::pair<int, uint32_t>> Wait(int epoll, int timeout = 0) {
    return Found(program_.Call(SYS_epoll_wait, epoll, kEvents, kMany, timeout));
  }

  ServerThread server_;
  TestProgram program_{server_.path()};
};

TEST_F(EpollCallsTest, LevelTriggeredIsToldAgain) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  ASSERT_EQ(Add(epoll, reader, EPOLLIN), 0);
  ASSERT_EQ(Add(epoll, writer, EPOLLIN), 0);
  EXPECT_THAT(Wait(epoll), IsEmpty());
  program_.Write(writer, "x");
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(reader, EPOLLIN)));
  EXPECT_THAT(Wait(epoll, kForever), ElementsAre(Pair(reader, EPOLLIN)));
  EXPECT_EQ(program_.Read(reader), "x");
  EXPECT_THAT(Wait(epoll), IsEmpty());
}

TEST_F(EpollCallsTest, EdgeTriggeredIsToldOncePerEvent) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  program_.Write(writer, "x");
  ASSERT_EQ(Add(epoll, reader, EPOLLIN | EPOLLET), 0);
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(reader, EPOLLIN))) << "what held when it was added";
  EXPECT_THAT(Wait(epoll), IsEmpty());
  program_.Write(writer, "y");
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(reader, EPOLLIN)));
  EXPECT_THAT(Wait(epoll), IsEmpty());
  EXPECT_EQ(Ctl(epoll, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLET), 0);
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(reader, EPOLLIN))) << "a change looks anew";
}

TEST_F(EpollCallsTest, OneShotSleepsUntilItIsRearmed) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  ASSERT_EQ(Add(epoll, reader, EPOLLIN | EPOLLONESHOT), 0);
  program_.Write(writer, "x");
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(reader, EPOLLIN)));
  program_.Write(writer, "y");
  program_.Close(writer);
  EXPECT_THAT(Wait(epoll), IsEmpty()) << "not even a hang-up";
  EXPECT_EQ(Ctl(epoll, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLONESHOT), 0);
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(reader, EPOLLIN | EPOLLHUP)));
}

TEST_F(EpollCallsTest, WaitsUntilSomethingHappens) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  const uint64_t wait = program_.StartBlocked(SYS_epoll_wait, epoll, kEvents, kMany, kForever);
  // Watched only while the call waits already.
  ASSERT_EQ(Add(epoll, reader, EPOLLIN), 0);
  EXPECT_FALSE(program_.HasFinished(wait));
  program_.Write(writer, "x");
  EXPECT_THAT(Found(program_.Finish(wait)), ElementsAre(Pair(reader, EPOLLIN)));
}

TEST_F(EpollCallsTest, AddingWhatIsReadyEndsTheWait) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  const uint64_t wait =
      program_.StartBlocked(SYS_epoll_pwait, epoll, kEvents, kMany, kForever, 0, 0);
  ASSERT_EQ(Add(epoll, writer, EPOLLOUT), 0);
  EXPECT_THAT(Found(program_.Finish(wait)), ElementsAre(Pair(writer, EPOLLOUT)));
}

TEST_F(EpollCallsTest, TimesOut) {
  const int epoll = Create();
  EXPECT_EQ(program_.Call(SYS_epoll_wait, epoll, kEvents, 1, 5), 0);
}

TEST_F(EpollCallsTest, TellsOfTcpConnections) {
  const int epoll = Create();
  const auto listener = static_cast<int>(program_.Call(SYS_socket, AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(program_.Call(SYS_listen, listener, 8), 0);
  program_.Put(kEvent, socklen_t{sizeof(sockaddr_in)});
  ASSERT_EQ(program_.Call(SYS_getsockname, listener, kEvents, kEvent), 0);
  auto address = program_.Get<sockaddr_in>(kEvents);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  program_.Put(kName, address);
  ASSERT_EQ(Add(epoll, listener, EPOLLIN | EPOLLET), 0);
  const auto client =
      static_cast<int>(program_.Call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_EQ(program_.Call(SYS_connect, client, kName, sizeof address), -EINPROGRESS);
  EXPECT_THAT(Wait(epoll, kForever), ElementsAre(Pair(listener, EPOLLIN)));
  const auto end = static_cast<int>(program_.Call(SYS_accept, listener, 0, 0));
  ASSERT_GE(end, 0);
  ASSERT_EQ(Add(epoll, end, EPOLLIN | EPOLLRDHUP), 0);
  const uint64_t wait = program_.StartBlocked(SYS_epoll_wait, epoll, kEvents, kMany, kForever);
  EXPECT_FALSE(program_.HasFinished(wait));
  EXPECT_EQ(program_.Write(client, "x"), 1);
  EXPECT_THAT(Found(program_.Finish(wait)), ElementsAre(Pair(end, EPOLLIN)));
  EXPECT_EQ(program_.Read(end), "x");
  program_.Close(client);
  EXPECT_THAT(Wait(epoll, kForever), ElementsAre(Pair(end, EPOLLIN | EPOLLRDHUP)));
}

TEST_F(EpollCallsTest, EverybodyGetsATurn) {
  const int epoll = Create();
  const auto [a, a_writer] = program_.Pipe();
  const auto [b, b_writer] = program_.Pipe();
  for (const int fd : {a, b}) ASSERT_EQ(Add(epoll, fd, EPOLLIN), 0);
  program_.Write(a_writer, "x");
  program_.Write(b_writer, "x");
  EXPECT_THAT(Found(program_.Call(SYS_epoll_wait, epoll, kEvents, 1, 0)),
              ElementsAre(Pair(a, EPOLLIN)));
  EXPECT_THAT(Found(program_.Call(SYS_epoll_wait, epoll, kEvents, 1, 0)),
              ElementsAre(Pair(b, EPOLLIN)));
}

TEST_F(EpollCallsTest, ClosedFilesAreForgotten) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  ASSERT_EQ(Add(epoll, reader, EPOLLIN), 0);
  const auto copy = static_cast<int>(program_.Call(SYS_dup, reader));
  program_.Write(writer, "x");
  program_.Close(reader);
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(reader, EPOLLIN))) << "its file is still open";
  program_.Close(copy);
  EXPECT_THAT(Wait(epoll), IsEmpty());
  const auto [other, other_writer] = program_.Pipe();
  ASSERT_EQ(other, reader);
  EXPECT_EQ(Add(epoll, other, EPOLLIN), 0) << "the same number, but another file";
}

TEST_F(EpollCallsTest, WatchesPairsOfFileAndNumber) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  const auto copy = static_cast<int>(program_.Call(SYS_dup, reader));
  EXPECT_EQ(Add(epoll, reader, EPOLLIN), 0);
  EXPECT_EQ(Add(epoll, copy, EPOLLIN), 0);
  EXPECT_EQ(Add(epoll, reader, EPOLLIN), -EEXIST);
  program_.Write(writer, "x");
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(reader, EPOLLIN), Pair(copy, EPOLLIN)));
  EXPECT_EQ(Ctl(epoll, EPOLL_CTL_DEL, reader, 0), 0);
  EXPECT_THAT(Wait(epoll), ElementsAre(Pair(copy, EPOLLIN)));
  EXPECT_EQ(Ctl(epoll, EPOLL_CTL_DEL, reader, 0), -ENOENT);
  EXPECT_EQ(Ctl(epoll, EPOLL_CTL_MOD, reader, EPOLLIN), -ENOENT);
}

TEST_F(EpollCallsTest, InstancesMayBeNested) {
  const int outer = Create();
  const int inner = Create();
  const auto [reader, writer] = program_.Pipe();
  ASSERT_EQ(Add(outer, inner, EPOLLIN), 0);
  ASSERT_EQ(Add(inner, reader, EPOLLIN), 0);
  EXPECT_THAT(Wait(outer), IsEmpty());
  const uint64_t wait = program_.StartBlocked(SYS_epoll_wait, outer, kEvents, kMany, kForever);
  program_.Write(writer, "x");
  EXPECT_THAT(Found(program_.Finish(wait)), ElementsAre(Pair(inner, EPOLLIN)));
  pollfd fd{.fd = outer, .events = POLLIN, .revents = 0};
  program_.Put(kEvents, fd);
  EXPECT_EQ(program_.Call(SYS_poll, kEvents, 1, 0), 1);
  EXPECT_THAT(Wait(inner), ElementsAre(Pair(reader, EPOLLIN)));
  program_.Close(inner);
  EXPECT_THAT(Wait(outer), IsEmpty());
}

TEST_F(EpollCallsTest, NestedTooDeepOrInACircleIsEloop) {
  std::vector<int> chain;
  for (int i = 0; i < 6; ++i) chain.push_back(Create());
  for (int i = 0; i < 4; ++i) ASSERT_EQ(Add(chain[i], chain[i + 1], EPOLLIN), 0);
  EXPECT_EQ(Add(chain[4], chain[5], EPOLLIN), -ELOOP);
  EXPECT_EQ(Add(chain[4], chain[0], EPOLLIN), -ELOOP);
  EXPECT_EQ(Add(chain[1], chain[0], EPOLLIN), -ELOOP);
  EXPECT_EQ(Add(chain[0], chain[0], EPOLLIN), -EINVAL);
  // The chain is shorter again once a link is gone.
  program_.Close(chain[0]);
  EXPECT_EQ(Add(chain[4], chain[5], EPOLLIN), 0);
}

TEST_F(EpollCallsTest, TooManyNestedOnesAreRefused) {
  const int inner = Create();
  int64_t result = 0;
  int added = 0;
  for (; added < 1100 && result == 0; ++added) result = Add(Create(), inner, EPOLLIN);
  EXPECT_EQ(result, -EINVAL);
  EXPECT_GT(added, 900);
}

TEST_F(EpollCallsTest, InstanceMayBeClosedWhileItIsWaitedFor) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  ASSERT_EQ(Add(epoll, reader, EPOLLIN), 0);
  const uint64_t wait = program_.StartBlocked(SYS_epoll_wait, epoll, kEvents, kMany, kForever);
  program_.Close(epoll);
  program_.Write(writer, "x");
  EXPECT_THAT(Found(program_.Finish(wait)), ElementsAre(Pair(reader, EPOLLIN)));
}

TEST_F(EpollCallsTest, ClientsMayLeaveWhileTheyWait) {
  for (int i = 0; i < 20; ++i) {
    TestProgram leaver(server_.path());
    const auto epoll = leaver.Call(SYS_epoll_create1, 0);
    leaver.StartBlocked(SYS_epoll_wait, epoll, kEvents, kMany, 3'600'000);
  }
  EXPECT_GT(program_.Call(SYS_getpid), 1);
}

TEST_F(EpollCallsTest, HostileArguments) {
  const int epoll = Create();
  const auto [reader, writer] = program_.Pipe();
  EXPECT_EQ(program_.Call(SYS_epoll_create1, 1), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_epoll_create, 0), -EINVAL);
  EXPECT_GE(program_.Call(SYS_epoll_create, 1), 0);
  EXPECT_EQ(Add(reader, writer, EPOLLIN), -EINVAL);
  EXPECT_EQ(Add(epoll, 77, EPOLLIN), -EBADF);
  EXPECT_EQ(Add(77, reader, EPOLLIN), -EBADF);
  EXPECT_EQ(Ctl(epoll, 99, reader, EPOLLIN), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, reader, TestProgram::kBad), -EFAULT);
  for (const int64_t max : {int64_t{0}, int64_t{-1}, int64_t{INT32_MAX}}) {
    EXPECT_EQ(program_.Call(SYS_epoll_wait, epoll, kEvents, max, 0), -EINVAL) << max;
  }
  EXPECT_EQ(program_.Call(SYS_epoll_wait, reader, kEvents, 1, 0), -EINVAL);
  EXPECT_EQ(program_.Call(SYS_epoll_pwait, epoll, kEvents, 1, 0, kEvent, 4), -EINVAL);
  EXPECT_EQ(program_.Read(epoll), "errno 22");
  EXPECT_EQ(program_.Write(epoll, "x"), -EINVAL);
}

}  // namespace
}  // namespace rump
