#include "rumpclient/core/call_memory.h"

#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <initializer_list>

#include "gtest/gtest.h"
#include "rumpclient/core/user_memory.h"

namespace rump::client {
namespace {

uint64_t Address(const void* p) { return reinterpret_cast<uint64_t>(p); }

// An address where nothing is.
constexpr uint64_t kBad = 0x1000;

Call MakeCall(uint32_t number, std::initializer_list<uint64_t> args) {
  Call call;
  call.number = number;
  for (const uint64_t arg : args) call.args[call.nargs++] = arg;
  return call;
}

// Exactly [start, start + size) may be used for `access`; with `other_way` for the other too.
void ExpectRange(const Call& call, uint64_t start, uint64_t size, Access access,
                 bool other_way = false) {
  CallMemory memory(call);
  EXPECT_TRUE(memory.Contains(start, size, access));
  EXPECT_TRUE(memory.Contains(start + size - 1, 1, access));
  EXPECT_FALSE(memory.Contains(start, size + 1, access));
  EXPECT_FALSE(memory.Contains(start - 1, 2, access));
  EXPECT_FALSE(memory.Contains(start + size, 1, access));
  EXPECT_FALSE(memory.Contains(start + 1, UINT64_MAX, access));
  EXPECT_FALSE(memory.Contains(UINT64_MAX, 2, access));
  const Access other = access == Access::kRead ? Access::kWrite : Access::kRead;
  EXPECT_EQ(other_way, memory.Contains(start, size, other));
}

TEST(CallMemoryTest, SizedArguments) {
  ExpectRange(MakeCall(SYS_write, {1, 5000, 100}), 5000, 100, Access::kRead);
  ExpectRange(MakeCall(SYS_read, {1, 5000, 100}), 5000, 100, Access::kWrite);
  ExpectRange(MakeCall(SYS_pipe, {5000}), 5000, 8, Access::kWrite);
  const Call sendto = MakeCall(SYS_sendto, {1, 5000, 100, 0, 7000, 16});
  ExpectRange(sendto, 5000, 100, Access::kRead);
  ExpectRange(sendto, 7000, 16, Access::kRead);
}

TEST(CallMemoryTest, CallsWithoutMemory) {
  for (const uint32_t number : {uint32_t{SYS_getpid}, uint32_t{SYS_socket}, uint32_t{SYS_mmap},
                                uint32_t{4000}, kPrivateCallBase + 15}) {
    const Call call = MakeCall(number, {5000, 5000, 5000, 5000, 5000, 5000});
    CallMemory memory(call);
    EXPECT_FALSE(memory.Contains(5000, 1, Access::kRead)) << number;
    EXPECT_FALSE(memory.Contains(5000, 1, Access::kWrite)) << number;
  }
}

TEST(CallMemoryTest, Ioctls) {
  ExpectRange(MakeCall(SYS_ioctl, {1, FIONREAD, 5000}), 5000, 4, Access::kWrite, true);
  ExpectRange(MakeCall(SYS_ioctl, {1, FIONBIO, 5000}), 5000, 4, Access::kRead, true);
  ExpectRange(MakeCall(SYS_ioctl, {1, SIOCGIFADDR, 5000}), 5000, 40, Access::kWrite, true);
  ExpectRange(MakeCall(SYS_ioctl, {1, _IOR('x', 1, char[77]), 5000}), 5000, 77, Access::kWrite,
              true);
  const Call unknown = MakeCall(SYS_ioctl, {1, 1, 5000});
  EXPECT_FALSE(CallMemory(unknown).Contains(5000, 1, Access::kRead));
}

TEST(CallMemoryTest, AListOfInterfacesIsWhereItsHeaderSays) {
  ifconf header = {};
  header.ifc_len = 80;
  header.ifc_buf = reinterpret_cast<char*>(5000);
  const auto at = reinterpret_cast<uint64_t>(&header);
  const Call call = MakeCall(SYS_ioctl, {1, SIOCGIFCONF, at});
  CallMemory memory(call);
  EXPECT_TRUE(memory.Contains(at, sizeof header, Access::kRead));
  EXPECT_FALSE(memory.Contains(at, sizeof header, Access::kWrite));
  EXPECT_TRUE(memory.Contains(at, sizeof header.ifc_len, Access::kWrite));
  // Not what it says by then.
  header.ifc_buf = reinterpret_cast<char*>(9000);
  EXPECT_TRUE(memory.Contains(5000, 80, Access::kWrite));
  EXPECT_FALSE(memory.Contains(5000, 81, Access::kWrite));
  EXPECT_FALSE(memory.Contains(5000, 80, Access::kRead));
  EXPECT_FALSE(memory.Contains(9000, 1, Access::kWrite));
  header.ifc_len = -1;
  CallMemory negative(call);
  EXPECT_FALSE(negative.Contains(9000, 1, Access::kWrite));
}

TEST(CallMemoryTest, FixedSizes) {
  ExpectRange(MakeCall(SYS_uname, {5000}), 5000, 390, Access::kWrite);
  ExpectRange(MakeCall(SYS_nanosleep, {5000, 7000}), 5000, 16, Access::kRead);
  ExpectRange(MakeCall(SYS_nanosleep, {5000, 7000}), 7000, 16, Access::kWrite);
  ExpectRange(MakeCall(SYS_epoll_ctl, {1, 1, 2, 5000}), 5000, 12, Access::kRead);
  ExpectRange(MakeCall(SYS_pselect6, {0, 0, 0, 0, 5000, 7000}), 7000, 16, Access::kRead);
  ExpectRange(MakeCall(SYS_select, {0, 0, 0, 0, 5000}), 5000, 16, Access::kWrite, true);
}

TEST(CallMemoryTest, Arrays) {
  ExpectRange(MakeCall(SYS_poll, {5000, 10, 0}), 5000, 80, Access::kRead, true);
  ExpectRange(MakeCall(SYS_epoll_wait, {1, 5000, 10, 0}), 5000, 120, Access::kWrite);
  for (const uint64_t count : {uint64_t{0}, uint64_t{1} << 40, UINT64_MAX, UINT64_MAX / 8 + 2}) {
    const Call poll = MakeCall(SYS_poll, {5000, count, 0});
    EXPECT_FALSE(CallMemory(poll).Contains(5000, 1, Access::kRead)) << count;
    const Call wait = MakeCall(SYS_epoll_wait, {1, 5000, count, 0});
    EXPECT_FALSE(CallMemory(wait).Contains(5000, 1, Access::kWrite)) << count;
  }
}

TEST(CallMemoryTest, FdSets) {
  const Call select = MakeCall(SYS_select, {65, 5000, 7000, 9000, 0});
  for (const uint64_t set : {5000, 7000, 9000}) ExpectRange(select, set, 16, Access::kRead, true);
  for (const uint64_t count : {uint64_t{0}, UINT64_MAX, uint64_t{1} << 31}) {
    const Call none = MakeCall(SYS_select, {count, 5000, 0, 0, 0});
    EXPECT_FALSE(CallMemory(none).Contains(5000, 1, Access::kWrite)) << count;
  }
}

TEST(CallMemoryTest, SizeBehindAPointer) {
  socklen_t size = 16;
  const Call call = MakeCall(SYS_accept, {1, 5000, Address(&size)});
  ExpectRange(call, 5000, 16, Access::kWrite);
  ExpectRange(call, Address(&size), sizeof size, Access::kWrite, true);
  CallMemory memory(call);
  EXPECT_TRUE(memory.Contains(Address(&size), sizeof size, Access::kWrite));
  size = 1000;
  EXPECT_FALSE(memory.Contains(5000, 17, Access::kWrite)) << "widened by what the server wrote";
  const Call bad = MakeCall(SYS_accept, {1, 5000, kBad});
  EXPECT_FALSE(CallMemory(bad).Contains(5000, 1, Access::kWrite));
}

TEST(CallMemoryTest, IovecArrays) {
  iovec parts[40] = {};
  for (size_t i = 0; i < 40; ++i) parts[i] = {reinterpret_cast<void*>(10000 * (i + 1)), 10 + i};
  const Call writev = MakeCall(SYS_writev, {1, Address(parts), 40});
  const Call readv = MakeCall(SYS_readv, {1, Address(parts), 40});
  for (const size_t i : {0, 15, 16, 39}) {
    ExpectRange(writev, 10000 * (i + 1), 10 + i, Access::kRead);
    ExpectRange(readv, 10000 * (i + 1), 10 + i, Access::kWrite);
  }
  ExpectRange(writev, Address(parts), sizeof parts, Access::kRead);
  ExpectRange(readv, Address(parts), sizeof parts, Access::kRead);
  const Call shorter = MakeCall(SYS_writev, {1, Address(parts), 39});
  EXPECT_FALSE(CallMemory(shorter).Contains(400000, 1, Access::kRead));
}

TEST(CallMemoryTest, BadIovecArrays) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{1024}, uint64_t{1025}, UINT64_MAX}) {
    const Call call = MakeCall(SYS_writev, {1, kBad, count});
    EXPECT_FALSE(CallMemory(call).Contains(500000, 1, Access::kRead)) << count;
  }
  const Call overflowing = MakeCall(SYS_readv, {1, UINT64_MAX - 8, 2});
  EXPECT_FALSE(CallMemory(overflowing).Contains(5000, 1, Access::kWrite));
}

