#include "rumpclient/core/call_memory.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>

#include "rumpclient/core/user_memory.h"

namespace rump::client {
namespace {

// UIO_MAXIOV: no call takes more.
constexpr uint64_t kMaxIovecs = 1024;

// Elements that an array argument may have; calls with more fail in the server.
constexpr uint64_t kMaxElements = 65'536;

bool Inside(uint64_t addr, uint64_t len, uint64_t base, uint64_t size) {
  return addr >= base && len <= size && addr - base <= size - len;
}

bool Inside(uint64_t addr, uint64_t len, const void* base, uint64_t size) {
  return Inside(addr, len, reinterpret_cast<uint64_t>(base), size);
}

// Whether one of the `count` buffers that the iovec array at `array` names holds the range.
bool BuffersContain(uint64_t array, uint64_t count, uint64_t addr, uint64_t len) {
  constexpr uint64_t kChunk = 16;
  iovec chunk[kChunk];
  if (count > kMaxIovecs) return false;
  for (uint64_t done = 0; done < count;) {
    const uint64_t n = std::min(kChunk, count - done);
    if (!ReadUserMemory(chunk, array + done * sizeof(iovec), n * sizeof(iovec))) return false;
    for (uint64_t i = 0; i < n; ++i) {
      if (Inside(addr, len, chunk[i].iov_base, chunk[i].iov_len)) return true;
    }
    done += n;
  }
  return false;
}

// Whether the range is one that the call reads or, if `receives`, writes behind `message`.
bool MessageNames(const msghdr& message, bool receives, uint64_t addr, uint64_t len,
                  Access access) {
  const bool read = access == Access::kRead;
  if (message.msg_iovlen > kMaxIovecs) return false;
  if (read && Inside(addr, len, message.msg_iov, message.msg_iovlen * sizeof(iovec))) return true;
  if (read == receives) return false;
  return Inside(addr, len, message.msg_name, message.msg_namelen) ||
         Inside(addr, len, message.msg_control, message.msg_controllen) ||
         BuffersContain(reinterpret_cast<uint64_t>(message.msg_iov), message.msg_iovlen, addr, len);
}

}  // namespace

void CallMemory::Capture() {
  captured_ = true;
  for (size_t i = 0; i < row_->nargs; ++i) {
    switch (row_->args[i].kind) {
      case ArgKind::kOutSize:
        if (!ReadUserMemory(&sizes_[i], call_.args[i], sizeof sizes_[i])) sizes_[i] = 0;
        break;
      case ArgKind::kInMsg:
      case ArgKind::kOutMsg:
        message_addr_ = call_.args[i];
        message_readable_ = ReadUserMemory(&message_, message_addr_, sizeof message_);
        break;
      case ArgKind::kIoctl:
        CaptureInterfaceList(call_.args[row_->args[i].n], call_.args[i]);
        break;
      default:
        break;
    }
  }
}

void CallMemory::CaptureInterfaceList(uint64_t request, uint64_t header) {
  ifconf list;
  if (request != SIOCGIFCONF || !ReadUserMemory(&list, header, sizeof list)) return;
  list_addr_ = reinterpret_cast<uint64_t>(list.ifc_buf);
  list_size_ = list.ifc_len > 0 ? static_cast<uint64_t>(list.ifc_len) : 0;
}

// The header is read, of which only the length is written, and what it names is written.
bool CallMemory::InterfaceListContains(uint64_t header, uint64_t addr, uint64_t len,
                                       bool read) const {
  if (read) return Inside(addr, len, header, sizeof(ifconf));
  return Inside(addr, len, header, sizeof(ifconf::ifc_len)) ||
         Inside(addr, len, list_addr_, list_size_);
}

bool CallMemory::Contains(uint64_t addr, uint64_t len, Access access) {
  if (row_ == nullptr) return false;
  if (!captured_) Capture();
  for (size_t i = 0; i < row_->nargs; ++i) {
    if (ArgContains(i, addr, len, access)) return true;
  }
  return false;
}

bool CallMemory::ArgContains(size_t arg, uint64_t addr, uint64_t len, Access access) {
  const ArgSpec spec = row_->args[arg];
  const uint64_t value = call_.args[arg];
  const bool read = access == Access::kRead;
  switch (spec.kind) {
    case ArgKind::kInt:
    case ArgKind::kFd:
    case ArgKind::kSize:
      return false;
    case ArgKind::kIn:
      return read && Inside(addr, len, value, call_.args[spec.n]);
    case ArgKind::kOut:
      return !read && Inside(addr, len, value, call_.args[spec.n]);
    case ArgKind::kInFixed:
      return read && Inside(addr, len, value, spec.n);
    case ArgKind::kOutFixed:
      return !read && Inside(addr, len, value, spec.n);
    case ArgKind::kInOutFixed:
      return Inside(addr, len, value, spec.n);
    case ArgKind::kOutArray:
    case ArgKind::kInOutArray: {
      const uint64_t count = call_.args[spec.n];
      if (count > kMaxElements || (read && spec.kind == ArgKind::kOutArray)) return false;
      return Inside(addr, len, value, count * spec.size);
    }
    case ArgKind::kFdSet:
      return Inside(addr, len, value, FdSetSize(call_.args[spec.n]));
    case ArgKind::kIoctl:
      if (call_.args[spec.n] == SIOCGIFCONF) return InterfaceListContains(value, addr, len, read);
      return Inside(addr, len, value, IoctlSize(call_.args[spec.n]));
    case ArgKind::kInStr:
      return read && Inside(addr, len, value, UserStringSize(value, kMaxCopy));
    case ArgKind::kOutSize:
      return Inside(addr, len, value, sizeof(socklen_t));
    case ArgKind::kOutBySize:
      return !read && Inside(addr, len, value, sizes_[spec.n]);
    case ArgKind::kInIov:
    case ArgKind::kOutIov: {
      const uint64_t count = call_.args[spec.n];
      if (count > kMaxIovecs) return false;
      if (read && Inside(addr, len, value, count * sizeof(iovec))) return true;
      return read == (spec.kind == ArgKind::kInIov) && BuffersContain(value, count, addr, len);
    }
    case ArgKind::kInMsg:
      return MessageContains(value, false, addr, len, access);
    case ArgKind::kOutMsg:
      return MessageContains(value, true, addr, len, access);
    case ArgKind::kInMsgs:
    case ArgKind::kOutMsgs:
      return MessagesContain(value, call_.args[spec.n], spec.kind == ArgKind::kOutMsgs, addr, len,
                             access);
  }
  return false;
}

bool CallMemory::MessageContains(uint64_t header, bool receives, uint64_t addr, uint64_t len,
                                 Access access) {
  if (!message_readable_) return false;
  const bool read = access == Access::kRead;
  if (Inside(addr, len, header, sizeof(msghdr)) && (read || receives)) {
    message_written_ |= !read;
    return true;
  }
  return MessageNames(message_, receives, addr, len, access);
}

bool CallMemory::MessagesContain(uint64_t array, uint64_t count, bool receives, uint64_t addr,
                                 uint64_t len, Access access) {
  if (count > kMaxIovecs) return false;
  if (Inside(addr, len, array, count * sizeof(mmsghdr))) {
    if (access == Access::kRead) return true;
    const uint64_t index = (addr - array) / sizeof(mmsghdr);
    const uint64_t offset = (addr - array) % sizeof(mmsghdr);
    constexpr uint64_t kNameLen = offsetof(msghdr, msg_namelen);
    constexpr uint64_t kLengths = offsetof(msghdr, msg_controllen);
    constexpr uint64_t kMsgLen = offsetof(mmsghdr, msg_len);
    const bool allowed =
        receives ? Inside(offset, len, kNameLen, sizeof(socklen_t)) ||
                       Inside(offset, len, kLengths, kMsgLen + sizeof(unsigned) - kLengths)
                 : Inside(offset, len, kMsgLen, sizeof(unsigned));
    if (!allowed || index + 1 < messages_done_) return false;
    messages_done_ = index + 1;
    return true;
  }
  for (uint64_t i = messages_done_; i < count; ++i) {
    msghdr message;
    if (!ReadUserMemory(&message, array + i * sizeof(mmsghdr), sizeof message)) return false;
    if (MessageNames(message, receives, addr, len, access)) return true;
  }
  return false;
}

// Ranges for a request, as long as there is room: whole ones, since the server asks for what is
// missing by copies that are whole.
class CallMemory::ReadList {
 public:
  explicit ReadList(std::span<CopyPayload> ranges) : ranges_(ranges) {}

