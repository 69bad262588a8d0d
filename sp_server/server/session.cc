#include "sp_server/server/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "sp_server/loop/receive_fds.h"
#include "sp_server/server/server.h"

namespace rump {
namespace {

// What an idle connection keeps for input; more only while a longer frame is on its way.
constexpr size_t kInputBuffer = 4096;
// An output buffer that grew beyond this is given back once it is empty.
constexpr size_t kOutputKept = 64 * 1024;

// A name as long as the protocol keeps it.
std::string_view CutCommand(std::string_view command) {
  return command.substr(0, kMaxCommandName - 1);
}

std::span<const std::byte> BytesOf(const auto& object) {
  return std::as_bytes(std::span(&object, 1));
}

}  // namespace

class Session::SessionCall final : public Call, public std::enable_shared_from_this<SessionCall> {
 public:
  SessionCall(Session* session, const FrameHeader& header, std::span<const std::byte> args,
              UniqueFd fd)
      : session_(session),
        reqno_(header.reqno),
        entry_(session->calls_.emplace(reqno_, this)),
        request_fd_(std::move(fd)) {
    number_ = header.u;
    nargs_ = std::min(args.size() / sizeof(uint64_t), kMaxArgs);
    memcpy(args_, args.data(), nargs_ * sizeof(uint64_t));
  }
  ~SessionCall() override { Detach(); }

  void CopyIn(uint64_t addr, size_t len, CopyInSink* sink) override {
    AskForMemory(FrameType::kCopyIn, addr, len, sink);
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
      if (fd_.valid()) {
        session_->output_fds_.push_back(
            {session_->output_position_ + session_->unread(), std::move(fd_)});
      }
      session_->Append({.reqno = reqno_, .cls = FrameClass::kResponse, .type = FrameType::kSyscall},
                       BytesOf(result));
    }
    Detach();
  }