class MessageTest : public testing::Test {
 protected:
  MessageTest() {
    message_.msg_name = reinterpret_cast<void*>(20000);
    message_.msg_namelen = 28;
    message_.msg_iov = parts_;
    message_.msg_iovlen = 2;
    message_.msg_control = reinterpret_cast<void*>(30000);
    message_.msg_controllen = 64;
  }
  Call Message(uint32_t number) { return MakeCall(number, {1, Address(&message_), 0}); }

  iovec parts_[2] = {{reinterpret_cast<void*>(40000), 400}, {reinterpret_cast<void*>(50000), 500}};
  // The ranges next to each must be nobody's.
  char gap_[16] = {};
  msghdr message_ = {};
};

TEST_F(MessageTest, Sent) {
  const Call call = Message(SYS_sendmsg);
  ExpectRange(call, Address(&message_), sizeof message_, Access::kRead);
  ExpectRange(call, Address(parts_), sizeof parts_, Access::kRead);
  ExpectRange(call, 20000, 28, Access::kRead);
  ExpectRange(call, 30000, 64, Access::kRead);
  ExpectRange(call, 40000, 400, Access::kRead);
  ExpectRange(call, 50000, 500, Access::kRead);
}

TEST_F(MessageTest, Received) {
  const Call call = Message(SYS_recvmsg);
  ExpectRange(call, Address(&message_), sizeof message_, Access::kRead, true);
  ExpectRange(call, Address(parts_), sizeof parts_, Access::kRead);
  ExpectRange(call, 20000, 28, Access::kWrite);
  ExpectRange(call, 30000, 64, Access::kWrite);
  ExpectRange(call, 40000, 400, Access::kWrite);
  ExpectRange(call, 50000, 500, Access::kWrite);
}

