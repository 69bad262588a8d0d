// What the server may ask for and send while calls are in flight.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "rumpclient/core/connection.h"
#include "tests/rumpclient/core/test_client.h"
#include "tests/rumpclient/fake_server.h"

namespace rump::client {
namespace {

class CopyTest : public testing::TestWithParam<Transport> {};
INSTANTIATE_TEST_SUITE_P(All, CopyTest, testing::Values(Transport::kUnix, Transport::kTcp));

TEST_P(CopyTest, AreServed) {
  static constexpr char kText[] = "one\0two";
  std::string big(kMaxCopy, '\0');
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 31 / 7);
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        auto call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ(uint32_t{SYS_write}, call.header.u);
        EXPECT_EQ(std::string(kText, sizeof kText), peer->CopyIn(call.arg(1), call.arg(2)));
        EXPECT_EQ("two", peer->CopyIn(call.arg(1) + 4, 3));
        EXPECT_EQ("", peer->CopyIn(call.arg(1), 0));
        EXPECT_EQ(std::string("one\0", 4), peer->CopyInStr(call.arg(1), 1024));
        EXPECT_EQ("on", peer->CopyInStr(call.arg(1), 2));
        peer->Answer(call, 8);
        call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ(big, peer->CopyIn(call.arg(1), call.arg(2)));
        peer->Answer(call, big.size());
        call = peer->ExpectRequest(FrameType::kSyscall);
        peer->CopyOut(call.arg(1) + 1, "little");
        peer->Answer(call, 6);
        call = peer->ExpectRequest(FrameType::kSyscall);
        peer->CopyOut(call.arg(1), big);
        peer->Answer(call, big.size());
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  client.Succeed(Write(kText, sizeof kText), 8);
  client.Succeed(Write(big.data(), big.size()), big.size());
  char small[8] = "xxxxxxx";
  client.Succeed(Read(small, sizeof small), 6);
  EXPECT_STREQ("xlittle", small);
  std::string into(kMaxCopy, '\0');
  client.Succeed(Read(into.data(), into.size()), big.size());
  EXPECT_TRUE(big == into);
}

TEST_P(CopyTest, OutsideTheCallsMemoryIsRefused) {
  char buffer[16] = "aaaaaaaaaaaaaaa";
  const std::string secret = "secret";
  std::string untouched = "untouched";
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        auto call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ("", peer->CopyIn(Address(secret.data()), secret.size()));
        EXPECT_EQ("", peer->CopyInStr(Address(secret.data()), 1024));
        EXPECT_EQ("", peer->CopyIn(call.arg(1), call.arg(2))) << "read's buffer is not to be read";
        EXPECT_EQ("", peer->CopyIn(0, 8));
        EXPECT_EQ("", peer->CopyInStr(8, 8));
        EXPECT_EQ("", peer->CopyIn(call.arg(1), UINT64_MAX));
        peer->CopyOut(Address(untouched.data()), "overwrite");
        peer->CopyOut(Address(untouched.data()), std::string(kMaxCopy, 'x'));
        peer->CopyOut(call.arg(1), std::string(17, 'x'));
        peer->CopyOut(call.arg(1) - 1, "x");
        peer->CopyOut(UINT64_MAX, "x");
        peer->CopyOut(call.arg(1) + 14, "z");
        peer->Answer(call, 1);
        call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ("", peer->CopyIn(call.arg(0), 8));
        peer->Answer(call, 2);
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  client.Succeed(Read(buffer, 15), 1);
  EXPECT_EQ("untouched", untouched);
  EXPECT_STREQ("aaaaaaaaaaaaaaz", buffer);
  client.Succeed(MakeCall(SYS_dup, {Address(buffer)}), 2);
}

TEST_P(CopyTest, BadPointersAreEfault) {
  HalfBadMemory memory(kMaxCopy / 2);
  memset(memory.good(), 'g', kMaxCopy / 2);
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        for (int i = 0; i < 2; ++i) {
          auto call = peer->ExpectRequest(FrameType::kSyscall);
          const std::string copied = peer->CopyIn(call.arg(1), call.arg(2));
          EXPECT_TRUE(copied.empty() || copied.size() == call.arg(2)) << copied.size();
          peer->Answer(call, copied.size());
          peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 99);
        }
        for (int i = 0; i < 4; ++i) {
          auto call = peer->ExpectRequest(FrameType::kSyscall);
          peer->CopyOut(call.arg(1), std::string(call.arg(2), 'o'));
          peer->Answer(call, call.arg(2));
          peer->Answer(peer->ExpectRequest(FrameType::kSyscall), 99);
        }
        auto call = peer->ExpectRequest(FrameType::kSyscall);
        EXPECT_EQ("", peer->CopyInStr(call.arg(1), 1024));
        peer->Answer(call, 99);
        peer->ExpectEnd();
      },
      1, GetParam());
  Client client(server);
  for (const Call& call : {Write(memory.bad(), 10), Write(memory.good(), kMaxCopy),
                           Read(memory.bad(), 10), Read(memory.bad() - 5, 10),
                           Read(memory.good(), kMaxCopy), Read(memory.bad(), kMaxCopy / 2)}) {
    client.Fail(call, EFAULT);
    client.Succeed(MakeCall(SYS_getpid), 99);
  }
  client.Succeed(Write(memory.bad(), 1024), 99);
}