  void Detach() {
    if (session_ != nullptr) {
      AwaitOutputRoom(nullptr);
      session_->calls_.erase(entry_);
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
  const CallMap::iterator entry_;
  uint64_t asked_ = UINT64_MAX;  // reqno of what the client was asked last
  OutputWaiter* output_waiter_ = nullptr;
  std::list<SessionCall*>::iterator output_entry_;  // valid while there is a waiter
  UniqueFd request_fd_;
  UniqueFd fd_;  // goes with the response
};

Session::Session(Server* server, UniqueFd socket, Peer peer, bool refused)
    : server_(server), socket_(std::move(socket)), peer_(std::move(peer)), refused_(refused) {
  input_.resize(kInputBuffer);
  const std::span<const std::byte> banner = std::as_bytes(std::span(server_->banner()));
  output_.insert(output_.end(), banner.begin(), banner.end());
  watched_events_ = EPOLLIN;
  if (!server_->loop()->Watch(socket_.get(), watched_events_, this).ok() || !Flush()) {
    Close(false);
  }
}

Session::~Session() {
  *alive_ = false;
  server_->loop()->Unwatch(socket_.get(), this);
  Detach();
  FdCloser& closer = server_->loop()->closer();
  for (PendingFd& received : received_fds_) closer.Close(std::move(received.fd));
  // The client sees the end at once, even if the close takes long.
  shutdown(socket_.get(), SHUT_WR);
  closer.CloseStream(std::move(socket_));
}

void Session::Detach() {
  for (auto& [reqno, call] : std::exchange(calls_, {})) call->Forget();
  for (SessionCall* call : std::exchange(output_queue_, {})) call->TellOutputRoom();
  for (auto& [reqno, asked] : std::exchange(asked_, {})) asked.sink->OnCopyIn(Errno(EIO), {});
  process_.reset();
  server_->DropParked(this);
}

void Session::Close(bool drain) {
  if (closed_) return;
  closed_ = true;
  // What a client is told last it has room for, unless it does not read: then it does not matter.
  if (drain) (void)Flush();
  server_->loop()->Unwatch(socket_.get(), this);
  server_->loop()->Defer([server = server_, this, alive = alive_] {
    if (*alive) server->Remove(this);
  });
}

void Session::OnEvents(uint32_t events) {
  if ((events & EPOLLOUT) != 0 && !Flush()) return Close(false);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !Receive()) Close(true);
}

bool Session::Receive() {
  if (input_end_ == input_.size()) {
    // ParseFrames left an unfinished frame: move it to the front, which makes room.
    memmove(input_.data(), input_.data() + input_begin_, input_end_ - input_begin_);
    input_end_ -= input_begin_;
    input_begin_ = 0;
  }
  std::vector<UniqueFd> fds;
  const ssize_t n = ReceiveWithFds(socket_.get(), std::span(input_).subspan(input_end_), &fds);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  input_end_ += n;
  bytes_moved_ += n;
  server_->counters().bytes_in += n;
  return KeepFds(std::move(fds)) && ParseFrames();
}

bool Session::KeepFds(std::vector<UniqueFd> fds) {
  if (fds.empty()) return true;
  FdCloser& closer = server_->loop()->closer();
  const bool wanted = (server_->options().extensions & kExtensionHostFd) != 0;
  const uint64_t last = input_position_ + (input_end_ - input_begin_) - 1;
  for (UniqueFd& fd : fds) {
    if (wanted) {
      received_fds_.push_back({last, std::move(fd)});
    } else {
      closer.Close(std::move(fd));
    }
  }
  if (closer.full()) {
    fprintf(stderr,
            "rump_server: client %s sent descriptors while earlier ones do not close: "
            "disconnected\n",
            peer_.description.c_str());
    return false;
  }
  return received_fds_.size() <= server_->options().limits.received_fds;
}

UniqueFd Session::TakeFrameFd() {
  UniqueFd first;
  while (!received_fds_.empty() && received_fds_.front().position < input_position_) {
    UniqueFd fd = std::move(received_fds_.front().fd);
    received_fds_.pop_front();
    if (first.valid()) {
      server_->loop()->closer().Close(std::move(fd));
    } else {
      first = std::move(fd);
    }
  }
  return first;
}

bool Session::ParseFrames() {
  while (!closed_) {
    const std::span<const std::byte> bytes(input_.data() + input_begin_, input_end_ - input_begin_);
    FrameHeader header;
    const FrameError error = DecodeHeader(bytes, kMaxFrame, &header);
    if (error == FrameError::kTooShort || error == FrameError::kTooLong) return false;
    if (error == FrameError::kIncomplete) break;
    if (bytes.size() < header.len) {
      if (header.len > input_.size()) input_.resize(header.len);
      break;
    }
    input_begin_ += header.len;
    input_position_ += header.len;
    frame_fd_ = TakeFrameFd();
    const bool goes_on = HandleFrame(header, bytes.subspan(kHeaderSize, header.len - kHeaderSize));
    // It is for this frame alone: the next one must not be taken for its sender.
    server_->loop()->closer().Close(std::move(frame_fd_));
    if (!goes_on) return false;
  }
  if (input_begin_ == input_end_) {
    input_begin_ = input_end_ = 0;
    if (input_.size() > kInputBuffer) {
      input_.resize(kInputBuffer);
      input_.shrink_to_fit();
    }
  } else if (input_begin_ > 0 && input_.size() - input_begin_ < kHeaderSize) {
    memmove(input_.data(), input_.data() + input_begin_, input_end_ - input_begin_);
    input_end_ -= input_begin_;
    input_begin_ = 0;
  }
  return true;
}

bool Session::HandleFrame(const FrameHeader& header, std::span<const std::byte> payload) {
  if (refused_) {
    SendError(header, WireError::kTryAgain);
    return false;
  }
  if (header.cls > FrameClass::kError) {
    SendError(header, WireError::kMalformedRequest);
    return true;
  }
  if (state_ == State::kFresh &&
      (header.cls != FrameClass::kRequest || header.type != FrameType::kHandshake)) {
    SendError(header, WireError::kAuth);
    return false;
  }
  // An error of a client's has nobody here who waits for it.
  if (header.cls == FrameClass::kError) return true;
  if (header.cls == FrameClass::kRequest && header.type == FrameType::kHandshake) {
    return HandleHandshake(header, payload);
  }
  Message message;
  if (DecodeMessage(header, payload, &message) != FrameError::kNone) {
    if (header.cls == FrameClass::kRequest) SendError(header, WireError::kMalformedRequest);
    return true;
  }
  if (const auto* copied = std::get_if<CopyInResponse>(&message)) {
    HandleAnswer(header, copied->data);
  } else if (const auto* mapped = std::get_if<AnonMmapResponse>(&message)) {
    HandleAnswer(header, BytesOf(mapped->addr));
  } else if (header.cls == FrameClass::kResponse) {
    return true;  // nobody waits for it
  } else if (const auto* call = std::get_if<SyscallRequest>(&message)) {
    HandleSyscall(header, *call);
  } else if (std::holds_alternative<PreforkRequest>(message)) {
    return HandlePrefork(header);
  } else if (const auto* cancel = std::get_if<CancelRequest>(&message);
             cancel != nullptr && (server_->options().extensions & kExtensionCancel) != 0) {
    HandleCancel(*cancel);
  } else {
    SendError(header, WireError::kMalformedRequest);
  }
  return true;
}

bool Session::HandleHandshake(const FrameHeader& header, std::span<const std::byte> payload) {
  Message message;
  const FrameError error = DecodeMessage(header, payload, &message);
  if (error != FrameError::kNone) {
    SendError(header, WireError::kMalformedRequest);
    return state_ != State::kFresh;
  }
  if (const auto* exec = std::get_if<ExecRequest>(&message); exec != nullptr) {
    if (state_ != State::kRunning) {
      SendError(header, state_ == State::kFresh ? WireError::kAuth : WireError::kInExec);
      return false;
    }
    state_ = State::kInExec;
    process_->Exec(CutCommand(exec->command),
                   [this, alive = alive_, reqno = header.reqno](Errno result) {
                     if (!*alive) return;
                     state_ = State::kRunning;
                     SendHandshakeResponse(reqno, result);
                   });
    return true;
  }
  if (std::holds_alternative<AuthRequest>(message)) {
    SendError(header, WireError::kAuth);
    return false;
  }
  if (state_ != State::kFresh) {
    SendError(header, WireError::kMalformedRequest);
    return false;
  }
  if (const auto* fork = std::get_if<ForkRequest>(&message)) return HandleFork(header, *fork);
  const auto& guest = std::get<GuestRequest>(message);
  Result<std::unique_ptr<KernelProcess>> process =
      server_->kernel()->Spawn(CutCommand(guest.command));
  if (!process.ok()) {
    SendHandshakeResponse(header.reqno, process.error());
    return false;
  }
  process_ = *std::move(process);
  process_->SetClient(this);
  state_ = State::kRunning;
  SendHandshakeResponse(header.reqno, kOk);
  return true;
}

bool Session::HandleFork(const FrameHeader& header, const ForkRequest& request) {
  std::unique_ptr<KernelProcess> process = server_->Claim(request.fork.cookie);
  if (request.fork.cancel != 0) return false;
  if (process == nullptr) {
    SendError(header, WireError::kInvalidPrefork);
    return false;
  }
  process_ = std::move(process);
  process_->SetClient(this);
  state_ = State::kRunning;
  SendHandshakeResponse(header.reqno, kOk);
  return true;
}

bool Session::HandlePrefork(const FrameHeader& header) {
  if (state_ == State::kInExec) {
    SendError(header, WireError::kInExec);
    return false;
  }
  Result<std::unique_ptr<KernelProcess>> child = process_->Fork();
  if (!child.ok()) {
    SendError(header, WireError::kForkFailed);
    return true;
  }
  Result<PreforkCookie> cookie = server_->Park(this, *std::move(child));
  if (!cookie.ok()) {
    SendError(header, WireError::kNoMemory);
    return true;
  }
  Append({.reqno = header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kPrefork},
         BytesOf(*cookie));
  return true;
}

void Session::HandleSyscall(const FrameHeader& header, const SyscallRequest& request) {
  if (state_ == State::kInExec) return SendError(header, WireError::kInExec);
  if (calls_.size() >= server_->options().limits.calls_in_flight) {
    return SendError(header, WireError::kTryAgain);
  }
  const auto call = std::make_shared<SessionCall>(this, header, request.args, std::move(frame_fd_));
  process_->SystemCall(call);
  frame_fd_ = call->TakeFd();
}

void Session::HandleCancel(const CancelRequest& request) {
  // A call that has just ended is as good as cancelled.
  const auto call = calls_.find(request.reqno);
  if (call != calls_.end()) process_->Interrupt(*call->second);
}

void Session::HandleAnswer(const FrameHeader& header, std::span<const std::byte> data) {
  auto it = asked_.find(header.reqno);
  if (it == asked_.end()) return;
  const PendingAnswer asked = it->second;
  // A string is answered as a COPYIN, too.
  if ((asked.type == FrameType::kAnonMmap) != (header.type == FrameType::kAnonMmap)) return;
  asked_.erase(it);
  const Errno error = CheckAnswer(asked, data);
  asked.sink->OnCopyIn(error, error.ok() ? data : std::span<const std::byte>());
}

Errno Session::CheckAnswer(const PendingAnswer& asked, std::span<const std::byte> data) {
  switch (asked.type) {
    case FrameType::kCopyInStr:
      if (data.empty()) return Errno(EFAULT);
      return data.size() <= asked.max && data.back() == std::byte{0} ? kOk : Errno(ENAMETOOLONG);
    case FrameType::kAnonMmap:
      return std::ranges::all_of(data, [](std::byte b) { return b == std::byte{0}; })
                 ? Errno(ENOMEM)
                 : kOk;
    default:
      return data.size() == asked.max ? kOk : Errno(EFAULT);
  }
}

void Session::SendError(const FrameHeader& request, WireError error) {
  ++server_->counters().errors[static_cast<size_t>(error)];
  Append({.reqno = request.reqno,
          .cls = FrameClass::kError,
          .type = FrameType::kHandshake,
          .u = static_cast<uint32_t>(error)},
         {});
}

void Session::SendHandshakeResponse(uint64_t reqno, Errno error) {
  const int32_t value = error.value();
  Append({.reqno = reqno, .cls = FrameClass::kResponse, .type = FrameType::kHandshake},
         BytesOf(value));
}

void Session::Append(FrameHeader header, std::span<const std::byte> first,
                     std::span<const std::byte> second) {
  if (closed_) return;
  header.len = kHeaderSize + first.size() + second.size();
  if (unread() + header.len > server_->options().limits.output_bytes) {
    fprintf(stderr, "rump_server: client %s does not read its replies: disconnected\n",
            peer_.description.c_str());
    return Close(false);
  }
  const size_t at = output_.size();
  output_.resize(at + header.len);
  EncodeHeader(header, output_.data() + at);
  if (!first.empty()) memcpy(output_.data() + at + kHeaderSize, first.data(), first.size());
  if (!second.empty()) {
    memcpy(output_.data() + at + kHeaderSize + first.size(), second.data(), second.size());
  }
  ScheduleFlush();
}

void Session::ScheduleFlush() {
  if (flush_scheduled_) return;
  // Once the turn's work is done, so that a call's COPYOUT and its response go out together.
  flush_scheduled_ = true;
  server_->loop()->Defer([this, alive = alive_] {
    if (!*alive) return;
    flush_scheduled_ = false;
    if (!closed_ && !Flush()) Close(false);
  });
}

bool Session::Flush() {
  while (output_begin_ < output_.size()) {
    iovec iov{output_.data() + output_begin_, output_.size() - output_begin_};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr msg{};
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    const bool with_fd = !output_fds_.empty() && output_fds_.front().position == output_position_;
    if (with_fd) {
      memset(control, 0, sizeof control);
      msg.msg_control = control;
      msg.msg_controllen = sizeof control;
      cmsghdr* c = CMSG_FIRSTHDR(&msg);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int));
      const int fd = output_fds_.front().fd.get();
      memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    // A descriptor goes with the first byte of its own frame, so the bytes before the next one's
    // frame are the most that this message may carry.
    const size_t next = with_fd ? 1 : 0;
    if (output_fds_.size() > next) {
      iov.iov_len = std::min<size_t>(iov.iov_len, output_fds_[next].position - output_position_);
    }
    const ssize_t n = sendmsg(socket_.get(), &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
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
  const uint32_t events = EPOLLIN | (output_begin_ < output_.size() ? EPOLLOUT : 0U);
  if (events == watched_events_) return;
  watched_events_ = events;
  (void)server_->loop()->Rewatch(socket_.get(), events, this);
}

}  // namespace rump