TEST_F(MessageTest, ServerCannotPointItElsewhere) {
  const Call call = Message(SYS_recvmsg);
  CallMemory memory(call);
  ASSERT_TRUE(memory.Contains(Address(&message_), sizeof message_, Access::kWrite));
  const msghdr before = message_;
  memset(&message_, 0x55, sizeof message_);
  message_.msg_namelen = 1000;
  message_.msg_flags = MSG_TRUNC;
  EXPECT_FALSE(memory.Contains(20000, 29, Access::kWrite));
  EXPECT_FALSE(memory.Contains(0x5555555555555555, 1, Access::kWrite));
  memory.RestoreMessagePointers();
  EXPECT_EQ(before.msg_name, message_.msg_name);
  EXPECT_EQ(before.msg_iov, message_.msg_iov);
  EXPECT_EQ(before.msg_iovlen, message_.msg_iovlen);
  EXPECT_EQ(before.msg_control, message_.msg_control);
  EXPECT_EQ(1000u, message_.msg_namelen);
  EXPECT_EQ(MSG_TRUNC, message_.msg_flags);
}

TEST_F(MessageTest, Bad) {
  const Call nowhere = MakeCall(SYS_recvmsg, {1, kBad, 0});
  EXPECT_FALSE(CallMemory(nowhere).Contains(kBad, sizeof(msghdr), Access::kWrite));
  EXPECT_FALSE(CallMemory(nowhere).Contains(5000, 1, Access::kWrite));
  message_.msg_iov = reinterpret_cast<iovec*>(kBad);
  const Call bad_array = Message(SYS_sendmsg);
  EXPECT_FALSE(CallMemory(bad_array).Contains(40000, 1, Access::kRead));
  message_.msg_iovlen = SIZE_MAX;
  EXPECT_FALSE(CallMemory(bad_array).Contains(40000, 1, Access::kRead));
}

class MessageArrayTest : public testing::Test {
 protected:
  static constexpr uint64_t kCount = 3;

