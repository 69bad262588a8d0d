#include "rumpclient/core/outgoing_frame.h"

#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "rumpclient/core/raw_syscall.h"

namespace rump::client {
namespace {

constexpr char kZeros[256] = {};

}  // namespace

OutgoingFrame::OutgoingFrame(const FrameHeader& header, const void* payload, size_t payload_size)
    : head_size_(kHeaderSize + payload_size) {
  AddOwn(&header, kHeaderSize);
  if (payload_size > 0) AddOwn(payload, payload_size);
  SetLength(own_size_);
}

FrameHeader OutgoingFrame::header() const {
  FrameHeader header;
  memcpy(&header, own_, sizeof header);
  return header;
}

void OutgoingFrame::SetLength(uint64_t len) {
  memcpy(own_ + offsetof(FrameHeader, len), &len, sizeof len);
}

void OutgoingFrame::AddPart(void* base, size_t size, bool own) {
  if (own) own_parts_ |= uint64_t{1} << count_;
  parts_[count_++] = {base, size};
}

void OutgoingFrame::AddOwn(const void* bytes, size_t size) {
  char* const to = own_ + own_size_;
  memcpy(to, bytes, size);
  own_size_ += size;
  if (count_ > 0 && (own_parts_ >> (count_ - 1) & 1) != 0) {
    parts_[count_ - 1].iov_len += size;
  } else {
    AddPart(to, size, /*own=*/true);
  }
}

void OutgoingFrame::AddMemory(uint64_t addr, size_t len) {
  if (len == 0) return;
  AddPart(reinterpret_cast<void*>(addr), len, /*own=*/false);
  SetLength(header().len + len);
}

void OutgoingFrame::AddBlock(const CopyPayload& range) {
  AddOwn(&range, sizeof range);
  SetLength(header().len + sizeof range);
  AddMemory(range.addr, range.len);
  ++blocks_;
}

void OutgoingFrame::AddTrailer() {
  const InlineTrailer trailer = {
      static_cast<uint32_t>((head_size_ - kHeaderSize) / sizeof(uint64_t)), blocks_};
  AddOwn(&trailer, sizeof trailer);
  SetLength(header().len + sizeof trailer);
  has_trailer_ = true;
}

void OutgoingFrame::LeaveMemoryOut() {
  blocks_ = 0;
  if (begun()) {
    zeros_ = true;
    if (has_trailer_) {
      memcpy(own_ + own_size_ - sizeof(InlineTrailer) + offsetof(InlineTrailer, blocks), &blocks_,
             sizeof blocks_);
    }
    return;
  }
  own_size_ = head_size_;
  count_ = 0;
  own_parts_ = 0;
  AddPart(own_, own_size_, /*own=*/true);
  SetLength(own_size_);
  if (has_trailer_) AddTrailer();
}

long OutgoingFrame::SendSome(int socket, int fd) {
  long n;
  if (count_ == 1 && fd < 0) {
    // As most are, which makes it cheaper.
    n = RawSyscall(SYS_sendto, socket, parts_[0].iov_base, parts_[0].iov_len, MSG_NOSIGNAL, nullptr,
                   0);
  } else {
    iovec zeros = {const_cast<char*>(kZeros), sizeof kZeros};
    msghdr message = {};
    message.msg_iov = parts_ + first_;
    message.msg_iovlen = count_ - first_;
    if (zeros_) {
      const bool own = (own_parts_ >> first_ & 1) != 0;
      zeros.iov_len = std::min(parts_[first_].iov_len, sizeof kZeros);
      if (!own) message.msg_iov = &zeros;
      message.msg_iovlen = 1;
    }
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    if (fd >= 0) {
      memset(control, 0, sizeof control);
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int));
      memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    n = RawSyscall(SYS_sendmsg, socket, &message, MSG_NOSIGNAL);
  }
  if (n > 0) PassSent(static_cast<size_t>(n));
  return n;
}

void OutgoingFrame::PassSent(size_t bytes) {
  sent_ += bytes;
  while (bytes > 0) {
    iovec& part = parts_[first_];
    const size_t passed = std::min(bytes, part.iov_len);
    part.iov_base = static_cast<char*>(part.iov_base) + passed;
    part.iov_len -= passed;
    bytes -= passed;
    if (part.iov_len == 0) ++first_;
  }
}

}  // namespace rump::client
