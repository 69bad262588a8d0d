// Two clients of one server, in all the ways that they can misbehave. The input is a program: each
// step sends something on one of the connections. At the end both hang up, and nothing of them may
// be left.
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "protocol/frame.h"
#include "protocol/syscalls.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"
#include "sp_server/net/inet_family.h"
#include "sp_server/net/net_stack.h"
#include "sp_server/server/server.h"

namespace rump {
namespace {

constexpr auto kNow = EventLoop::Clock::duration::zero();
constexpr size_t kCallsInFlight = 32;
// More than a client may send with one frame.
constexpr size_t kMaxAttached = 24;

// Takes the input apart; zeros behind its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : bytes_(data, size) {}
  bool empty() const { return bytes_.empty(); }
  uint8_t Byte() {
    if (bytes_.empty()) return 0;
    const uint8_t byte = bytes_[0];
    bytes_ = bytes_.subspan(1);
    return byte;
  }
  uint16_t Number() {
    const uint8_t low = Byte();
    return static_cast<uint16_t>(low | Byte() << 8);
  }
  std::string Bytes(size_t count) {
    const auto taken = bytes_.first(std::min(count, bytes_.size()));
    bytes_ = bytes_.subspan(taken.size());
    return {taken.begin(), taken.end()};
  }

 private:
  std::span<const uint8_t> bytes_;
};

// What all inputs share: there is one TCP/IP stack in a process.
struct Host {
  Host() : kernel(&loop, [this] { stack.Drain(64); }), server(&loop, &kernel, Options()) {
    loop.AddPoller(&stack);
    RegisterInet(&kernel.families(), &stack, kernel.datagram_memory());
  }
  static ServerOptions Options() {
    ServerOptions options;
    options.limits.calls_in_flight = kCallsInFlight;
    options.limits.output_bytes = 4 << 20;
    options.max_preforks = 8;
    return options;
  }
  void Run(int turns) {
    for (int i = 0; i < turns; ++i) loop.RunOnce(kNow);
  }
  EventLoop loop;
  NetStack& stack = NetStack::Get();
  BuiltinKernel kernel;
  Server server;
};

class Client {
 public:
  explicit Client(Host* host) : host_(host) { Connect(); }

