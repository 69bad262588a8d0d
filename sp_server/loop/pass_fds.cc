#include "sp_server/loop/pass_fds.h"

#include <string.h>
namespace rump {
namespace {
// unix(7): SCM_MAX_FD.
constexpr size_t kMaxFds = 253;
}  // namespace

ssize_t SendWithFds(int socket, std::span<const std::byte> bytes, std::span<const int> fds,
                    int flags) {
  iovec iov{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)];
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (!fds.empty()) {
    msg.msg_control = control;
    msg.msg_controllen = CMSG_SPACE(fds.size_bytes());
    memset(control, 0, msg.msg_controllen);
    cmsghdr* const rights = CMSG_FIRSTHDR(&msg);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  return sendmsg(socket, &msg, flags);
}

ssize_t ReceiveWithFds(int socket, std::span<std::byte> buffer, std::vector<UniqueFd>* fds,
                       ucred* sender) {
  iovec iov{buffer.data(), buffer.size()};
  return ReceiveWithFds(socket, std::span(&iov, 1), fds, sender);
}

ssize_t ReceiveWithFds(int socket, std::span<iovec> iov, std::vector<UniqueFd>* fds,
                       ucred* sender) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds) + CMSG_SPACE(sizeof(ucred))];
  msghdr msg{};
  msg.msg_iov = iov.data();
  msg.msg_iovlen = iov.size();
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return n;
  for (cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr; c = CMSG_NXTHDR(&msg, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_CREDENTIALS && sender != nullptr) {
      memcpy(sender, CMSG_DATA(c), sizeof *sender);
    }
    if (c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      fds->emplace_back(fd);
    }
  }
  return n;
}

}  // namespace rump
