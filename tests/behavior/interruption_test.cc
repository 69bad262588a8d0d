// Calls that signal handlers interrupt, leave, or make themselves; calls on small stacks.
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include <functional>
#include <vector>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// As long as it lives, `handler` runs for SIGALRM, every `interval` microseconds if that is not 0.
class Alarm {
 public:
  Alarm(void (*handler)(int), int flags, suseconds_t interval = 0) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    EXPECT_EQ(sigaction(SIGALRM, &action, &before_), 0);
    Set(interval, interval);
  }
  ~Alarm() {
    Set(0, 0);
    sigaction(SIGALRM, &before_, nullptr);
  }
  static void Set(suseconds_t first, suseconds_t interval) {
    const itimerval timer = {{0, interval}, {0, first}};
    EXPECT_EQ(setitimer(ITIMER_REAL, &timer, nullptr), 0);
  }

 private:
  struct sigaction before_ {};
};

// Every kind of call; in a thread, so no assertions. Whether all went well.
bool UseEverything() {
  const Fd listener(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof address;
  if (bind(listener.get(), Addr(address), size) != 0 || listen(listener.get(), 4) != 0 ||
      getsockname(listener.get(), Addr(address), &size) != 0) {
    return false;
  }
  const Fd client(socket(AF_INET, SOCK_STREAM, 0));
  if (connect(client.get(), Addr(address), sizeof address) != 0) return false;
  const Fd server(accept(listener.get(), nullptr, nullptr));
  const int on = 1;
  int type = 0;
  size = sizeof type;
  if (setsockopt(client.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0 ||
      getsockopt(client.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM ||
      write(client.get(), "x", 1) != 1) {
    return false;
  }
  char data[8];
  if (read(server.get(), data, sizeof data) != 1 || ioctl(server.get(), FIONREAD, &type) != 0) {
    return false;
  }
  const Fd datagram(socket(AF_INET, SOCK_DGRAM, 0));
  address = Loopback(0);
  size = sizeof address;
  if (bind(datagram.get(), Addr(address), size) != 0 ||
      getsockname(datagram.get(), Addr(address), &size) != 0) {
    return false;
  }
  iovec parts[2] = {{data, 1}, {data + 1, 1}};
  mmsghdr message{};
  message.msg_hdr.msg_name = &address;
  message.msg_hdr.msg_namelen = size;
  message.msg_hdr.msg_iov = parts;
  message.msg_hdr.msg_iovlen = 2;
  return sendmsg(datagram.get(), &message.msg_hdr, 0) == 2 &&
         sendmmsg(datagram.get(), &message, 1, 0) == 1 &&
         recvmsg(datagram.get(), &message.msg_hdr, 0) == 2 &&
         recvmmsg(datagram.get(), &message, 1, 0, nullptr) == 1;
}

TEST(SmallStack, OfAThread) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN), 0);
  for (int round = 0; round < 3; ++round) {
    pthread_t thread;
    bool ok = false;
    const auto use = [](void* result) -> void* {
      *static_cast<bool*>(result) = UseEverything();
      return nullptr;
    };
    ASSERT_EQ(pthread_create(&thread, &attributes, use, &ok), 0);
    ASSERT_EQ(pthread_join(thread, nullptr), 0);
    EXPECT_TRUE(ok);
  }
  pthread_attr_destroy(&attributes);
}

volatile sig_atomic_t handled = 0;
volatile sig_atomic_t failed = 0;

void UseInHandler(int) {
  const int error = errno;
  if (!UseEverything()) failed = 1;
  handled = handled + 1;
  errno = error;
}

TEST(SmallStack, OfASignalHandler) {
  std::vector<char> memory(16 * 1024);
  const stack_t stack = {.ss_sp = memory.data(), .ss_flags = 0, .ss_size = memory.size()};
  stack_t before;
  ASSERT_EQ(sigaltstack(&stack, &before), 0);
  {
    handled = 0;
    failed = 0;
    const Alarm alarm(UseInHandler, SA_ONSTACK);
    EXPECT_EQ(raise(SIGALRM), 0);
    // In the middle of a wait, too.
    const Fd listener = Listen();
    Alarm::Set(1000, 0);
    EXPECT_THAT(accept(listener.get(), nullptr, nullptr), FailsWith(EINTR));
  }
  EXPECT_EQ(handled, 2);
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(sigaltstack(&before, nullptr), 0);
}

TEST(Signals, HandlersMakeCallsWhileCallsAreMade) {
  handled = 0;
  failed = 0;
  {
    const Alarm alarm(UseInHandler, SA_RESTART, 2000);
    for (int round = 0; round < 50 || handled < 20; ++round) EXPECT_TRUE(UseEverything());
  }
  EXPECT_EQ(failed, 0);
}

sigjmp_buf left;
void Leave(int) { siglongjmp(left, 1); }

// Calls `wait`, which has to be left by a signal's handler.
void ExpectLeft(const std::function<void()>& wait) {
  const Alarm alarm(Leave, 0);
  // volatile: setjmp(3) says so of what is changed behind it.
  volatile bool back = false;
  if (sigsetjmp(left, 1) == 0) {
    Alarm::Set(2000, 0);
    wait();
  } else {
    back = true;
  }
  EXPECT_TRUE(back);
}

TEST(Signals, ACallThatIsLeftLeavesTheSocketUsable) {
  const Fd listener = Listen();
  const auto streams = TcpPair();
  const auto datagrams = UdpPair();
  char data[8];
  for (int round = 0; round < 5; ++round) {
    ExpectLeft([&] { accept(listener.get(), nullptr, nullptr); });
    ExpectLeft([&] { (void)!read(streams.first.get(), data, sizeof data); });
    ExpectLeft([&] { (void)!recv(datagrams.first.get(), data, sizeof data, 0); });
    pollfd poll_set[] = {{listener.get(), POLLIN, 0}, {datagrams.first.get(), POLLIN, 0}};
    ExpectLeft([&] { poll(poll_set, 2, -1); });

    const Fd client = Connect(PortOf(listener));
    EXPECT_THAT(Fd(accept(listener.get(), nullptr, nullptr)).get(), Succeeds());
    ASSERT_TRUE(WriteAll(streams.second.get(), "bytes"));
    EXPECT_EQ(ReadExactly(streams.first.get(), 5), "bytes");
    ASSERT_EQ(send(datagrams.second.get(), "datagram", 8, 0), 8);
    EXPECT_EQ(recv(datagrams.first.get(), data, sizeof data, 0), 8);
  }
}

// Anywhere, not only where it waits.
TEST(Signals, CallsThatAreLeftAnywhere) {
  const auto datagrams = UdpPair();
  const Alarm alarm(Leave, 0);
  volatile int rounds = 0;
  while (rounds < 200) {
    if (sigsetjmp(left, 1) == 0) {
      Alarm::Set(100 + rounds * 10, 0);
      for (;;) {
        char data[8];
        send(datagrams.first.get(), "x", 1, MSG_DONTWAIT);
        recv(datagrams.second.get(), data, sizeof data, MSG_DONTWAIT);
      }
    }
    rounds = rounds + 1;
  }
  char data[8];
  while (recv(datagrams.second.get(), data, sizeof data, MSG_DONTWAIT) > 0) {
  }
  ASSERT_EQ(send(datagrams.first.get(), "last", 4, 0), 4);
  EXPECT_EQ(recv(datagrams.second.get(), data, sizeof data, 0), 4);
}

}  // namespace
}  // namespace rump
