#include "sp_server/kernel/pipe.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>

namespace rump {
namespace {

constexpr size_t kCapacity = 64 * 1024;

// Most pipes carry a few bytes at a time.
constexpr size_t kSmallRing = 4096;

// A queue of up to kCapacity bytes, with memory for as many as it needs.
class Ring {
 public:
  explicit Ring(std::shared_ptr<Budget> memory) : memory_(std::move(memory)) {}

  size_t size() const { return size_; }
  size_t room() const { return kCapacity - size_; }
  // Makes `data`, at most room(), all that is in the empty queue. ENOMEM.
  Errno Keep(std::span<const std::byte> data, std::shared_ptr<const void> keeper) {
    if (!memory_.Grow(kCapacity)) return Errno(ENOMEM);
    kept_ = data;
    keeper_ = std::move(keeper);
    size_ = data.size();
    return kOk;
  }
  // Puts `data`, at most room(), at the end. ENOMEM.
  Errno Push(std::span<const std::byte> data) {
    if (keeper_ != nullptr || size_ + data.size() > memory_.size()) {
      if (const Errno error = GrowFor(size_ + data.size()); !error.ok()) return error;
    }
    const size_t end = (begin_ + size_) % memory_.size();
    const size_t first = std::min(data.size(), memory_.size() - end);
    memcpy(bytes_.get() + end, data.data(), first);
    memcpy(bytes_.get(), data.data() + first, data.size() - first);
    size_ += data.size();
    return kOk;
  }
  // Fills `out`, at most size(), from the front.
  void Pop(std::span<std::byte> out) {
    Peek(out);
    size_ -= out.size();
    if (size_ > 0) {
      begin_ = (begin_ + out.size()) % memory_.size();
      return;
    }
    begin_ = 0;
    bytes_.reset();
    keeper_.reset();
    memory_.Shrink(memory_.size());
  }

 private:
  void Peek(std::span<std::byte> out) const {
    if (keeper_ != nullptr) {
      memcpy(out.data(), kept_.data() + begin_, out.size());
      return;
    }
    const size_t first = std::min(out.size(), memory_.size() - begin_);
    memcpy(out.data(), bytes_.get() + begin_, first);
    memcpy(out.data() + first, bytes_.get(), out.size() - first);
  }
  Errno GrowFor(size_t bytes) {
    const size_t capacity = bytes <= kSmallRing && keeper_ == nullptr ? kSmallRing : kCapacity;
    if (!memory_.Grow(capacity - memory_.size())) return Errno(ENOMEM);
    auto grown = std::make_unique_for_overwrite<std::byte[]>(capacity);
    if (size_ > 0) Peek({grown.get(), size_});
    begin_ = 0;
    bytes_ = std::move(grown);
    keeper_.reset();
    return kOk;
  }

  std::unique_ptr<std::byte[]> bytes_;
  // In place of bytes_, if there is a keeper: the queue is in here, from begin_ on.
  std::span<const std::byte> kept_;
  std::shared_ptr<const void> keeper_;
  Share memory_;  // the size of `bytes_`; kCapacity for what is kept
  size_t begin_ = 0;
  size_t size_ = 0;
};

// What both ends hold: the ring, and who is left at it.
struct Buffer {
  explicit Buffer(std::shared_ptr<Budget> memory) : ring(std::move(memory)) {}

  Ring ring;
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
    if (b.ring.size() == 0 && !out.empty()) {
      if (b.writer == nullptr) return size_t{0};
      return Errno(EAGAIN);
    }
    const size_t n = std::min(out.size(), b.ring.size());
    if (n > 0) b.ring.Pop(out.first(n));
    if (n > 0 && b.writer != nullptr) b.writer->waiters().Notify(kWritable);
    return n;
  }
  Result<size_t> Write(std::span<const std::byte>) override { return Errno(EBADF); }
  uint32_t Poll() const override {
    return (buffer_->ring.size() > 0 ? kReadable : 0) | (buffer_->writer == nullptr ? POLLHUP : 0);
  }
  Errno Ioctl(uint64_t request, std::span<std::byte> arg) override {
    if (request != FIONREAD || arg.size() < sizeof(int)) return Errno(ENOTTY);
    const int n = static_cast<int>(buffer_->ring.size());
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
    return WriteKept(data, nullptr);
  }
  Result<size_t> WriteKept(std::span<const std::byte> data,
                           const std::shared_ptr<const void>& keeper) override {
    Buffer& b = *buffer_;
    if (b.reader == nullptr) return Errno(EPIPE);
    const size_t room = b.ring.room();
    if (data.empty()) return size_t{0};
    if (room == 0 || (data.size() <= PIPE_BUF && room < data.size())) return Errno(EAGAIN);
    const size_t n = std::min(data.size(), room);
    const Errno error = keeper != nullptr && b.ring.size() == 0 ? b.ring.Keep(data.first(n), keeper)
                                                                : b.ring.Push(data.first(n));
    if (!error.ok()) return error;
    b.reader->waiters().Notify(kReadable);
    return n;
  }
  uint32_t Poll() const override {
    if (buffer_->reader == nullptr) return kWritable | POLLERR;
    return buffer_->ring.room() >= PIPE_BUF ? kWritable : 0;
  }

 private:
  const std::shared_ptr<Buffer> buffer_;
};

}  // namespace

std::pair<std::shared_ptr<File>, std::shared_ptr<File>> MakePipe(int flags,
                                                                 std::shared_ptr<Budget> memory) {
  auto buffer = std::make_shared<Buffer>(std::move(memory));
  auto reader = std::make_shared<ReadEnd>(buffer, flags);
  auto writer = std::make_shared<WriteEnd>(std::move(buffer), flags);
  return {std::move(reader), std::move(writer)};
}

}  // namespace rump
