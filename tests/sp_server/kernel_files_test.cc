// Descriptor tables and pipes, without a server around them.
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "sp_server/kernel/epoll.h"
#include "sp_server/kernel/fd_table.h"
#include "sp_server/kernel/pipe.h"

namespace rump {
namespace {

// Descriptors in a table.
constexpr int kFds = 64;

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(FdTable, LowestFreeNumberIsUsed) {
  FdTable fds(kFds);
  auto [reader, writer] = MakePipe(0);
  EXPECT_EQ(*fds.Add(reader, false), 0);
  EXPECT_EQ(*fds.Add(writer, false), 1);
  EXPECT_EQ(*fds.Add(reader, false, 10), 10);
  ASSERT_TRUE(fds.Close(0).ok());
  EXPECT_EQ(*fds.Add(reader, false), 0);
  EXPECT_EQ(*fds.Add(reader, false), 2);
  EXPECT_EQ(fds.count(), 4U);
}

TEST(FdTable, NumbersOutOfRange) {
  FdTable fds(kFds);
  auto [reader, writer] = MakePipe(0);
  EXPECT_EQ(fds.Add(reader, false, -1).error(), Errno(EINVAL));
  EXPECT_EQ(fds.Add(reader, false, kFds).error(), Errno(EINVAL));
  EXPECT_EQ(fds.Set(kFds, reader, false), Errno(EBADF));
  EXPECT_EQ(fds.Set(-1, reader, false), Errno(EBADF));
  EXPECT_EQ(fds.Get(-1).error(), Errno(EBADF));
  EXPECT_EQ(fds.Get(INT_MAX).error(), Errno(EBADF));
  EXPECT_EQ(fds.Close(3), Errno(EBADF));
}

TEST(FdTable, OneDescriptorTooManyIsEmfile) {
  FdTable fds(kFds);
  auto [reader, writer] = MakePipe(0);
  for (int i = 0; i < kFds; ++i) ASSERT_TRUE(fds.Add(reader, false).ok());
  EXPECT_EQ(fds.Add(writer, false).error(), Errno(EMFILE));
}

TEST(FdTable, ExecClosesWhatItShould) {
  FdTable fds(kFds);
  auto [reader, writer] = MakePipe(0);
  ASSERT_TRUE(fds.Add(reader, true).ok());
  ASSERT_TRUE(fds.Add(writer, false).ok());
  FdTable child(kFds);
  ASSERT_TRUE(child.CopyFrom(fds).ok());
  EXPECT_TRUE(*child.CloseOnExec(0));
  child.Exec();
  EXPECT_FALSE(child.Get(0).ok());
  EXPECT_EQ(*child.Get(1), writer);
  EXPECT_TRUE(fds.Get(0).ok());
}

TEST(Epoll, OneFileTooManyIsEnospc) {
  EventLoop loop;
  auto [reader, writer] = MakePipe(0);
  const auto epoll = std::make_shared<EpollFile>(&loop);
  const epoll_event event{.events = EPOLLIN, .data = {}};
  constexpr int kMax = EpollFile::kMaxItems;
  for (int fd = 0; fd < kMax; ++fd) ASSERT_TRUE(epoll->Add(reader.get(), fd, event).ok());
  EXPECT_EQ(epoll->Add(reader.get(), kMax, event), Errno(ENOSPC));
  ASSERT_TRUE(epoll->Remove(reader.get(), 0).ok());
  EXPECT_TRUE(epoll->Add(reader.get(), kMax, event).ok());
  ASSERT_TRUE(writer->Write(Bytes("x")).ok());
  EXPECT_NE(epoll->Poll(), 0U);
  reader.reset();
  EXPECT_EQ(epoll->Poll(), 0U) << "a file that is gone is forgotten";
}

TEST(Pipe, BytesComeOutInOrderAcrossTheRingsEnd) {
  auto [reader, writer] = MakePipe(0);
  std::string out;
  std::string in;
  for (int i = 0; i < 5000; ++i) {
    const std::string piece = std::to_string(i) + ",";
    ASSERT_EQ(*writer->Write(Bytes(piece)), piece.size());
    out += piece;
    std::byte buffer[37];
    const Result<size_t> n = reader->Read(buffer);
    if (n.ok()) in.append(reinterpret_cast<char*>(buffer), *n);
  }
  std::byte buffer[4096];
  for (Result<size_t> n = reader->Read(buffer); n.ok(); n = reader->Read(buffer)) {
    in.append(reinterpret_cast<char*>(buffer), *n);
  }
  EXPECT_EQ(in, out);
}

std::string ReadAll(File& reader, size_t at_once) {
  std::string all;
  std::string buffer(at_once, '\0');
  const auto out = std::as_writable_bytes(std::span(buffer));
  for (Result<size_t> n = reader.Read(out); n.ok(); n = reader.Read(out))
    all += buffer.substr(0, *n);
  return all;
}

// What is kept is let go when it is read, or when more comes behind it; it is never written to.
TEST(Pipe, LargeWritesAreKept) {
  auto memory = std::make_shared<Budget>(128 * 1024);
  auto [reader, writer] = MakePipe(0, memory);
  std::string text;
  while (text.size() < 40'000) text += std::to_string(text.size()) + ",";
  const auto kept = std::make_shared<const std::string>(text);
  ASSERT_EQ(*writer->WriteKept(Bytes(*kept), kept), text.size());
  EXPECT_EQ(kept.use_count(), 2);
  EXPECT_EQ(memory->used(), 65536U);
  EXPECT_EQ(ReadAll(*reader, 777), text);
  EXPECT_EQ(kept.use_count(), 1);
  EXPECT_EQ(memory->used(), 0U);

  ASSERT_EQ(*writer->WriteKept(Bytes(*kept), kept), text.size());
  std::byte first[10];
  ASSERT_EQ(*reader->Read(first), sizeof first);
  ASSERT_EQ(*writer->Write(Bytes("behind")), 6U);
  EXPECT_EQ(kept.use_count(), 1);
  ASSERT_EQ(*writer->WriteKept(Bytes(*kept), kept), 65536 - text.size() + 10 - 6);
  EXPECT_EQ(kept.use_count(), 1) << "what is in a pipe already is not in that memory";
  EXPECT_EQ(memory->used(), 65536U);
  EXPECT_EQ(ReadAll(*reader, 4096),
            text.substr(10) + "behind" + text.substr(0, 65536 - text.size() + 4));
  EXPECT_EQ(memory->used(), 0U);

  // One that does not fit into what is left of the memory.
  auto [other_reader, other_writer] = MakePipe(0, std::make_shared<Budget>(60'000));
  EXPECT_EQ(other_writer->WriteKept(Bytes(*kept), kept).error(), Errno(ENOMEM));
  EXPECT_EQ(kept.use_count(), 1);
}

TEST(Pipe, FullAndEmptyAreEagain) {
  auto [reader, writer] = MakePipe(0);
  std::byte buffer[16];
  EXPECT_EQ(reader->Read(buffer).error(), Errno(EAGAIN));
  const std::string large(1 << 20, 'x');
  EXPECT_EQ(*writer->Write(Bytes(large)), 65536U);
  EXPECT_EQ(writer->Write(Bytes("x")).error(), Errno(EAGAIN));
  EXPECT_EQ(writer->Poll(), 0U);
  // Less than PIPE_BUF of room takes no atomic write that does not fit.
  ASSERT_TRUE(reader->Read(buffer).ok());
  EXPECT_EQ(writer->Write(Bytes(std::string(17, 'y'))).error(), Errno(EAGAIN));
  EXPECT_EQ(*writer->Write(Bytes(std::string(16, 'y'))), 16U);
  int pending = 0;
  ASSERT_TRUE(reader->Ioctl(FIONREAD, std::as_writable_bytes(std::span(&pending, 1))).ok());
  EXPECT_EQ(pending, 65536);
}

TEST(Pipe, EndsThatAreGone) {
  auto [reader, writer] = MakePipe(0);
  ASSERT_TRUE(writer->Write(Bytes("last")).ok());
  writer.reset();
  EXPECT_EQ(reader->Poll(), static_cast<uint32_t>(POLLIN | POLLRDNORM | POLLHUP));
  std::byte buffer[16];
  EXPECT_EQ(*reader->Read(buffer), 4U);
  EXPECT_EQ(*reader->Read(buffer), 0U);
  auto [other_reader, other_writer] = MakePipe(0);
  other_reader.reset();
  EXPECT_EQ(other_writer->Write(Bytes("x")).error(), Errno(EPIPE));
  EXPECT_NE(other_writer->Poll() & POLLERR, 0U);
  EXPECT_EQ(other_writer->Read(buffer).error(), Errno(EBADF));
}

}  // namespace
}  // namespace rump