  size_t count() const { return count_; }
  bool full() const { return count_ == ranges_.size(); }

  void Add(uint64_t addr, uint64_t len) {
    if (full() || addr == 0 || len == 0 || len > room_ || len > UINT64_MAX - addr) return;
    ranges_[count_++] = {len, addr};
    room_ -= len;
  }
  void Add(const void* addr, uint64_t len) { Add(reinterpret_cast<uint64_t>(addr), len); }

  // An array of iovecs, and the buffers that it names if the call reads them.
  void AddBuffers(uint64_t array, uint64_t count, bool named) {
    if (count > kMaxIovecs) return;
    Add(array, count * sizeof(iovec));
    iovec buffers[kMaxBlocks];
    count = std::min<uint64_t>(count, kMaxBlocks);
    if (!named || count == 0 || full()) return;
    if (!ReadUserMemory(buffers, array, count * sizeof(iovec))) return;
    for (uint64_t i = 0; i < count; ++i) Add(buffers[i].iov_base, buffers[i].iov_len);
  }

  // What a message names.
  void AddNamed(const msghdr& message, bool receives) {
    if (!receives) {
      Add(message.msg_name, message.msg_namelen);
      Add(message.msg_control, message.msg_controllen);
    }
    AddBuffers(reinterpret_cast<uint64_t>(message.msg_iov), message.msg_iovlen, !receives);
  }

