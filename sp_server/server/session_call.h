// One system call of a session's client. Private to the session.
#ifndef SP_SERVER_SERVER_SESSION_CALL_H_
#define SP_SERVER_SERVER_SESSION_CALL_H_

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "sp_server/server/server.h"
#include "sp_server/server/session.h"

namespace rump {

inline std::span<const std::byte> BytesOf(const auto& object) {
  return std::as_bytes(std::span(&object, 1));
}

class Session::SessionCall final : public Call, public std::enable_shared_from_this<SessionCall> {
 public:
  // `blocks` came with the request, if it is an INLINE one.
  SessionCall(Session* session, const FrameHeader& header, std::span<const std::byte> args,
              std::span<const std::byte> blocks, UniqueFd fd)
      : session_(session),
        reqno_(header.reqno),
        type_(header.type),
        blocks_(blocks),
        request_fd_(std::move(fd)) {
    number_ = header.u;
    nargs_ = std::min(args.size() / sizeof(uint64_t), kMaxArgs);
    memcpy(args_, args.data(), nargs_ * sizeof(uint64_t));
  }
  ~SessionCall() override { Detach(); }

  void CopyIn(uint64_t addr, size_t len, CopyInSink* sink) override {
    if (const auto bytes = InRequest(addr, len); !bytes.empty()) return sink->OnCopyIn(kOk, bytes);
    AskForMemory(FrameType::kCopyIn, addr, len, sink);
  }
  std::span<const std::byte> InRequest(uint64_t addr, size_t len) const override {
    CopyPayload range;
    std::span<const std::byte> bytes;
    for (auto blocks = blocks_; TakeBlock(&blocks, &range, &bytes);) {
      if (addr < range.addr || len > range.len) continue;
      const uint64_t offset = addr - range.addr;
      if (offset <= range.len - len) return bytes.subspan(offset, len);
    }
    return {};
  }
  std::shared_ptr<const void> KeepRequest() const override {
    if (session_ == nullptr || session_->received_into_ == nullptr) return nullptr;
    return *session_->received_into_;
  }
  // The frame's bytes are about to be gone. What the call has not looked at it asks for. Only now
  // can it be cancelled, or counts: most calls are over.
  void OutliveFrame() {
    if (session_ == nullptr) return;
    blocks_ = {};
    entry_ = session_->calls_.emplace(reqno_, this);
    in_flight_ = true;
  }
  void CopyInStr(uint64_t addr, size_t max, CopyInSink* sink) override {
    AskForMemory(FrameType::kCopyInStr, addr, max, sink);
  }
  void AnonMmap(size_t len, CopyInSink* sink) override {
    const uint64_t payload = len;
    Ask(FrameType::kAnonMmap, sink, sizeof payload, BytesOf(payload));
  }
  void CancelCopyIn() override {
    if (session_ != nullptr) session_->asked_.erase(asked_);
  }

  void CopyOut(uint64_t addr, std::span<const std::byte> data) override {
    if (session_ == nullptr || data.empty()) return;
    if (type_ == FrameType::kInline && session_->AddToAnswer(this, addr, data)) return;
    while (session_ != nullptr && !data.empty()) {
      const std::span<const std::byte> chunk = data.first(std::min(data.size(), kMaxCopy));
      const CopyPayload range{chunk.size(), addr};
      ++session_->server_->counters().copyouts;
      session_->Append({.reqno = session_->next_reqno_++, .type = FrameType::kCopyOut},
                       BytesOf(range), chunk);
      addr += chunk.size();
      data = data.subspan(chunk.size());
    }
  }

  void CopyOutStr(uint64_t addr, std::string_view text) override {
    if (session_ == nullptr || text.size() >= kMaxCopy) return;
    ++session_->server_->counters().copyouts;
    const std::string with_nul(text);
    const CopyPayload range{with_nul.size() + 1, addr};
    session_->Append({.reqno = session_->next_reqno_++, .type = FrameType::kCopyOutStr},
                     BytesOf(range),
                     std::as_bytes(std::span(with_nul.c_str(), with_nul.size() + 1)));
  }

  bool HasOutputRoom() const override {
    // Nobody passes those that wait.
    return session_ == nullptr || (session_->output_queue_.empty() && session_->HasOutputRoom());
  }

  void AwaitOutputRoom(OutputWaiter* waiter) override {
    if (session_ != nullptr && output_waiter_ != nullptr) {
      session_->output_queue_.erase(output_entry_);
    }
    output_waiter_ = waiter;
    if (waiter == nullptr) return;
    if (session_ == nullptr) return TellOutputRoom();
    output_entry_ = session_->output_queue_.insert(session_->output_queue_.end(), this);
    session_->GrantOutput();
  }

  // For the session, which has taken the call from its queue.
  void TellOutputRoom() { std::exchange(output_waiter_, nullptr)->OnOutputRoom(); }

  void Raise(int signo) override {
    if (session_ == nullptr) return;
    session_->Append({.reqno = session_->next_reqno_++,
                      .type = FrameType::kRaise,
                      .u = static_cast<uint32_t>(signo)},
                     {});
  }

  UniqueFd TakeFd() override { return std::move(request_fd_); }

  void AttachFd(UniqueFd fd) override { fd_ = std::move(fd); }

  void Complete(Errno error, uint64_t retval0, uint64_t retval1) override {
    // The calls that an exec drains do not answer: their threads are about to be gone.
    if (session_ != nullptr && session_->state_ != State::kInExec) {
      const SyscallResultPayload result{
          .error = error.value(), .pad = 0, .retval = {retval0, retval1}};
      const FrameHeader header{.reqno = reqno_,
                               .cls = FrameClass::kResponse,
                               .type = type_,
                               .u = fd_.valid() ? kBringsFd : 0};
      session_->FinishAnswer(this, header, result, std::move(fd_));
    }
    Detach();
  }

  void Detach() {
    if (session_ != nullptr) {
      AwaitOutputRoom(nullptr);
      session_->CloseAnswer(this);
      if (in_flight_) session_->calls_.erase(entry_);
    }
    session_ = nullptr;
  }

  // The session forgets the call by itself.
  void Forget() { session_ = nullptr; }

 private:
  void AskForMemory(FrameType type, uint64_t addr, size_t len, CopyInSink* sink) {
    if (len > kMaxCopy) return sink->OnCopyIn(Errno(EFAULT), {});
    const CopyPayload range{len, addr};
    Ask(type, sink, len, BytesOf(range));
  }

  void Ask(FrameType type, CopyInSink* sink, size_t max, std::span<const std::byte> payload) {
    if (session_ == nullptr) return sink->OnCopyIn(Errno(EIO), {});
    if (type != FrameType::kAnonMmap) ++session_->server_->counters().copyins;
    asked_ = session_->next_reqno_++;
    session_->asked_.emplace(asked_, PendingAnswer{sink, max, type});
    session_->Append({.reqno = asked_, .type = type}, payload);
  }

  Session* session_;
  const uint64_t reqno_;
  const FrameType type_;  // of the request and of its response
  std::span<const std::byte> blocks_;
  bool in_flight_ = false;
  CallMap::iterator entry_;      // valid while it is
  uint64_t asked_ = UINT64_MAX;  // reqno of what the client was asked last
  OutputWaiter* output_waiter_ = nullptr;
  std::list<SessionCall*>::iterator output_entry_;  // valid while there is a waiter
  UniqueFd request_fd_;
  UniqueFd fd_;  // goes with the response
};

}  // namespace rump

#endif  // SP_SERVER_SERVER_SESSION_CALL_H_
