// What a session sends.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <span>

#include "sp_server/loop/pass_fds.h"
#include "sp_server/server/server.h"
#include "sp_server/server/session.h"
#include "sp_server/server/session_call.h"

namespace rump {
namespace {
// An output buffer that grew beyond this is given back once it is empty.
constexpr size_t kOutputKept = 128 * 1024;
// What stands before the blocks of a response.
constexpr size_t kAnswerHead = kHeaderSize + sizeof(SyscallResultPayload);

void AppendBytes(std::span<const std::byte> bytes, std::vector<std::byte>* output) {
  output->insert(output->end(), bytes.begin(), bytes.end());
}
}  // namespace

bool Session::MayAppend(size_t size) {
  if (closed_) return false;
  if (unread() + size <= server_->options().limits.output_bytes) return true;
  fprintf(stderr, "rump_server: client %s does not read its replies: disconnected\n",
          peer_.description.c_str());
  Close(false);
  return false;
}

void Session::Append(FrameHeader header, std::span<const std::byte> first,
                     std::span<const std::byte> second) {
  CloseAnswer();
  header.len = kHeaderSize + first.size() + second.size();
  if (!MayAppend(header.len)) return;
  AppendBytes(BytesOf(header), &output_);
  AppendBytes(first, &output_);
  AppendBytes(second, &output_);
  ScheduleFlush();
}

bool Session::AddToAnswer(SessionCall* call, uint64_t addr, std::span<const std::byte> data) {
  // What would wrap around is no block. The client knows what becomes of such a COPYOUT.
  if (data.size() > kMaxBlockBytes || data.size() > UINT64_MAX - addr) return false;
  if (answer_.call != call || answer_.blocks == kMaxBlocks ||
      answer_.bytes + data.size() > kMaxBlockBytes) {
    CloseAnswer();
    if (!MayAppend(kAnswerHead)) return true;
    answer_ = {.call = call, .begin = output_.size()};
    output_.resize(output_.size() + kAnswerHead);
    ScheduleFlush();
  }
  const CopyPayload range{data.size(), addr};
  if (!MayAppend(sizeof range + data.size())) return true;
  AppendBytes(BytesOf(range), &output_);
  AppendBytes(data, &output_);
  ++answer_.blocks;
  answer_.bytes += data.size();
  return true;
}

void Session::FinishAnswer(SessionCall* call, const FrameHeader& header,
                           const SyscallResultPayload& result, UniqueFd fd) {
  const bool begun = answer_.call == call;
  if (!begun) CloseAnswer();
  const size_t begin = begun ? answer_.begin : output_.size();
  if (fd.valid()) {
    output_fds_.push_back({output_position_ + begin - output_begin_, std::move(fd)});
  }
  if (!begun) return Append(header, BytesOf(result));
  answer_.call = nullptr;
  FrameHeader whole = header;
  whole.len = output_.size() - begin;
  EncodeHeader(whole, output_.data() + begin);
  memcpy(output_.data() + begin + kHeaderSize, &result, sizeof result);
}

void Session::CloseAnswer() {
  if (answer_.call == nullptr) return;
  answer_.call = nullptr;
  const auto begin = output_.begin() + static_cast<ptrdiff_t>(answer_.begin);
  const std::vector<std::byte> gathered(begin, output_.end());
  output_.erase(begin, output_.end());
  CopyPayload range;
  std::span<const std::byte> data;
  for (auto blocks = std::span(gathered).subspan(kAnswerHead); TakeBlock(&blocks, &range, &data);) {
    ++server_->counters().copyouts;
    Append({.reqno = next_reqno_++, .type = FrameType::kCopyOut}, BytesOf(range), data);
  }
}

void Session::ScheduleFlush() {
  if (flush_scheduled_) return;
  // Once the turn's work is done, so that a call's COPYOUT and its response go out together.
  flush_scheduled_ = true;
  server_->loop()->CallLate(this);
}

void Session::OnLate() {
  flush_scheduled_ = false;
  if (closed_) return;
  if (!Flush()) Close(false);
}

ssize_t Session::SendSome(bool* with_fd) {
  std::span<const std::byte> bytes = std::span(output_).subspan(output_begin_);
  constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
  *with_fd = !output_fds_.empty() && output_fds_.front().position == output_position_;
  if (output_fds_.empty()) return send(socket_.get(), bytes.data(), bytes.size(), kFlags);
  // A descriptor goes with the first byte of its own frame, so the bytes before the next one's
  // frame are the most that this message may carry.
  const size_t next = *with_fd ? 1 : 0;
  if (output_fds_.size() > next) {
    const uint64_t until = output_fds_[next].position - output_position_;
    bytes = bytes.first(std::min<size_t>(bytes.size(), until));
  }
  const int fd = *with_fd ? output_fds_.front().fd.get() : -1;
  return SendWithFds(socket_.get(), bytes, std::span(&fd, next), kFlags);
}

bool Session::Flush() {
  CloseAnswer();
  while (output_begin_ < output_.size()) {
    bool with_fd = false;
    const ssize_t n = SendSome(&with_fd);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return false;
      break;
    }
    if (with_fd) output_fds_.pop_front();
    output_begin_ += n;
    output_position_ += n;
    bytes_moved_ += n;
    server_->counters().bytes_out += n;
  }
  if (output_begin_ == output_.size()) {
    output_.clear();
    output_begin_ = 0;
    if (output_.capacity() > kOutputKept) output_.shrink_to_fit();
  } else if (output_begin_ > output_.size() / 2) {
    output_.erase(output_.begin(), output_.begin() + static_cast<ptrdiff_t>(output_begin_));
    output_begin_ = 0;
  }
  UpdateEvents();
  GrantOutput();
  return true;
}

bool Session::HasOutputRoom() const {
  return unread() <= server_->options().limits.output_bytes / 2;
}

void Session::GrantOutput() {
  if (output_queue_.empty() || grant_scheduled_ || !HasOutputRoom()) return;
  grant_scheduled_ = true;
  server_->loop()->After(EventLoop::Clock::duration::zero(), [this, alive = alive_] {
    if (!*alive) return;
    grant_scheduled_ = false;
    if (!output_queue_.empty() && HasOutputRoom()) {
      SessionCall* const call = output_queue_.front();
      output_queue_.pop_front();
      call->TellOutputRoom();
    }
    GrantOutput();
  });
}

void Session::UpdateEvents() {
  if (closed_) return;
  // Input is read whatever the output: the client's reader may be stuck in sending a COPYIN's
  // answer, and reads no output before that is gone.
  const uint32_t events = kInputEvents | (unread() > 0 ? EPOLLOUT : 0U);
  if (events == watched_events_) return;
  watched_events_ = events;
  (void)server_->loop()->Rewatch(socket_.get(), events, this);
}

}  // namespace rump