// From now on the host copies no memory of the process for it.
void RefuseMemoryCopies() {
  constexpr uint32_t kNumber = offsetof(seccomp_data, nr);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
  };
  const sock_fprog program = {sizeof filter / sizeof filter[0], filter};
  ASSERT_EQ(0, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  ASSERT_EQ(0, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) << strerror(errno);
}

TEST(SandboxTest, ServerCannotMakeTheProgramReadWhatIsNotThere) {
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    EXPECT_EQ("", peer->CopyInStr(8, 8));
    EXPECT_EQ("", peer->CopyIn(8, 8));
    peer->CopyOut(8, "x");
    EXPECT_EQ("tex", peer->CopyInStr(call.arg(1), 3));
    peer->Answer(call, 4);
    peer->ExpectEnd();
  });
  const pid_t pid = fork();
  if (pid == 0) {
    Client client(server);
    RefuseMemoryCopies();
    client.Succeed(Write("text", 4), 4);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  EXPECT_EQ(pid, waitpid(pid, &status, 0));
  EXPECT_EQ(0, status);
}

TEST(FrameTest, InTwoPieces) {
  const std::string data = "twenty bytes of data";
  const size_t size = CopyOutFrame(0, 0, data).size() + SyscallAnswer(0, 0, 0).size();
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    for (size_t at = 1; at < size; ++at) {
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      const std::string bytes =
          CopyOutFrame(at, call.arg(1), data) + SyscallAnswer(call.header.reqno, 0, at);
      peer->Send(bytes.substr(0, at));
      peer->Drain();
      peer->Send(bytes.substr(at));
    }
    peer->ExpectEnd();
  });
  Client client(server);
  for (size_t at = 1; at < size; ++at) {
    std::string into(data.size(), '\0');
    client.Succeed(Read(into.data(), into.size()), at);
    EXPECT_EQ(data, into) << "split at " << at;
  }
}

TEST(FrameTest, ByteByByte) {
  const std::string data(9000, 'd');
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    const std::string bytes =
        CopyOutFrame(0, call.arg(1), data) + SyscallAnswer(call.header.reqno, 0, 5);
    for (char byte : bytes) {
      peer->Send({&byte, 1});
      peer->Drain();
    }
    peer->ExpectEnd();
  });
  Client client(server);
  std::string into(data.size(), '\0');
  client.Succeed(Read(into.data(), into.size()), 5);
  EXPECT_EQ(data, into);
}

TEST(FrameTest, WireErrorsBecomeErrnos) {
  const std::map<uint32_t, int> errors = {{0, EIO},    {1, EAGAIN}, {2, EPERM},
                                          {3, ESRCH},  {4, EIO},    {5, EBUSY},
                                          {6, ENOMEM}, {7, EINVAL}, {8, EIO}};
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    for (const auto& [wire, error] : errors) {
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      peer->Send(Frame(FrameClass::kError, FrameType::kSyscall, call.header.reqno, wire, ""));
    }
    peer->ExpectEnd();
  });
  Client client(server);
  for (const auto& [wire, error] : errors) client.Fail(MakeCall(SYS_getpid), error);
}

TEST(FrameTest, FramesForNobodyAreIgnored) {
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    peer->Send(SyscallAnswer(call.header.reqno + 1, 0, 1));
    peer->Send(Frame(FrameClass::kError, FrameType::kSyscall, 0, 1, ""));
    peer->Send(Frame(FrameClass::kRequest, FrameType::kSyscall, 1, SYS_getpid, ""));
    peer->Send(Frame(static_cast<FrameClass>(3), FrameType::kSyscall, call.header.reqno, 0, "x"));
    peer->Send(Frame(FrameClass::kRequest, static_cast<FrameType>(9), 1, 0,
                     std::string(kMaxFrame - kHeaderSize, 'x')));
    peer->Send(Frame(FrameClass::kRequest, FrameType::kRaise, 1, 0, ""));
    peer->Send(Frame(FrameClass::kRequest, FrameType::kRaise, 1, 65, ""));
    peer->Answer(call, 42);
    peer->ExpectEnd();
  });
  Client client(server);
  client.Succeed(MakeCall(SYS_getpid), 42);
}