  MessageArrayTest() {
    for (uint64_t i = 0; i < kCount; ++i) {
      parts_[i] = {reinterpret_cast<void*>(Buffer(i)), 100 + i};
      messages_[i].msg_hdr.msg_name = reinterpret_cast<void*>(NameOf(i));
      messages_[i].msg_hdr.msg_namelen = 28;
      messages_[i].msg_hdr.msg_iov = &parts_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  static uint64_t Buffer(uint64_t i) { return 40000 + 1000 * i; }
  static uint64_t NameOf(uint64_t i) { return 20000 + 1000 * i; }
  uint64_t Header(uint64_t i) const { return Address(&messages_[i]); }
  Call Messages(uint32_t number, uint64_t count = kCount) {
    return MakeCall(number, {1, Address(messages_), count, 0, 0});
  }

  iovec parts_[kCount] = {};
  char gap_[16] = {};
  mmsghdr messages_[kCount] = {};
};

TEST_F(MessageArrayTest, Sent) {
  const Call call = Messages(SYS_sendmmsg);
  for (uint64_t i = 0; i < kCount; ++i) {
    ExpectRange(call, Buffer(i), 100 + i, Access::kRead);
    ExpectRange(call, NameOf(i), 28, Access::kRead);
    const uint64_t length = Address(&messages_[i].msg_len);
    CallMemory memory(call);
    EXPECT_TRUE(memory.Contains(length, 4, Access::kWrite));
    EXPECT_FALSE(memory.Contains(length - 4, 8, Access::kWrite));
    EXPECT_FALSE(memory.Contains(Header(i), sizeof(mmsghdr), Access::kWrite));
    EXPECT_TRUE(memory.Contains(Header(i), sizeof(mmsghdr), Access::kRead));
  }
  EXPECT_FALSE(CallMemory(Messages(SYS_sendmmsg, 2)).Contains(Buffer(2), 1, Access::kRead));
  EXPECT_FALSE(CallMemory(Messages(SYS_sendmmsg, 1025)).Contains(Buffer(0), 1, Access::kRead));
}

TEST_F(MessageArrayTest, ReceivedInOrder) {
  const Call call = Messages(SYS_recvmmsg);
  CallMemory memory(call);
  for (uint64_t i = 0; i < kCount; ++i) {
    EXPECT_TRUE(memory.Contains(Buffer(i), 100 + i, Access::kWrite));
    EXPECT_TRUE(memory.Contains(NameOf(i), 28, Access::kWrite));
    EXPECT_FALSE(memory.Contains(Buffer(i), 1, Access::kRead));
    const msghdr& header = messages_[i].msg_hdr;
    EXPECT_TRUE(memory.Contains(Address(&header.msg_namelen), 4, Access::kWrite));
    EXPECT_TRUE(memory.Contains(Address(&header.msg_controllen), 20, Access::kWrite));
    for (const void* pointer :
         {static_cast<const void*>(&header.msg_name), static_cast<const void*>(&header.msg_iov),
          static_cast<const void*>(&header.msg_iovlen),
          static_cast<const void*>(&header.msg_control)}) {
      EXPECT_FALSE(memory.Contains(Address(pointer), 8, Access::kWrite));
    }
  }
}

TEST_F(MessageArrayTest, ServerCannotWidenWhatItWroteTo) {
  const Call call = Messages(SYS_recvmmsg);
  CallMemory memory(call);
  ASSERT_TRUE(memory.Contains(Address(&messages_[1].msg_hdr.msg_namelen), 4, Access::kWrite));
  messages_[1].msg_hdr.msg_namelen = 999;
  EXPECT_FALSE(memory.Contains(NameOf(1), 29, Access::kWrite));
  EXPECT_FALSE(memory.Contains(NameOf(1), 1, Access::kWrite)) << "closed";
  EXPECT_FALSE(memory.Contains(Buffer(0), 1, Access::kWrite)) << "and so are those before";
  EXPECT_FALSE(memory.Contains(Address(&messages_[0].msg_len), 4, Access::kWrite));
  EXPECT_TRUE(memory.Contains(Buffer(2), 102, Access::kWrite));
}

TEST_F(MessageArrayTest, Bad) {
  const Call nowhere = MakeCall(SYS_recvmmsg, {1, kBad, 3, 0, 0});
  EXPECT_FALSE(CallMemory(nowhere).Contains(5000, 1, Access::kWrite));
  const Call overflowing = MakeCall(SYS_recvmmsg, {1, UINT64_MAX - 8, 3, 0, 0});
  EXPECT_FALSE(CallMemory(overflowing).Contains(5000, 1, Access::kWrite));
}

TEST(UserMemoryTest, StringsEndWhereTheMemoryDoes) {
  constexpr size_t kPage = 4096;
  auto* const base = static_cast<char*>(
      mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(0, mprotect(base + kPage, kPage, PROT_NONE));
  memset(base, 's', kPage);
  const uint64_t last = Address(base) + kPage - 1;
  EXPECT_EQ(kPage, UserStringSize(Address(base), kPage)) << "no NUL within the limit";
  EXPECT_EQ(0u, UserStringSize(Address(base), kPage + 1)) << "runs into memory that is not there";
  EXPECT_EQ(0u, UserStringSize(last + 1, 1));
  base[kPage - 1] = '\0';
  EXPECT_EQ(kPage, UserStringSize(Address(base), 2 * kPage));
  EXPECT_EQ(1u, UserStringSize(last, 100));
  EXPECT_EQ(0u, UserStringSize(last, 0));

  char two[2];
  EXPECT_FALSE(ReadUserMemory(two, last, 2));
  EXPECT_TRUE(ReadUserMemory(two, last, 1));
  EXPECT_FALSE(WriteUserMemory(last, "xy", 2));
  EXPECT_TRUE(WriteUserMemory(last, "z", 1));
  EXPECT_EQ('z', base[kPage - 1]);
  EXPECT_FALSE(ReadUserMemory(two, UINT64_MAX, 2));
  munmap(base, 2 * kPage);
}

}  // namespace
}  // namespace rump::client
