#include "sp_server/server/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "sp_server/loop/pass_fds.h"
#include "sp_server/server/server.h"
#include "sp_server/server/session_call.h"

namespace rump {
namespace {

// A name as long as the protocol keeps it.
std::string_view CutCommand(std::string_view command) {
  return command.substr(0, kMaxCommandName - 1);
}

}  // namespace

Session::Session(Server* server, UniqueFd socket, Peer peer, bool refused)
    : server_(server), socket_(std::move(socket)), peer_(std::move(peer)), refused_(refused) {
  const std::span<const std::byte> banner = std::as_bytes(std::span(server_->banner()));
  output_.insert(output_.end(), banner.begin(), banner.end());
  watched_events_ = kInputEvents;
  if (!server_->loop()->Watch(socket_.get(), watched_events_, this).ok() || !Flush()) {
    Close(false);
  }
}

Session::Session(Server* server, UniqueFd socket, Peer parent,
                 std::unique_ptr<KernelProcess> process)
    : server_(server),
      socket_(std::move(socket)),
      peer_(std::move(parent)),
      refused_(false),
      identified_(false),
      state_(State::kRunning),
      process_(std::move(process)) {
  process_->SetClient(this);
  const int on = 1;
  setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  watched_events_ = kInputEvents;
  if (!server_->loop()->Watch(socket_.get(), watched_events_, this).ok()) Close(false);
}

Session::~Session() {
  *alive_ = false;
  server_->loop()->Unwatch(socket_.get(), this);
  server_->loop()->ForgetLate(this);
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
  constexpr uint32_t kEnd = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
  if ((events & (EPOLLIN | kEnd)) != 0 && !Receive((events & kEnd) != 0)) Close(true);
}

bool Session::Receive(bool at_end) {
  const std::shared_ptr<std::byte[]>& received_into = server_->input_buffer();
  const std::span<std::byte> buffer = input_.empty()
                                          ? std::span(received_into.get(), Server::kInputBuffer)
                                          : std::span(input_).subspan(input_size_);
  std::vector<UniqueFd> fds;
  ucred sender{};
  const ssize_t n = ReceiveWithFds(socket_.get(), buffer, &fds, identified_ ? nullptr : &sender);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return false;
  // Events are edges: what one receive may have left has to be asked for.
  const bool more = at_end || !fds.empty() || n == std::ssize(buffer) || (n < 0 && errno == EINTR);
  if (more) (void)server_->loop()->Rewatch(socket_.get(), watched_events_, this);
  if (n < 0) return true;
  if (!identified_) Identify(sender);
  bytes_moved_ += n;
  server_->counters().bytes_in += n;
  if (!KeepFds(std::move(fds), input_position_ + input_size_ + n - 1)) return false;
  size_t used = 0;
  if (input_.empty()) {
    received_into_ = &received_into;
    const bool goes_on = ParseFrames(buffer.first(n), &used);
    received_into_ = nullptr;
    if (goes_on) KeepInput(buffer.first(n).subspan(used));
    return goes_on;
  }
  input_size_ += n;
  if (input_size_ < input_.size()) return true;
  const std::vector<std::byte> input = std::exchange(input_, {});
  input_size_ = 0;
  if (!ParseFrames(input, &used)) return false;
  KeepInput(std::span(input).subspan(used));
  return true;
}

void Session::Identify(const ucred& sender) {
  identified_ = true;
  const int off = 0;
  setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &off, sizeof off);
  // A pid that the server cannot see is 0.
  if (sender.pid != 0) peer_ = UnixPeer(sender);
}

bool Session::KeepFds(std::vector<UniqueFd> fds, uint64_t last) {
  if (fds.empty()) return true;
  FdCloser& closer = server_->loop()->closer();
  const bool wanted = (server_->options().extensions & kExtensionHostFd) != 0;
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

bool Session::ParseFrames(std::span<const std::byte> bytes, size_t* used) {
  while (!closed_) {
    FrameHeader header;
    const FrameError error = DecodeHeader(bytes.subspan(*used), kMaxFrame, &header);
    if (error == FrameError::kTooShort || error == FrameError::kTooLong) return false;
    if (error == FrameError::kIncomplete || bytes.size() - *used < header.len) return true;
    const std::span<const std::byte> frame = bytes.subspan(*used, header.len);
    *used += header.len;
    input_position_ += header.len;
    frame_fd_ = TakeFrameFd();
    const bool goes_on = HandleFrame(header, frame.subspan(kHeaderSize));
    // It is for this frame alone: the next one must not be taken for its sender.
    if (frame_fd_.valid()) server_->loop()->closer().Close(std::move(frame_fd_));
    if (!goes_on) return false;
  }
  return true;
}

void Session::KeepInput(std::span<const std::byte> rest) {
  if (rest.empty() || closed_) return;
  FrameHeader header;
  const bool whole_header = DecodeHeader(rest, kMaxFrame, &header) == FrameError::kNone;
  input_.resize(whole_header ? header.len : kHeaderSize);
  memcpy(input_.data(), rest.data(), rest.size());
  input_size_ = rest.size();
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
    HandleSyscall(header, call->args);
  } else if (const auto* carrying = std::get_if<InlineRequest>(&message);
             carrying != nullptr && (server_->options().extensions & kExtensionInline) != 0) {
    HandleSyscall(header, carrying->args, carrying->blocks);
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
  if (header.u == kPreforkConnected && (server_->options().extensions & kExtensionHostFd) != 0) {
    HandOut(header.reqno, *std::move(child));
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

void Session::HandOut(uint64_t reqno, std::unique_ptr<KernelProcess> child) {
  Result<UniqueFd> end = server_->AddChild(peer_, std::move(child));
  if (!end.ok()) return SendError({.reqno = reqno}, WireError::kNoMemory);
  CloseAnswer();
  output_fds_.push_back({output_position_ + unread(), *std::move(end)});
  Append(
      {.reqno = reqno, .cls = FrameClass::kResponse, .type = FrameType::kPrefork, .u = kBringsFd},
      BytesOf(PreforkCookie{}));
}

void Session::HandleSyscall(const FrameHeader& header, std::span<const std::byte> args,
                            std::span<const std::byte> blocks) {
  if (state_ == State::kInExec) return SendError(header, WireError::kInExec);
  if (calls_.size() >= server_->options().limits.calls_in_flight) {
    return SendError(header, WireError::kTryAgain);
  }
  const auto call = std::make_shared<SessionCall>(this, header, args, blocks, std::move(frame_fd_));
  process_->SystemCall(call);
  call->OutliveFrame();
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

}  // namespace rump
