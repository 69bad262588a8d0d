#include "tests/rumpclient/fake_server.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "gtest/gtest.h"

namespace rump::client {
namespace {

template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

uint64_t ReceivedFrame::arg(size_t i) const {
  uint64_t value = 0;
  if (payload.size() >= (i + 1) * sizeof value) {
    memcpy(&value, payload.data() + i * sizeof value, sizeof value);
  } else {
    ADD_FAILURE() << "call " << header.u << " has no argument " << i;
  }
  return value;
}

std::string FakePeer::Read(size_t n, int* fd) {
  std::string bytes(n, '\0');
  size_t got = 0;
  while (got < n) {
    iovec part = {bytes.data() + got, n - got};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t r = recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
    if (r <= 0) break;
    if (const cmsghdr* rights = CMSG_FIRSTHDR(&message); rights != nullptr && fd != nullptr) {
      memcpy(fd, CMSG_DATA(rights), sizeof *fd);
    }
    got += static_cast<size_t>(r);
  }
  bytes.resize(got);
  return bytes;
}

ReceivedFrame FakePeer::ReadFrame() {
  ReceivedFrame frame;
  const std::string head = Read(kHeaderSize, &frame.fd);
  if (head.empty()) return frame;
  if (head.size() < kHeaderSize) {
    ADD_FAILURE() << "the client closed in a header";
    return frame;
  }
  memcpy(&frame.header, head.data(), kHeaderSize);
  frame.payload = Read(frame.header.len - kHeaderSize);
  EXPECT_EQ(frame.header.len - kHeaderSize, frame.payload.size()) << "closed in a payload";
  return frame;
}

ReceivedFrame FakePeer::ExpectRequest(FrameType type) {
  ReceivedFrame frame = ReadFrame();
  EXPECT_NE(0u, frame.header.len) << "the client closed the connection";
  EXPECT_EQ(FrameClass::kRequest, frame.header.cls);
  EXPECT_EQ(type, frame.header.type);
  return frame;
}

ReceivedFrame FakePeer::ExpectResponse(FrameType type) {
  ReceivedFrame frame = ReadFrame();
  EXPECT_NE(0u, frame.header.len) << "the client closed the connection";
  EXPECT_EQ(FrameClass::kResponse, frame.header.cls);
  EXPECT_EQ(type, frame.header.type);
  return frame;
}

void FakePeer::ExpectEnd() { EXPECT_EQ("", Read(1)); }

bool FakePeer::Send(std::string_view bytes, int fd) {
  while (!bytes.empty()) {
    iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (fd >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof fd);
      memcpy(CMSG_DATA(rights), &fd, sizeof fd);
      fd = -1;
    }
    const ssize_t n = sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void FakePeer::Drain() {
  int unread = 0;
  while (ioctl(fd_, SIOCOUTQ, &unread) == 0 && unread > 0) sched_yield();
}

void FakePeer::Close() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void FakePeer::Welcome(std::string_view banner) {
  Send(banner);
  const ReceivedFrame guest = ExpectRequest(FrameType::kHandshake);
  EXPECT_EQ(static_cast<uint32_t>(HandshakeKind::kGuest), guest.header.u);
  Send(HandshakeAnswer(guest.header.reqno, 0));
}

void FakePeer::GrantPrefork() {
  const ReceivedFrame prefork = ExpectRequest(FrameType::kPrefork);
  Send(Frame(FrameClass::kResponse, FrameType::kPrefork, prefork.header.reqno, 0,
             std::string(sizeof(PreforkCookie), 'c')));
}

void FakePeer::Answer(const ReceivedFrame& call, uint64_t retval, int fd) {
  Send(SyscallAnswer(call.header.reqno, 0, retval, fd >= 0 ? kBringsFd : 0), fd);
}

void FakePeer::Fail(const ReceivedFrame& call, int error) {
  Send(SyscallAnswer(call.header.reqno, error, 0));
}

std::string FakePeer::CopyIn(uint64_t addr, uint64_t len) {
  const CopyPayload range = {len, addr};
  Send(Frame(FrameClass::kRequest, FrameType::kCopyIn, next_reqno_++, 0, BytesOf(range)));
  return ExpectResponse(FrameType::kCopyIn).payload;
}

std::string FakePeer::CopyInStr(uint64_t addr, uint64_t max) {
  const CopyPayload range = {max, addr};
  Send(Frame(FrameClass::kRequest, FrameType::kCopyInStr, next_reqno_++, 0, BytesOf(range)));
  return ExpectResponse(FrameType::kCopyIn).payload;
}

void FakePeer::CopyOut(uint64_t addr, std::string_view data) {
  Send(CopyOutFrame(next_reqno_++, addr, data));
}

std::string Frame(FrameClass cls, FrameType type, uint64_t reqno, uint32_t u,
                  std::string_view payload) {
  const FrameHeader header = {
      .len = kHeaderSize + payload.size(), .reqno = reqno, .cls = cls, .type = type, .u = u};
  return std::string(BytesOf(header)).append(payload);
}

std::string HandshakeAnswer(uint64_t reqno, int32_t error) {
  return Frame(FrameClass::kResponse, FrameType::kHandshake, reqno, 0, BytesOf(error));
}

std::string SyscallAnswer(uint64_t reqno, int32_t error, uint64_t retval, uint32_t u) {
  const SyscallResultPayload result = {.error = error, .retval = {retval, 0}};
  return Frame(FrameClass::kResponse, FrameType::kSyscall, reqno, u, BytesOf(result));
}

std::string CopyOutFrame(uint64_t reqno, uint64_t addr, std::string_view data) {
  const CopyPayload range = {data.size(), addr};
  return Frame(FrameClass::kRequest, FrameType::kCopyOut, reqno, 0,
               std::string(BytesOf(range)).append(data));
}

FakeServer::FakeServer(std::function<void(FakePeer*)> script, int connections,
                       Transport transport) {
  if (transport == Transport::kUnix) {
    char directory[] = "/tmp/rhXXXXXX";
    if (mkdtemp(directory) == nullptr) ADD_FAILURE() << "mkdtemp: " << strerror(errno);
    directory_ = directory;
    EXPECT_EQ(UrlError::kNone, ParseUrl("unix://" + directory_ + "/s", "", &endpoint_));
  } else {
    endpoint_.in = {};
    endpoint_.in.sin_family = AF_INET;
    endpoint_.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    endpoint_.len = sizeof endpoint_.in;
  }
  listener_ = socket(endpoint_.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(0, bind(listener_, &endpoint_.any, endpoint_.len)) << strerror(errno);
  EXPECT_EQ(0, listen(listener_, SOMAXCONN));
  if (transport == Transport::kTcp) {
    EXPECT_EQ(0, getsockname(listener_, &endpoint_.any, &endpoint_.len));
  }
  thread_ = std::thread([this, connections, script = std::move(script)] {
    for (int i = 0; i < connections; ++i) {
      FakePeer peer(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
      script(&peer);
    }
  });
}

FakeServer::~FakeServer() {
  thread_.join();
  close(listener_);
  if (directory_.empty()) return;
  unlink(endpoint_.un.sun_path);
  rmdir(directory_.c_str());
}

std::string FakeServer::url() const {
  char text[128];
  EXPECT_NE(0u, FormatUrl(endpoint_, text, sizeof text));
  return text;
}

}  // namespace rump::client