TEST(FrameTest, GarbageEndsTheConnection) {
  const auto with_len = [](uint64_t len) {
    std::string frame = SyscallAnswer(2, 0, 0);
    memcpy(frame.data(), &len, sizeof len);
    return frame;
  };
  const std::vector<std::string> garbage = {
      with_len(0),
      with_len(kHeaderSize - 1),
      with_len(kMaxFrame + 1),
      with_len(UINT64_MAX),
      Frame(FrameClass::kResponse, FrameType::kHandshake, 2, 0, std::string(4, '\0')),
      Frame(FrameClass::kResponse, FrameType::kSyscall, 2, 0, std::string(25, '\0')),
      Frame(FrameClass::kResponse, FrameType::kSyscall, 2, 0, std::string(23, '\0')),
      Frame(FrameClass::kRequest, FrameType::kCopyIn, 2, 0, std::string(15, '\0')),
      Frame(FrameClass::kRequest, FrameType::kCopyOut, 2, 0, std::string(15, '\0')),
      Frame(FrameClass::kRequest, FrameType::kCopyOut, 2, 0, std::string(17, '\0')),
      Frame(FrameClass::kRequest, FrameType::kAnonMmap, 2, 0, std::string(7, '\0')),
  };
  size_t next = 0;
  FakeServer server(
      [&](FakePeer* peer) {
        peer->Welcome();
        peer->ExpectRequest(FrameType::kSyscall);
        peer->Send(garbage[next++]);
        peer->ExpectEnd();
      },
      static_cast<int>(garbage.size()));
  for (size_t i = 0; i < garbage.size(); ++i) {
    SCOPED_TRACE(i);
    Client client(server);
    client.Lose(MakeCall(SYS_getpid));
    client.Lose(MakeCall(SYS_getpid));
  }
}

TEST(FrameTest, AnonymousMemory) {
  const auto ask = [](FakePeer* peer, uint64_t len) {
    peer->Send(Frame(FrameClass::kRequest, FrameType::kAnonMmap, 0, 0, BytesAt(&len, sizeof len)));
    const std::string answer = peer->ExpectResponse(FrameType::kAnonMmap).payload;
    uint64_t addr = 1;
    EXPECT_EQ(sizeof addr, answer.size());
    memcpy(&addr, answer.data(), sizeof addr);
    return addr;
  };
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    constexpr uint64_t kMost = uint64_t{1} << 30;
    EXPECT_EQ(0u, ask(peer, 0));
    EXPECT_EQ(0u, ask(peer, kMost + 1));
    const uint64_t addr = ask(peer, 8192);
    EXPECT_EQ(0u, ask(peer, kMost - 8191)) << "the bound holds for all of them together";
    peer->Answer(call, addr);
    peer->ExpectEnd();
  });
  Client client(server);
  Call call = MakeCall(SYS_getpid);
  ASSERT_EQ(0, client->Issue(&call));
  ASSERT_NE(0u, call.retval[0]);
  char* const memory = reinterpret_cast<char*>(call.retval[0]);
  memset(memory, 'm', 8192);
  EXPECT_EQ(0, munmap(memory, 8192));
}

constinit std::atomic<int> raised{0};

TEST(FrameTest, SignalIsRaisedWhenTheCallReturns) {
  FakeServer server([](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    peer->Send(Frame(FrameClass::kRequest, FrameType::kRaise, 0, SIGUSR1, ""));
    EXPECT_EQ("data", peer->CopyIn(call.arg(1), 4));
    EXPECT_EQ(0, raised) << "the call has not returned";
    peer->Fail(call, EPIPE);
    peer->ExpectEnd();
  });
  Client client(server);
  struct sigaction action = {};
  struct sigaction before;
  action.sa_handler = [](int) { raised.fetch_add(1); };
  ASSERT_EQ(0, sigaction(SIGUSR1, &action, &before));
  client.Fail(Write("data", 4), EPIPE);
  EXPECT_EQ(1, raised);
  ASSERT_EQ(0, sigaction(SIGUSR1, &before, nullptr));
}

struct Pipe {
  Pipe() { EXPECT_EQ(0, pipe2(ends, O_CLOEXEC)); }
  ~Pipe() {
    close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
  }
  int ends[2];
};

bool SameFile(int a, int b) {
  struct stat sa;
  struct stat sb;
  return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_ino == sb.st_ino &&
         sa.st_dev == sb.st_dev;
}

