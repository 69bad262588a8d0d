#include "sp_server/kernel/pipe.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <vector>

namespace rump {
namespace {

constexpr size_t kCapacity = 64 * 1024;
constexpr uint32_t kReadable = POLLIN | POLLRDNORM;
constexpr uint32_t kWritable = POLLOUT | POLLWRNORM;

// The buffer and who is left at its ends. Held by both ends.
struct Buffer {
  std::vector<std::byte> ring = std::vector<std::byte>(kCapacity);
  size_t begin = 0;
  size_t size = 0;
  File* reader = nullptr;
  File* writer = nullptr;
};

class ReadEnd final : public File {
 public:
  ReadEnd(std::shared_ptr<Buffer> buffer, int flags)
      : File(flags | O_RDONLY), buffer_(std::move(buffer)) {
    buffer_->reader = this;
  }
  ~ReadEnd() override {
    buffer_->reader = nullptr;
    if (buffer_->writer != nullptr) buffer_->writer->waiters().Notify(POLLERR | kWritable);
  }

  Result<size_t> Read(std::span<std::byte> out) override {
    Buffer& b = *buffer_;
    if (b.size == 0 && !out.empty()) {
      if (b.writer == nullptr) return size_t{0};
      return Errno(EAGAIN);
    }
    const size_t n = std::min(out.size(), b.size);
    const size_t first = std::min(n, kCapacity - b.begin);
    memcpy(out.data(), b.ring.data() + b.begin, first);
    memcpy(out.data() + first, b.ring.data(), n - first);
    b.begin = (b.begin + n) % kCapacity;
    b.size -= n;
    if (n > 0 && b.writer != nullptr) b.writer->waiters().Notify(kWritable);
    return n;
  }
  Result<size_t> Write(std::span<const std::byte>) override { return Errno(EBADF); }
  uint32_t Poll() const override {
    return (buffer_->size > 0 ? kReadable : 0) | (buffer_->writer == nullptr ? POLLHUP : 0);
  }
  Errno Ioctl(uint64_t request, std::span<std::byte> arg) override {
    if (request != FIONREAD || arg.size() < sizeof(int)) return Errno(ENOTTY);
    const int n = static_cast<int>(buffer_->size);
    memcpy(arg.data(), &n, sizeof n);
    return kOk;
  }

 private:
  const std::shared_ptr<Buffer> buffer_;
};

class WriteEnd final : public File {
 public:
  WriteEnd(std::shared_ptr<Buffer> buffer, int flags)
      : File(flags | O_WRONLY), buffer_(std::move(buffer)) {
    buffer_->writer = this;
  }
  ~WriteEnd() override {
    buffer_->writer = nullptr;
    if (buffer_->reader != nullptr) buffer_->reader->waiters().Notify(POLLHUP | kReadable);
  }

  Result<size_t> Read(std::span<std::byte>) override { return Errno(EBADF); }
  Result<size_t> Write(std::span<const std::byte> data) override {
    Buffer& b = *buffer_;
    if (b.reader == nullptr) return Errno(EPIPE);
    const size_t room = kCapacity - b.size;
    if (data.empty()) return size_t{0};
    if (room == 0 || (data.size() <= PIPE_BUF && room < data.size())) return Errno(EAGAIN);
    const size_t n = std::min(data.size(), room);
    const size_t end = (b.begin + b.size) % kCapacity;
    const size_t first = std::min(n, kCapacity - end);
    memcpy(b.ring.data() + end, data.data(), first);
    memcpy(b.ring.data(), data.data() + first, n - first);
    b.size += n;
    b.reader->waiters().Notify(kReadable);
    return n;
  }
  uint32_t Poll() const override {
    if (buffer_->reader == nullptr) return kWritable | POLLERR;
    return kCapacity - buffer_->size >= PIPE_BUF ? kWritable : 0;
  }

 private:
  const std::shared_ptr<Buffer> buffer_;
};

}  // namespace

std::pair<std::shared_ptr<File>, std::shared_ptr<File>> MakePipe(int flags) {
  auto buffer = std::make_shared<Buffer>();
  auto reader = std::make_shared<ReadEnd>(buffer, flags);
  auto writer = std::make_shared<WriteEnd>(std::move(buffer), flags);
  return {std::move(reader), std::move(writer)};
}

}  // namespace rump
