#include "sp_server/kernel/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sp_server/kernel/trace_format.h"

namespace rump {
namespace {

// Lines that wait for a slow reader of the trace.
constexpr size_t kMaxBuffer = 1 << 20;
constexpr std::chrono::milliseconds kRetry{10};

// "12:34:56.789012 [5] ".
std::string LineStart(const timespec& when, int pid) {
  tm local{};
  localtime_r(&when.tv_sec, &local);
  return absl::StrFormat("%02d:%02d:%02d.%06d [%d] ", local.tm_hour, local.tm_min, local.tm_sec,
                         when.tv_nsec / 1000, pid);
}

timespec Now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now;
}

}  // namespace

class Tracer::TracedCall final : public Call, private CopyInSink {
 public:
  TracedCall(std::shared_ptr<Tracer> tracer, int pid, std::shared_ptr<Call> call)
      : tracer_(std::move(tracer)), pid_(pid), call_(std::move(call)), started_(Now()) {
    number_ = call_->number();
    nargs_ = call_->nargs();
    for (size_t i = 0; i < nargs_; ++i) args_[i] = call_->arg(i);
  }

  void CopyIn(uint64_t addr, size_t len, CopyInSink* sink) override {
    call_->CopyIn(addr, len, Watch(addr, sink));
  }
  void CopyInStr(uint64_t addr, size_t max, CopyInSink* sink) override {
    call_->CopyInStr(addr, max, Watch(addr, sink));
  }
  std::shared_ptr<const void> KeepRequest() const override { return call_->KeepRequest(); }
  std::span<const std::byte> InRequest(uint64_t addr, size_t len) const override {
    const std::span<const std::byte> bytes = call_->InRequest(addr, len);
    if (!bytes.empty()) memory_.Add(addr, bytes);
    return bytes;
  }
  void AnonMmap(size_t len, CopyInSink* sink) override { call_->AnonMmap(len, sink); }
  void CancelCopyIn() override { call_->CancelCopyIn(); }
  void CopyOut(uint64_t addr, std::span<const std::byte> data) override {
    memory_.Add(addr, data);
    call_->CopyOut(addr, data);
  }
  void CopyOutStr(uint64_t addr, std::string_view text) override {
    memory_.Add(addr, std::as_bytes(std::span(text)));
    call_->CopyOutStr(addr, text);
  }
  bool HasOutputRoom() const override { return call_->HasOutputRoom(); }
  void AwaitOutputRoom(OutputWaiter* waiter) override { call_->AwaitOutputRoom(waiter); }
  void Raise(int signo) override {
    const char* name = sigabbrev_np(signo);
    tracer_->Add(absl::StrCat(LineStart(Now(), pid_), "--- SIG",
                              name != nullptr ? name : absl::StrCat(signo), " ---\n"));
    call_->Raise(signo);
  }
  UniqueFd TakeFd() override { return call_->TakeFd(); }
  void AttachFd(UniqueFd fd) override { call_->AttachFd(std::move(fd)); }
  void Complete(Errno error, uint64_t retval0, uint64_t retval1) override {
    const timespec now = Now();
    const double seconds = static_cast<double>(now.tv_sec - started_.tv_sec) +
                           static_cast<double>(now.tv_nsec - started_.tv_nsec) / 1e9;
    tracer_->Add(absl::StrFormat(
        "%s%s <%.6f>\n", LineStart(started_, pid_),
        FormatCall(number_, std::span(args_, nargs_), memory_, {.error = error, .result = retval0}),
        seconds));
    call_->Complete(error, retval0, retval1);
  }

 private:
  CopyInSink* Watch(uint64_t addr, CopyInSink* sink) {
    addr_ = addr;
    sink_ = sink;
    return this;
  }
  void OnCopyIn(Errno error, std::span<const std::byte> data) override {
    if (error.ok()) memory_.Add(addr_, data);
    sink_->OnCopyIn(error, data);
  }

  const std::shared_ptr<Tracer> tracer_;
  const int pid_;
  const std::shared_ptr<Call> call_;
  const timespec started_;
  mutable SeenMemory memory_;
  // Of the copy that is under way.
  uint64_t addr_ = 0;
  CopyInSink* sink_ = nullptr;
};

Result<UniqueFd> Tracer::OpenFile(const std::string& path) {
  // Without blocking: neither a FIFO nor what reads it may stop the server.
  UniqueFd file(
      open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0600));
  if (!file.valid()) return Errno(errno);
  return file;
}

Tracer::Tracer(EventLoop* loop, UniqueFd file) : loop_(loop), file_(std::move(file)) {}

Tracer::~Tracer() {
  Flush();
  loop_->Cancel(flush_);
}

std::shared_ptr<Call> Tracer::Trace(int pid, std::shared_ptr<Call> call) {
  return std::make_shared<TracedCall>(shared_from_this(), pid, std::move(call));
}

void Tracer::Add(const std::string& line) {
  if (buffer_.size() + line.size() > kMaxBuffer) {
    ++lost_;
    return;
  }
  if (lost_ > 0) absl::StrAppend(&buffer_, "(", std::exchange(lost_, 0), " lines lost)\n");
  buffer_ += line;
  if (flush_ == 0) FlushAfter(EventLoop::Clock::duration::zero());
}

void Tracer::FlushAfter(EventLoop::Clock::duration delay) {
  flush_ = loop_->After(delay, [this] {
    flush_ = 0;
    Flush();
  });
}

void Tracer::Flush() {
  size_t written = 0;
  while (written < buffer_.size()) {
    const ssize_t n = write(file_.get(), buffer_.data() + written, buffer_.size() - written);
    if (n >= 0) {
      written += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      if (flush_ == 0) FlushAfter(kRetry);
      break;
    } else if (errno != EINTR) {
      lost_ += std::ranges::count(std::string_view(buffer_).substr(written), '\n');
      written = buffer_.size();
    }
  }
  buffer_.erase(0, written);
}

}  // namespace rump
