#include "sp_server/net/net_stack.h"

#include "lwip/priv/tcp_priv.h"
#include "sp_server/loop/event_loop.h"
#include "tests/net/net_test_util.h"

namespace rump {
namespace {

using Clock = EventLoop::Clock;

class NetStackTest : public NetTest {};

TEST_F(NetStackTest, TheEventLoopDrivesIt) {
  EventLoop loop;
  loop.AddPoller(&NetStack::Get());
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  auto client = Tcp();
  EXPECT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
  loop.RunOnce(Clock::duration::zero());
  EXPECT_EQ(client->TakeError().value(), 0);
  EXPECT_EQ(client->Poll(), uint32_t{POLLOUT | POLLWRNORM});
  EXPECT_TRUE(listener->Accept(nullptr).ok());
}

TEST_F(NetStackTest, SleepsUntilItsNextTimerAtMost) {
  NetStack& stack = NetStack::Get();
  Pair pair = ConnectedPair();
  const Clock::duration wait = stack.Poll();
  EXPECT_GT(wait, Clock::duration::zero());
  EXPECT_LE(wait, std::chrono::milliseconds(TCP_TMR_INTERVAL));
}

TEST_F(NetStackTest, WorkAndQueueAreBounded) {
  NetStack& stack = NetStack::Get();
  auto receiver = Udp(), sender = Udp();
  ASSERT_EQ(receiver->Bind(Ipv4("127.0.0.1", 0)).value(), 0);
  const SocketAddress where = *receiver->LocalAddress();
  constexpr int kMany = 20000;
  for (int i = 0; i < kMany; ++i) {
    ASSERT_TRUE(sender->Send(Bytes("x"), &where, 0).ok());
  }
  const size_t full = stack.queued_packets();
  EXPECT_LT(full, size_t{kMany});
  EXPECT_EQ(stack.Poll(), Clock::duration::zero());
  EXPECT_GT(stack.queued_packets(), 0u);
  const size_t before = stack.queued_packets();
  stack.Drain(3);
  EXPECT_EQ(stack.queued_packets(), before - 3);
}

TEST_F(NetStackTest, KnowsItsOwnAddresses) {
  const NetStack& stack = NetStack::Get();
  const ip_addr_t far = IPADDR4_INIT_BYTES(10, 0, 0, 1);
  const ip_addr_t near = IPADDR4_INIT_BYTES(127, 200, 1, 1);
  const ip_addr_t far6 = IPADDR6_INIT_HOST(0x20010db8, 0, 0, 1);
  const ip_addr_t near6 = IPADDR6_INIT_HOST(0, 0, 0, 1);
  EXPECT_TRUE(stack.IsLocal(near));
  EXPECT_TRUE(stack.IsLocal(near6));
  EXPECT_FALSE(stack.IsLocal(far));
  EXPECT_FALSE(stack.IsLocal(far6));
  EXPECT_FALSE(stack.IsLocal(*IP4_ADDR_ANY));
  EXPECT_EQ(stack.SourceFor(far).error().value(), ENETUNREACH);
  EXPECT_EQ(stack.SourceFor(far6).error().value(), ENETUNREACH);
  EXPECT_TRUE(stack.SourceFor(near).ok());
}

TEST_F(NetStackTest, TimeWaitIsBounded) {
  auto listener = Listener(Ipv4("127.0.0.1", 0));
  constexpr int kConnections = 3000;
  for (int i = 0; i < kConnections; ++i) {
    auto client = Tcp();
    ASSERT_EQ(client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
    Settle();
    ASSERT_TRUE(listener->Accept(nullptr).ok());  // closed at once, and first
    Settle();
  }
  Settle();
  NetStack& stack = NetStack::Get();
  const auto count = [] {
    int n = 0;
    for (const tcp_pcb* pcb = tcp_tw_pcbs; pcb != nullptr; pcb = pcb->next) ++n;
    return n;
  };
  EXPECT_GT(count(), 0);
  // The limit holds from the next interval on.
  EventLoop loop;
  loop.After(std::chrono::milliseconds(TCP_TMR_INTERVAL), [&] { loop.Stop(); });
  loop.Run();
  stack.Poll();
  EXPECT_LE(count(), 1024);
}

}  // namespace
}  // namespace rump
