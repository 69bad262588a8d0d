#include "tests/sp_server/raw_client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "sp_server/loop/pass_fds.h"

namespace rump {
namespace {
// A server that has not answered by then never will.
constexpr int kTimeoutMs = 20'000;
}  // namespace

RawClient::RawClient(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return;
  fd_ = std::move(fd);
  char c;
  while (ReadExactly(&c, 1)) {
    banner_ += c;
    if (c == '\n') return;
  }
  fd_.reset();
}

bool RawClient::ReadExactly(void* data, size_t size) {
  char* out = static_cast<char*>(data);
  while (size > 0) {
    pollfd p{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    if (poll(&p, 1, kTimeoutMs) != 1) return false;
    iovec iov{out, size};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr msg{};
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control;
    msg.msg_controllen = sizeof control;
    const ssize_t n = recvmsg(fd_.get(), &msg, MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    if (const cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr && c->cmsg_type == SCM_RIGHTS) {
      int fd;
      memcpy(&fd, CMSG_DATA(c), sizeof fd);
      received_.reset(fd);
    }
    out += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

void RawClient::SendBytes(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the server has closed: what it sent last is still to be read
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void RawClient::Send(FrameHeader header, std::string_view payload, int fd) {
  header.len = kHeaderSize + payload.size();
  std::string frame(kHeaderSize, '\0');
  EncodeHeader(header, reinterpret_cast<std::byte*>(frame.data()));
  frame += payload;
  if (fd < 0) return SendBytes(frame);
  (void)!SendWithFds(fd_.get(), std::as_bytes(std::span(frame)), std::span(&fd, 1), MSG_NOSIGNAL);
}

std::optional<RawFrame> RawClient::Receive() {
  RawFrame frame;
  if (!ReadExactly(&frame.header, kHeaderSize)) return std::nullopt;
  if (frame.header.len < kHeaderSize || frame.header.len > kMaxFrame) return std::nullopt;
  frame.payload.resize(frame.header.len - kHeaderSize);
  if (!ReadExactly(frame.payload.data(), frame.payload.size())) return std::nullopt;
  return frame;
}

bool RawClient::Guest(std::string_view command) {
  Send({.reqno = next_reqno_++, .u = static_cast<uint32_t>(HandshakeKind::kGuest)},
       std::string(command) + '\0');
  const std::optional<RawFrame> answer = Receive();
  return answer && answer->header.cls == FrameClass::kResponse &&
         answer->payload == std::string(4, '\0');
}

uint64_t RawClient::SendCall(uint32_t number, std::initializer_list<uint64_t> args, int fd) {
  std::string payload;
  for (const uint64_t arg : args) {
    payload.append(reinterpret_cast<const char*>(&arg), sizeof arg);
  }
  const uint64_t reqno = next_reqno_++;
  FrameHeader header{.reqno = reqno, .type = FrameType::kSyscall, .u = number};
  if (carried_ != nullptr) {
    header.type = FrameType::kInline;
    payload += CarriedBlocks(args);
  }
  Send(header, payload, fd);
  return reqno;
}

std::string RawClient::CarriedBlocks(std::initializer_list<uint64_t> args) const {
  constexpr size_t kBlock = 4096;
  std::string blocks;
  InlineTrailer trailer{.slots = static_cast<uint32_t>(args.size())};
  for (const uint64_t addr : args) {
    if (addr >= carried_->size()) continue;
    const std::string_view bytes = std::string_view(*carried_).substr(addr, kBlock);
    blocks += Block(addr, bytes);
    ++trailer.blocks;
  }
  return blocks + std::string(reinterpret_cast<const char*>(&trailer), sizeof trailer);
}

std::string Block(uint64_t addr, std::string_view bytes) {
  const CopyPayload range{bytes.size(), addr};
  return std::string(reinterpret_cast<const char*>(&range), sizeof range).append(bytes);
}

void RawClient::TakeBlocks(std::string_view blocks, std::string* memory) {
  auto rest = std::as_bytes(std::span(blocks));
  CopyPayload range;
  std::span<const std::byte> bytes;
  while (TakeBlock(&rest, &range, &bytes)) {
    memory->resize(std::max<size_t>(memory->size(), range.addr + range.len));
    memcpy(memory->data() + range.addr, bytes.data(), bytes.size());
  }
}

SyscallResultPayload RawClient::CallResult(uint32_t number, std::initializer_list<uint64_t> args) {
  std::string memory;
  return Finish(SendCall(number, args), &memory);
}

SyscallResultPayload RawClient::Finish(uint64_t reqno, std::string* memory) {
  while (!finished_.contains(reqno)) {
    const std::optional<RawFrame> frame = Receive();
    if (!frame) return {.error = -1};
    const FrameHeader& header = frame->header;
    if (header.cls == FrameClass::kResponse &&
        (header.type == FrameType::kSyscall || header.type == FrameType::kInline)) {
      SyscallResultPayload result;
      memcpy(&result, frame->payload.data(), std::min(sizeof result, frame->payload.size()));
      finished_[header.reqno] = result;
      TakeBlocks(std::string_view(frame->payload).substr(sizeof result), memory);
    }
    if (header.cls != FrameClass::kRequest) continue;
    if (header.type == FrameType::kRaise) raised_.push_back(static_cast<int>(header.u));
    CopyPayload range;
    if (frame->payload.size() < sizeof range) continue;
    memcpy(&range, frame->payload.data(), sizeof range);
    if (header.type == FrameType::kCopyIn) {
      const bool inside = range.addr <= memory->size() && range.len <= memory->size() - range.addr;
      Send({.reqno = header.reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn},
           inside ? std::string_view(*memory).substr(range.addr, range.len) : "");
    } else if (header.type == FrameType::kCopyOut) {
      TakeBlocks(frame->payload, memory);
    }
  }
  return finished_.extract(reqno).mapped();
}

}  // namespace rump