 private:
  const std::span<CopyPayload> ranges_;
  size_t count_ = 0;
  uint64_t room_ = kMaxBlockBytes;
};

bool CallMemory::any() const {
  if (row_ == nullptr) return false;
  return std::any_of(row_->args, row_->args + row_->nargs,
                     [](const ArgSpec& arg) { return arg.kind > ArgKind::kSize; });
}

size_t CallMemory::ListReads(std::span<CopyPayload> ranges) {
  ReadList list(ranges);
  for (size_t i = 0; i < row_->nargs; ++i) {
    const ArgSpec spec = row_->args[i];
    const uint64_t value = call_.args[i];
    const uint64_t n = spec.n < kMaxArgs ? call_.args[spec.n] : 0;
    switch (spec.kind) {
      case ArgKind::kIn:
        list.Add(value, n);
        break;
      case ArgKind::kInFixed:
      case ArgKind::kInOutFixed:
        list.Add(value, spec.n);
        break;
      case ArgKind::kInOutArray:
        if (n <= kMaxElements) list.Add(value, n * spec.size);
        break;
      case ArgKind::kFdSet:
        list.Add(value, FdSetSize(n));
        break;
      case ArgKind::kIoctl:
        list.Add(value, IoctlSize(n));
        break;
      case ArgKind::kOutSize:
        list.Add(value, sizeof(socklen_t));
        break;
      case ArgKind::kInIov:
      case ArgKind::kOutIov:
        list.AddBuffers(value, n, spec.kind == ArgKind::kInIov);
        break;
      case ArgKind::kInMsg:
      case ArgKind::kOutMsg:
        if (!captured_) Capture();
        list.Add(value, sizeof(msghdr));
        if (message_readable_) list.AddNamed(message_, spec.kind == ArgKind::kOutMsg);
        break;
      case ArgKind::kInMsgs:
      case ArgKind::kOutMsgs:
        if (n > kMaxIovecs) break;
        list.Add(value, n * sizeof(mmsghdr));
        for (uint64_t m = 0; m < n && !list.full(); ++m) {
          msghdr message;
          if (!ReadUserMemory(&message, value + m * sizeof(mmsghdr), sizeof message)) break;
          list.AddNamed(message, spec.kind == ArgKind::kOutMsgs);
        }
        break;
      case ArgKind::kInt:
      case ArgKind::kFd:
      case ArgKind::kSize:
      case ArgKind::kOut:
      case ArgKind::kOutFixed:
      case ArgKind::kOutArray:
      case ArgKind::kOutBySize:
      case ArgKind::kInStr:
        break;
    }
  }
  return list.count();
}

void CallMemory::RestoreMessagePointers() {
  if (!message_written_) return;
  msghdr now;
  if (!ReadUserMemory(&now, message_addr_, sizeof now)) return;
  now.msg_name = message_.msg_name;
  now.msg_iov = message_.msg_iov;
  now.msg_iovlen = message_.msg_iovlen;
  now.msg_control = message_.msg_control;
  WriteUserMemory(message_addr_, &now, sizeof now);
}

}  // namespace rump::client
