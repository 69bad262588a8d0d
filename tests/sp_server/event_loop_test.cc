#include "sp_server/loop/event_loop.h"

#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace rump {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience{10'000};

struct Pipe {
  Pipe() {
    int ends[2];
    if (pipe(ends) == 0) {
      reader.reset(ends[0]);
      writer.reset(ends[1]);
    }
  }
  void Write() const { (void)!write(writer.get(), "x", 1); }
  UniqueFd reader;
  UniqueFd writer;
};

struct Counter : EventLoop::Watcher {
  std::function<void()> on_event = [] {};
  int events = 0;
  void OnEvents(uint32_t) override {
    ++events;
    on_event();
  }
};

TEST(EventLoop, TellsWatchers) {
  EventLoop loop;
  const Pipe pipe;
  Counter counter;
  ASSERT_TRUE(loop.Watch(pipe.reader.get(), EPOLLIN, &counter).ok());
  EXPECT_FALSE(loop.Watch(pipe.reader.get(), EPOLLIN, &counter).ok());
  loop.RunOnce(milliseconds(0));
  EXPECT_EQ(counter.events, 0);
  pipe.Write();
  loop.RunOnce(kPatience);
  EXPECT_EQ(counter.events, 1);
  loop.Unwatch(pipe.reader.get(), &counter);
  loop.RunOnce(milliseconds(0));
  EXPECT_EQ(counter.events, 1);
}

TEST(EventLoop, UnwatchedInTheSameTurnHearsNothing) {
  EventLoop loop;
  const Pipe a;
  const Pipe b;
  Counter first;
  Counter second;
  // Whichever comes first unwatches the other, whose event has been fetched already.
  first.on_event = [&] { loop.Unwatch(b.reader.get(), &second); };
  second.on_event = [&] { loop.Unwatch(a.reader.get(), &first); };
  ASSERT_TRUE(loop.Watch(a.reader.get(), EPOLLIN, &first).ok());
  ASSERT_TRUE(loop.Watch(b.reader.get(), EPOLLIN, &second).ok());
  a.Write();
  b.Write();
  loop.RunOnce(kPatience);
  EXPECT_EQ(first.events + second.events, 1);
}

TEST(EventLoop, TimersRunInOrderAndCanBeCancelled) {
  EventLoop loop;
  std::string ran;
  loop.After(milliseconds(2), [&] { ran += 'b'; });
  const EventLoop::TimerId cancelled = loop.After(milliseconds(1), [&] { ran += 'x'; });
  loop.After(milliseconds(1), [&] { ran += 'a'; });
  loop.Cancel(cancelled);
  loop.Cancel(cancelled);
  loop.Cancel(0);
  while (ran.size() < 2) loop.RunOnce(milliseconds(1));
  EXPECT_EQ(ran, "ab");
}

TEST(EventLoop, DeferredWorkRunsInTheSameTurn) {
  EventLoop loop;
  std::string ran;
  loop.Defer([&] {
    ran += 'a';
    loop.Defer([&] { ran += 'b'; });
  });
  EXPECT_EQ(ran, "");
  loop.RunOnce(milliseconds(0));
  EXPECT_EQ(ran, "ab");
}

TEST(EventLoop, PollerThatWakesTheLoopGetsAnotherTurn) {
  struct Greedy : EventLoop::Poller {
    EventLoop* loop;
    int turns = 0;
    EventLoop::Clock::duration Poll() override {
      if (++turns < 3) loop->Wake();
      return EventLoop::Clock::duration::max();
    }
  };
  EventLoop loop;
  Greedy greedy;
  greedy.loop = &loop;
  loop.AddPoller(&greedy);
  loop.RunOnce(milliseconds(0));
  EXPECT_EQ(greedy.turns, 3);
}

TEST(EventLoop, PostedWorkRunsOnTheLoopsThread) {
  EventLoop loop;
  constexpr int kThreads = 4;
  constexpr int kPosts = 1000;
  int ran = 0;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kPosts; ++n) {
        loop.Post([&, poster = std::this_thread::get_id()] {
          EXPECT_NE(std::this_thread::get_id(), poster);
          if (++ran == kThreads * kPosts) loop.Stop();
        });
      }
    });
  }
  loop.Run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ran, kThreads * kPosts);
}

TEST(EventLoop, StopEndsRun) {
  EventLoop loop;
  loop.After(milliseconds(1), [&] { loop.Stop(); });
  loop.Run();
}

}  // namespace
}  // namespace rump
