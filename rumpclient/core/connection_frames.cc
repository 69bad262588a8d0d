// What a connection's frames look like from this side: sending them, and the reader's work.
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <utility>

#include "rumpclient/core/connection.h"
#include "rumpclient/core/pending.h"
#include "rumpclient/core/raw_syscall.h"
#include "rumpclient/core/user_memory.h"

namespace rump::client {
namespace {

constexpr int kMaxSignal = 64;
// Between two looks whether another thread has sent its frame, in nanoseconds.
constexpr long kLockPause = 20'000;
// How often a thread that has sent its frame sends what others have left meanwhile.
constexpr int kMostRounds = 4;

size_t ResponsePayloadSize(FrameType type) {
  switch (type) {
    case FrameType::kHandshake:
      return sizeof(int32_t);
    case FrameType::kPrefork:
      return sizeof(PreforkCookie);
    default:
      return sizeof(SyscallResultPayload);
  }
}

bool HasPassed(const Interruption* interruption) {
  return interruption != nullptr && interruption->deadline.Passed();
}

// Waits for at most one socket. Handlers cannot run here, in the middle of a frame. But a program
// must be able to end whatever its server does.
long Poll(pollfd* socket, __kernel_timespec* timeout, const Interruption* interruption) {
  const int count = socket != nullptr ? 1 : 0;
  if (interruption == nullptr) return RawSyscall(SYS_ppoll, socket, count, timeout, nullptr, 0);
  const SignalSet mask = ~(WithoutHandler() & ~interruption->mask);
  return RawSyscall(SYS_ppoll, socket, count, timeout, &mask, sizeof mask);
}

}  // namespace

Connection::Pending* Connection::FindMemory(const CopyPayload& range, Access access) {
  FutexLockGuard guard(&lock_);
  for (Pending* p = list_; p != nullptr; p = p->next) {
    if (p->memory == nullptr || !p->memory->Contains(range.addr, range.len, access)) continue;
    p->served = true;
    return p;
  }
  return nullptr;
}

void Connection::EndServing(Pending* pending) {
  if (pending == nullptr) return;
  FutexLockGuard guard(&lock_);
  pending->served = false;
}

long Connection::WaitFor(short events, const Interruption* interruption) const {
  if (interruption == nullptr) interruption = beginning_for_;
  const Deadline& deadline =
      interruption != nullptr && deadline_.is_never() ? interruption->deadline : deadline_;
  pollfd socket = {fd(), events, 0};
  __kernel_timespec left;
  if (!deadline.is_never()) left = deadline.Left();
  return Poll(&socket, deadline.is_never() ? nullptr : &left, interruption);
}

void Connection::Pause(long nanoseconds, const Interruption* interruption) {
  __kernel_timespec pause = {0, nanoseconds};
  Poll(nullptr, &pause, interruption);
}

bool Connection::LockToSend(const Interruption* interruption) {
  if (interruption == nullptr || interruption->deadline.is_never()) {
    send_lock_.Lock();
    return true;
  }
  for (; !send_lock_.TryLock(); Pause(kLockPause, interruption)) {
    if (interruption->deadline.Passed()) return false;
  }
  return true;
}

long Connection::Send(OutgoingFrame* frame, const Interruption* interruption, int send_fd) {
  const bool may_leave = send_fd < 0 && frame->is_own();
  // To threads that are expected only where somebody loses patience with them.
  const bool patient = interruption != nullptr && interruption->lets_handlers_in();
  if (may_leave && patient && send_lock_.expects() && send_lock_.Leave(frame->own())) return 0;
  if (!send_lock_.TryLock()) {
    if (may_leave && send_lock_.Leave(frame->own())) return 0;
    if (!LockToSend(interruption)) return -ETIMEDOUT;
  }
  return SendLocked(frame, interruption, send_fd);
}

void Connection::SendWhatIsLeft(const Interruption* interruption) {
  if (LockToSend(interruption)) (void)SendLocked(nullptr, interruption, -1);
}

long Connection::SendLocked(OutgoingFrame* frame, const Interruption* interruption, int send_fd) {
  auto left = send_lock_.Open();
  const int fd = this->fd();
  long result = fd < 0 ? -ENOTCONN : 0;
  if (!left.empty()) SendLeft(fd, left, interruption);
  if (result == 0 && frame != nullptr) result = SendFrame(fd, frame, interruption, send_fd);
  for (int rounds = 0;; ++rounds) {
    left = send_lock_.Finish(/*last=*/rounds == kMostRounds);
    if (left.empty()) return result;
    SendLeft(fd, left, interruption);
  }
}

long Connection::SendFrame(int fd, OutgoingFrame* frame, const Interruption* interruption,
                           int send_fd) {
  bool fault = false;
  while (!frame->done()) {
    const long n = frame->SendSome(fd, frame->begun() ? -1 : send_fd);
    if (MaySendOn(n, interruption)) continue;
    if (n == -EFAULT && !fault) {
      fault = true;
      frame->LeaveMemoryOut();
      continue;
    }
    RawSyscall(SYS_shutdown, fd, SHUT_RDWR);
    return n;
  }
  return fault ? -EFAULT : 0;
}

void Connection::SendLeft(int fd, std::span<const std::byte> bytes,
                          const Interruption* interruption) {
  while (fd >= 0 && !bytes.empty()) {
    const long n = RawSyscall(SYS_sendto, fd, bytes.data(), bytes.size(), MSG_NOSIGNAL, nullptr, 0);
    if (!MaySendOn(n, interruption)) {
      // Nobody gets an answer any more.
      RawSyscall(SYS_shutdown, fd, SHUT_RDWR);
      return;
    }
    if (n > 0) bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

bool Connection::MaySendOn(long sent, const Interruption* interruption) const {
  if (sent >= 0 || sent == -EINTR) return true;
  if (sent != -EAGAIN || deadline_.Passed() || HasPassed(interruption)) return false;
  WaitFor(POLLOUT, interruption);
  return true;
}

Connection::ReadResult Connection::ReadFrame() {
  if (unread_size() == 0) {
    SetTimeout(reading_for_ != nullptr || !deadline_.is_never());
    const long n = Receive(nullptr, 0);
    if (n == -EAGAIN) return ReadResult::kNothing;
    if (n <= 0) return ReadResult::kLost;
  }
  FrameHeader header;
  if (!Need(kHeaderSize) ||
      DecodeHeader({unread(), kHeaderSize}, kMaxFrame, &header) != FrameError::kNone) {
    return ReadResult::kLost;
  }
  bool good;
  switch (header.cls) {
    case FrameClass::kRequest:
      good = ServeRequest(header);
      break;
    case FrameClass::kResponse:
    case FrameClass::kError:
      good = TakeResponse(header);
      break;
    default:
      good = Skip(header.len);
  }
  return good ? ReadResult::kFrame : ReadResult::kLost;
}

bool Connection::HasWholeFrame() const {
  if (unread_size() == 0) return false;
  FrameHeader header;
  return DecodeHeader({unread(), unread_size()}, kMaxFrame, &header) == FrameError::kNone &&
         header.len <= unread_size();
}

bool Connection::ServeRequest(const FrameHeader& header) {
  switch (header.type) {
    case FrameType::kCopyIn:
    case FrameType::kCopyInStr:
      return ServeCopyIn(header);
    case FrameType::kCopyOut:
    case FrameType::kCopyOutStr:
      return ServeCopyOut(header);
    case FrameType::kAnonMmap:
      return ServeAnonMmap(header);
    case FrameType::kRaise:
      if (header.u >= 1 && header.u <= kMaxSignal) raised_ |= SignalSet{1} << (header.u - 1);
      return Skip(header.len);
    default:
      return Skip(header.len);
  }
}

template <typename T>
bool Connection::TakePayload(const FrameHeader& header, T* payload) {
  constexpr size_t kSize = kHeaderSize + sizeof(T);
  if (header.len < kSize || !Need(kSize)) return false;
  memcpy(payload, unread() + kHeaderSize, sizeof(T));
  begin_ += kSize;
  return true;
}

bool Connection::ServeCopyIn(const FrameHeader& header) {
  CopyPayload range;
  if (header.len != kHeaderSize + sizeof range || !TakePayload(header, &range)) return false;
  range.len = std::min<uint64_t>(range.len, kMaxCopy + 1);
  if (header.type == FrameType::kCopyInStr) range.len = StringSize(range);
  Pending* const owner = range.len <= kMaxCopy ? FindMemory(range, Access::kRead) : nullptr;
  if (owner == nullptr) range.len = 0;
  // Answers to both kinds have the type COPYIN.
  const FrameHeader reply = {
      .reqno = header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn};
  OutgoingFrame frame(reply, nullptr, 0);
  frame.AddMemory(range.addr, range.len);
  const long result = Send(&frame, reading_for_);
  if (result == -EFAULT && owner != nullptr) owner->faulted = true;
  EndServing(owner);
  return result == 0 || result == -EFAULT;
}

uint64_t Connection::StringSize(const CopyPayload& range) {
  // Elsewhere even a look could be the program's end: in a sandbox nobody looks for it.
  Pending* const owner = FindMemory({.len = 1, .addr = range.addr}, Access::kRead);
  if (owner == nullptr) return 0;
  const uint64_t size = UserStringSize(range.addr, range.len);
  EndServing(owner);
  return size;
}

bool Connection::ServeCopyOut(const FrameHeader& header) {
  CopyPayload range;
  if (!TakePayload(header, &range)) return false;
  if (range.len != header.len - kHeaderSize - sizeof range) return false;
  Pending* const owner = FindMemory(range, Access::kWrite);
  if (owner == nullptr) return Skip(range.len);
  const bool good = CopyOut(range, &owner->faulted);
  EndServing(owner);
  return good;
}

bool Connection::CopyOut(CopyPayload range, bool* faulted) {
  if (const size_t n = std::min<uint64_t>(range.len, unread_size()); n > 0) {
    if (!WriteUserMemory(range.addr, unread(), n)) {
      *faulted = true;
      return Skip(range.len);
    }
    begin_ += n;
    range.addr += n;
    range.len -= n;
  }
  while (range.len > 0) {
    const long n = ReceiveSome(reinterpret_cast<void*>(range.addr), range.len);
    if (n == -EFAULT) {
      *faulted = true;
      return Skip(range.len);
    }
    if (n <= 0) return false;
    const uint64_t taken = std::min<uint64_t>(range.len, static_cast<uint64_t>(n));
    range.addr += taken;
    range.len -= taken;
  }
  return true;
}

bool Connection::ServeAnonMmap(const FrameHeader& header) {
  uint64_t len = 0;
  if (header.len != kHeaderSize + sizeof len || !TakePayload(header, &len)) return false;
  uint64_t addr = 0;
  if (len <= kMaxAnonymousMemory - mapped_) {
    const long mapped = RawSyscall(SYS_mmap, nullptr, len, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped > 0) {
      addr = static_cast<uint64_t>(mapped);
      mapped_ += len;
    }
  }
  const FrameHeader reply = {
      .reqno = header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kAnonMmap};
  OutgoingFrame frame(reply, &addr, sizeof addr);
  return Send(&frame, reading_for_) == 0;
}

bool Connection::TakeResponse(const FrameHeader& header) {
  Pending* pending;
  {
    FutexLockGuard guard(&lock_);
    pending = list_;
    while (pending != nullptr && pending->reqno != header.reqno) pending = pending->next;
    if (pending != nullptr) pending->served = true;
  }
  if (pending == nullptr) {
    GiveFd(header, nullptr);
    return Skip(header.len);
  }
  long result = 0;
  const bool good = TakeResult(header, pending, &result);
  if (!good) {
    EndServing(pending);
    return false;
  }
  GiveFd(header, pending);
  if (pending->call != nullptr) {
    if (pending->faulted) pending->call->error = EFAULT;
    pending->raised = std::exchange(raised_, 0);
  }
  Complete(pending, result);
  return true;
}

bool Connection::TakeResult(const FrameHeader& header, Pending* pending, long* result) {
  if (header.cls == FrameClass::kError) {
    if (!Skip(header.len)) return false;
    int error = ErrnoOf(static_cast<WireError>(header.u));
    if (error == 0) error = EIO;  // an answer without a result is no success
    if (pending->call != nullptr) {
      pending->call->error = error;
    } else {
      *result = -error;
    }
  } else {
    const bool may_be_longer = header.type == FrameType::kInline;
    const uint64_t least = kHeaderSize + ResponsePayloadSize(pending->type);
    if (header.type != pending->type || header.len < least ||
        (header.len > least && !may_be_longer)) {
      return false;
    }
    if (pending->call != nullptr) {
      SyscallResultPayload answer;
      if (!TakePayload(header, &answer)) return false;
      pending->call->error = answer.error;
      memcpy(pending->call->retval, answer.retval, sizeof answer.retval);
      return TakeBlocks(header.len - least, pending);
    }
    if (pending->cookie != nullptr) {
      if (!TakePayload(header, pending->cookie)) return false;
    } else {
      int32_t error = 0;
      if (!TakePayload(header, &error)) return false;
      *result = -static_cast<long>(error);
    }
  }
  return true;
}

bool Connection::TakeBlocks(uint64_t size, Pending* pending) {
  uint64_t bytes = 0;
  for (size_t blocks = 0; size > 0; ++blocks) {
    CopyPayload range;
    if (size < sizeof range || blocks == kMaxBlocks || !Need(sizeof range)) return false;
    memcpy(&range, unread(), sizeof range);
    begin_ += sizeof range;
    size -= sizeof range;
    if (range.len > size || range.len > kMaxBlockBytes - bytes) return false;
    size -= range.len;
    bytes += range.len;
    // Elsewhere than in this call's memory the server has no business.
    const bool allowed = pending->memory != nullptr &&
                         pending->memory->Contains(range.addr, range.len, Access::kWrite);
    if (!(allowed ? CopyOut(range, &pending->faulted) : Skip(range.len))) return false;
  }
  return true;
}

size_t Connection::CountWantedFds() const {
  size_t wanted = 0;
  for (const Pending* p = list_; p != nullptr; p = p->next) {
    if (p->received_fd != nullptr) ++wanted;
  }
  return wanted;
}

void Connection::KeepFds(size_t most) {
  while (queued_fds_ > most) RawSyscall(SYS_close, fds_[--queued_fds_]);
}

void Connection::GiveFd(const FrameHeader& header, Pending* pending) {
  // One that is there may have come with another response.
  if (header.cls != FrameClass::kResponse || header.u != kBringsFd || queued_fds_ == 0) return;
  const int fd = fds_[0];
  --queued_fds_;
  memmove(&fds_[0], &fds_[1], queued_fds_ * sizeof(fds_[0]));
  if (pending != nullptr && pending->received_fd != nullptr) {
    *pending->received_fd = fd;
  } else {
    RawSyscall(SYS_close, fd);
  }
}

bool Connection::Need(size_t n) {
  if (begin_ + n > kReceiveBuffer) {
    memmove(buffer_, unread(), unread_size());
    end_ -= begin_;
    begin_ = 0;
  }
  while (unread_size() < n) {
    if (ReceiveSome(nullptr, 0) <= 0) return false;
  }
  return true;
}

bool Connection::Skip(uint64_t n) {
  for (;;) {
    const size_t taken = std::min<uint64_t>(n, unread_size());
    begin_ += taken;
    n -= taken;
    if (n == 0) return true;
    if (ReceiveSome(nullptr, 0) <= 0) return false;
  }
}

long Connection::ReceiveSome(void* extra, size_t extra_size) {
  for (;;) {
    const long n = Receive(extra, extra_size);
    if (n != -EAGAIN) return n;
    if (HasPassed(reading_for_)) return -ETIMEDOUT;
    WaitFor(POLLIN, reading_for_);
  }
}

long Connection::Receive(void* extra, size_t extra_size) {
  for (;;) {
    if (deadline_.Passed()) return -ETIMEDOUT;
    const long n = TryReceive(extra, extra_size);
    if (n == -EAGAIN && !deadline_.is_never()) {
      WaitFor(POLLIN, reading_for_);
    } else if (n != -EINTR) {
      return n;
    }
  }
}

long Connection::TryReceive(void* extra, size_t extra_size) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (!takes_fds_ && extra_size == 0) {
    const long n =
        RawSyscall(SYS_recvfrom, fd(), buffer_ + end_, kReceiveBuffer - end_, 0, nullptr, nullptr);
    if (n > 0) end_ += static_cast<size_t>(n);
    return n;
  }
  iovec parts[2] = {{extra, extra_size}, {buffer_ + end_, kReceiveBuffer - end_}};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxQueuedFds * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const long n = RawSyscall(SYS_recvmsg, fd(), &message, MSG_CMSG_CLOEXEC);
  if (n <= 0) return n;
  if (static_cast<size_t>(n) > extra_size) end_ += static_cast<size_t>(n) - extra_size;
  if (const cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
    const size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(rights) + i * sizeof fd, sizeof fd);
      if (queued_fds_ < kMaxQueuedFds) {
        fds_[queued_fds_++] = fd;
      } else {
        RawSyscall(SYS_close, fd);
      }
    }
    FutexLockGuard guard(&lock_);
    KeepFds(CountWantedFds());
  } else if ((message.msg_flags & MSG_CTRUNC) != 0 && queued_fds_ < kMaxQueuedFds) {
    // The kernel drops one that the process has no room for: those of others keep their places.
    fds_[queued_fds_++] = -1;
  }
  return n;
}

}  // namespace rump::client