TEST(DescriptorTest, GoesWithTheRequest) {
  Pipe pipe;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    const auto call = peer->ExpectRequest(FrameType::kSyscall);
    EXPECT_TRUE(SameFile(pipe.ends[0], call.fd));
    close(call.fd);
    peer->Answer(call, 0);
    peer->ExpectEnd();
  });
  Client client(server);
  Call call = MakeCall(kSysHostProve, {kFirstObjectId});
  call.send_fd = pipe.ends[0];
  client.Succeed(call, 0);
  call.send_fd = 999;
  client.Fail(call, EBADF);
  EXPECT_TRUE(client->open());
}

// The answer's first byte, and with it the descriptor, may be read in one go with the end of the
// frame before it, whether that goes to the receive buffer or straight to the caller's memory.
TEST(DescriptorTest, ComesWithTheResponse) {
  Pipe pipe;
  const std::vector<size_t> sizes = {1, 5000, 8192 - 40, 20000};
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    for (const size_t size : sizes) {
      for (const bool drain : {false, true}) {
        const auto call = peer->ExpectRequest(FrameType::kSyscall);
        const std::string copy = CopyOutFrame(0, call.arg(1), std::string(size, 'c'));
        peer->Send(copy.substr(0, copy.size() - 1));
        if (drain) peer->Drain();
        peer->Send(copy.substr(copy.size() - 1));
        peer->Answer(call, 0, pipe.ends[0]);
      }
    }
    peer->ExpectEnd();
  });
  Client client(server);
  for (const size_t size : sizes) {
    for (int i = 0; i < 2; ++i) {
      std::string into(size, '\0');
      Call call = Read(into.data(), into.size());
      call.wants_fd = true;
      ASSERT_EQ(0, client->Issue(&call));
      EXPECT_EQ(std::string(size, 'c'), into);
      ASSERT_TRUE(SameFile(pipe.ends[0], call.received_fd));
      EXPECT_EQ(FD_CLOEXEC, fcntl(call.received_fd, F_GETFD));
      close(call.received_fd);
    }
  }
}

// Also if that is an error, or if others that want one get none.
TEST(DescriptorTest, IsItsOwnResponses) {
  Pipe pipe;
  FakeServer server([&](FakePeer* peer) {
    peer->Welcome();
    std::map<uint64_t, ReceivedFrame> calls;
    while (calls.size() < 3) {
      const auto call = peer->ExpectRequest(FrameType::kSyscall);
      calls.emplace(call.arg(0), call);
    }
    peer->Answer(calls.at(0), 0);
    peer->Send(SyscallAnswer(calls.at(1).header.reqno, EINPROGRESS, 0, kBringsFd), pipe.ends[0]);
    peer->Answer(calls.at(2), 0, pipe.ends[1]);
    peer->ExpectEnd();
  });
  Client client(server);
  Call calls[3];
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 3; ++i) {
    threads.emplace_back([&client, &call = calls[i], i] {
      call = MakeCall(kSysHostSocket, {i, 1, 0});
      call.wants_fd = true;
      EXPECT_EQ(0, client->Issue(&call));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(-1, calls[0].received_fd);
  EXPECT_EQ(EINPROGRESS, calls[1].error);
  EXPECT_TRUE(SameFile(pipe.ends[0], calls[1].received_fd));
  EXPECT_TRUE(SameFile(pipe.ends[1], calls[2].received_fd));
  close(calls[1].received_fd);
  close(calls[2].received_fd);
}

TEST(DescriptorTest, UnwantedOnesAreClosed) {
  Pipe pipe;
  FakeServer server([writer = pipe.ends[1]](FakePeer* peer) {
    peer->Welcome();
    const auto plain = peer->ExpectRequest(FrameType::kSyscall);
    peer->Answer(plain, 0, writer);
    const auto failing = peer->ExpectRequest(FrameType::kSyscall);
    peer->Send(SyscallAnswer(failing.header.reqno, ENFILE, 0), writer);
    const auto flooded = peer->ExpectRequest(FrameType::kSyscall);
    const std::string answer = SyscallAnswer(flooded.header.reqno, 0, 0, kBringsFd);
    for (const char& byte : answer) {
      peer->Send({&byte, 1}, writer);
      peer->Drain();
    }
    peer->ExpectEnd();
  });
  Client client(server);
  client.Succeed(MakeCall(SYS_getpid), 0);
  Call call = MakeCall(kSysHostSocket, {2, 1, 0});
  call.wants_fd = true;
  ASSERT_EQ(0, client->Issue(&call));
  EXPECT_EQ(ENFILE, call.error);
  EXPECT_EQ(-1, call.received_fd);
  ASSERT_EQ(0, client->Issue(&call));
  EXPECT_TRUE(SameFile(pipe.ends[1], call.received_fd));
  close(call.received_fd);
  close(std::exchange(pipe.ends[1], -1));
  char byte;
  EXPECT_EQ(0, read(pipe.ends[0], &byte, 1)) << "no other writer is left";
}

}  // namespace
}  // namespace rump::client