  void Connect() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) abort();
    fd_.reset(ends[0]);
    received_.clear();
    copyins_.clear();
    in_banner_ = true;
    host_->server.AddClient(UniqueFd(ends[1]), {"fuzz", /*trusted=*/true});
  }

  // What has been attached goes along.
  void SendBytes(const std::string& bytes) {
    iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxAttached * sizeof(int))];
    msghdr msg{};
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    if (!attached_.empty()) {
      msg.msg_control = control;
      msg.msg_controllen = CMSG_SPACE(attached_.size() * sizeof(int));
      cmsghdr* const rights = CMSG_FIRSTHDR(&msg);
      rights->cmsg_len = CMSG_LEN(attached_.size() * sizeof(int));
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      for (size_t i = 0; i < attached_.size(); ++i) {
        const int fd = attached_[i].get();
        memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
      }
    }
    (void)!sendmsg(fd_.get(), &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    attached_.clear();
  }

  // Keeps descriptors for the next bytes: ends C, or what the server has never seen.
  void Attach(Input* input) {
    const uint8_t byte = input->Byte();
    for (int i = byte % kMaxAttached; i >= 0 && attached_.size() < kMaxAttached; --i) {
      const bool ours = byte < 128 && !sockets_.empty();
      attached_.emplace_back(ours ? dup(sockets_.back().get()) : eventfd(0, EFD_CLOEXEC));
    }
  }

  void Send(FrameHeader header, const std::string& payload = {}) {
    header.len = kHeaderSize + payload.size();
    std::string frame(kHeaderSize, '\0');
    EncodeHeader(header, reinterpret_cast<std::byte*>(frame.data()));
    SendBytes(frame + payload);
  }

  void Guest() { Send({.reqno = 1}, std::string("fuzz\0", 5)); }
  void Exec() {
    Send({.reqno = 2, .u = static_cast<uint32_t>(HandshakeKind::kExec)}, std::string("x\0", 2));
  }
  void Prefork() { Send({.reqno = 3, .type = FrameType::kPrefork}); }
  void Fork(bool cancel) {
    const ForkPayload fork{cookie, cancel ? 1 : 0};
    Send({.reqno = 4, .u = static_cast<uint32_t>(HandshakeKind::kFork)},
         {reinterpret_cast<const char*>(&fork), sizeof fork});
  }

  void SystemCall(Input* input) {
    const SyscallSpec& spec = Row(input->Number());
    Send({.reqno = ++call_, .type = FrameType::kSyscall, .u = spec.number}, Slots(spec, input));
  }
  // The same with memory: blocks that are as they should be, and such that are not.
  void InlineCall(Input* input) {
    const SyscallSpec& spec = Row(input->Number());
    std::string payload = Slots(spec, input);
    InlineTrailer trailer{.slots = spec.nargs,
                          .blocks = static_cast<uint32_t>(input->Byte() % (kMaxBlocks + 2))};
    for (uint32_t i = 0; i < trailer.blocks; ++i) {
      CopyPayload range{.len = 0, .addr = Argument(input)};
      const std::string bytes = input->Bytes(input->Byte() % 64);
      range.len = input->Byte() % 16 != 0 ? bytes.size() : Argument(input);
      payload.append(reinterpret_cast<const char*>(&range), sizeof range).append(bytes);
    }
    const uint8_t lie = input->Byte();
    if (lie % 16 == 1) trailer.slots = lie;
    if (lie % 16 == 2) trailer.blocks = lie >> 4;
    payload.append(reinterpret_cast<const char*>(&trailer), sizeof trailer);
    Send({.reqno = ++call_, .type = FrameType::kInline, .u = spec.number}, payload);
  }
  // One of the last calls.
  void Cancel(Input* input) {
    const uint64_t reqno = call_ - input->Byte() % kCallsInFlight;
    Send({.reqno = 5, .type = FrameType::kCancel},
         {reinterpret_cast<const char*>(&reqno), sizeof reqno});
  }

  // Answers the oldest COPYIN: as asked, or with what the input has.
  void AnswerCopyIn(Input* input) {
    if (copyins_.empty()) return;
    const auto [reqno, len] = copyins_.front();
    copyins_.erase(copyins_.begin());
    std::string data = input->Bytes(input->Byte() % 64);
    if (input->Byte() % 8 != 0) data.resize(len);
    Send({.reqno = reqno, .cls = FrameClass::kResponse, .type = FrameType::kCopyIn}, data);
  }

  // Reads all that the server has sent, and what of it later steps can use.
  void Receive() {
    for (;;) {
      std::array<char, 65536> buffer;
      iovec iov{buffer.data(), buffer.size()};
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
      msghdr msg{};
      msg.msg_iov = &iov;
      msg.msg_iovlen = 1;
      msg.msg_control = control;
      msg.msg_controllen = sizeof control;
      const ssize_t n = recvmsg(fd_.get(), &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
      if (n <= 0) break;
      received_.append(buffer.data(), static_cast<size_t>(n));
      if (const cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr && c->cmsg_type == SCM_RIGHTS) {
        int fd;
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
        sockets_.emplace_back(fd);
      }
    }
    if (in_banner_) {
      const size_t end = received_.find('\n');
      if (end == std::string::npos) return;
      received_.erase(0, end + 1);
      in_banner_ = false;
    }
    FrameHeader header;
    while (received_.size() >= kHeaderSize) {
      memcpy(&header, received_.data(), kHeaderSize);
      // What the server sends is well-formed, whatever it was sent.
      if (header.len < kHeaderSize || header.len > kMaxFrame) abort();
      if (received_.size() < header.len) return;
      const auto payload =
          std::as_bytes(std::span(received_)).subspan(kHeaderSize, header.len - kHeaderSize);
      Message message;
      if (DecodeMessage(header, payload, &message) != FrameError::kNone) abort();
      if (const auto* copyin = std::get_if<CopyInRequest>(&message)) {
        copyins_.emplace_back(header.reqno, copyin->range.len);
      } else if (const auto* response = std::get_if<SyscallResponse>(&message)) {
        if (response->result.pad != 0) abort();
        if (response->result.retval[0] >= kFirstObjectId) object = response->result.retval[0];
      } else if (const auto* answer = std::get_if<InlineResponse>(&message)) {
        if (answer->result.pad != 0) abort();
        if (answer->result.retval[0] >= kFirstObjectId) object = answer->result.retval[0];
      } else if (const auto* prefork = std::get_if<PreforkResponse>(&message)) {
        cookie = prefork->cookie;
      }
      received_.erase(0, header.len);
    }
  }

  void CloseSocket() {
    if (!sockets_.empty()) sockets_.erase(sockets_.begin());
  }
  void WriteSocket(Input* input) {
    if (sockets_.empty()) return;
    const std::string data = input->Bytes(input->Byte());
    (void)!send(sockets_.back().get(), data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  void ReadSocket() {
    std::array<char, 4096> buffer;
    for (const UniqueFd& socket : sockets_) {
      (void)!recv(socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    }
  }
  void HangUp() {
    fd_.reset();
    attached_.clear();
    sockets_.clear();
  }

  // Known to both clients, as sockets_ are: a right that one has is to be tried by the other.
  static inline PreforkCookie cookie;
  static inline uint64_t object = 0;

 private:
  // The first row at or behind a number: what an input means must not change with rows to come.
  static const SyscallSpec& Row(uint16_t number) {
    constexpr uint16_t kOurs = 0x8000;
    constexpr uint16_t kLinuxNumbers = 512;
    const uint32_t wanted =
        number >= kOurs ? kSysHostSocket + number % 8 : uint32_t{number} % kLinuxNumbers;
    const auto table = AllSyscalls();
    const auto row = std::ranges::lower_bound(table, wanted, {}, &SyscallSpec::number);
    return row == table.end() ? table.front() : *row;
  }

  static std::string Slots(const SyscallSpec& spec, Input* input) {
    std::string slots;
    for (int i = 0; i < spec.nargs; ++i) {
      const uint64_t arg = Argument(input);
      slots.append(reinterpret_cast<const char*>(&arg), sizeof arg);
    }
    return slots;
  }

  static uint64_t Argument(Input* input) {
    const uint8_t byte = input->Byte();
    switch (byte >> 5) {
      case 0:
      case 1:
        return byte & 31;
      case 2:
        return object;
      case 3:
        return uint64_t{1} << (byte & 31);
      case 4:
        return ~uint64_t{0} - (byte & 31);
      case 5:
        return 16;
      default: {
        uint64_t arg = 0;
        const std::string bytes = input->Bytes(byte & 7);
        memcpy(&arg, bytes.data(), bytes.size());
        return arg;
      }
    }
  }

  Host* const host_;
  UniqueFd fd_;
  bool in_banner_ = true;
  std::string received_;
  std::vector<std::pair<uint64_t, uint64_t>> copyins_;
  std::vector<UniqueFd> attached_;
  uint64_t call_ = 100;  // reqno of the last one, none of which another request has
  static inline std::vector<UniqueFd> sockets_;
};

// The kinds from here on are those of before with a call in place of the last one.
constexpr uint8_t kInlineKinds = 64;

void Step(Client* client, Input* input, uint8_t kind) {
  if (kind >= kInlineKinds && kind % 16 == 15) return client->InlineCall(input);
  switch (kind % 16) {
    case 0:
      return client->SendBytes(input->Bytes(input->Byte()));
    case 1:
      return client->Guest();
    case 2:
      return client->Exec();
    case 3:
      return client->Prefork();
    case 4:
      return client->Fork((input->Byte() & 1) != 0);
    case 5:
      return client->Connect();
    case 6:
      return client->CloseSocket();
    case 7:
      return client->WriteSocket(input);
    case 8:
      return client->ReadSocket();
    case 9:
      return client->AnswerCopyIn(input);
    case 10:
      return client->Cancel(input);
    case 11:
      return client->Attach(input);
    default:
      return client->SystemCall(input);
  }
}

}  // namespace
}  // namespace rump

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& host = *new rump::Host;
  rump::Input input(data, size);
  rump::Client::cookie = {};
  rump::Client::object = 0;
  {
    std::array<rump::Client, 2> clients{rump::Client(&host), rump::Client(&host)};
    for (rump::Client& client : clients) client.Guest();
    while (!input.empty()) {
      const uint8_t step = input.Byte();
      rump::Client& client = clients[step & 1];
      rump::Step(&client, &input, step >> 1);
      host.Run(1);
      client.Receive();
    }
    for (rump::Client& client : clients) client.HangUp();
  }
  // Their ends, what these set off, and what that set off: descriptors that they sent are closed by
  // another thread.
  do {
    host.Run(8);
  } while (host.loop.closer().pending() != 0);
  host.Run(8);
  if (host.server.clients() != 0) abort();
  host.kernel.objects().SweepFinished();
  if (host.kernel.objects().count() != 0) abort();
  return 0;
}
