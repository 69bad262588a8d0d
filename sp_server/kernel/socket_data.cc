#include "sp_server/kernel/socket_data.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "protocol/syscalls.h"
#include "sp_server/kernel/address_args.h"
#include "sp_server/kernel/call_memory.h"
#include "sp_server/kernel/kernel.h"
#include "sp_server/kernel/time_args.h"

namespace rump {
namespace {

// Bytes of a stream that are copied in and sent at a time; more than the longest datagram.
constexpr size_t kSendChunk = 128 * 1024;

// What the socket itself need not know: waiting and signals are the calls' business.
constexpr int kCallFlags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC | MSG_WAITALL;

// Layout of Linux's struct msghdr.
struct ClientMsghdr {
  uint64_t name = 0;
  uint32_t name_len = 0;
  uint32_t pad = 0;
  uint64_t iov = 0;
  uint64_t iov_count = 0;
  uint64_t control = 0;
  uint64_t control_len = 0;
  int32_t flags = 0;
  uint32_t pad2 = 0;
};
static_assert(sizeof(ClientMsghdr) == sizeof(msghdr));

// What a receive writes behind the pointers of a struct mmsghdr.
struct MessageTail {
  uint64_t control_len = 0;
  int32_t flags = 0;
  uint32_t pad = 0;
  uint32_t length = 0;
} __attribute__((packed));
static_assert(offsetof(ClientMsghdr, control_len) + sizeof(MessageTail) ==
              offsetof(mmsghdr, msg_len) + sizeof(uint32_t));

// Bytes of the control messages that are sent with one datagram; Linux's net.core.optmem_max.
constexpr uint64_t kMaxControl = 20480;

// Messages of one sendmmsg(2) or recvmmsg(2); Linux ignores those beyond, too.
constexpr uint64_t kMaxMessages = 1024;

Result<FileArg> GetSocket(CallContext& context) {
  Result<FileArg> arg = GetFile(context, context.arg(0));
  if (arg.ok() && arg->file->AsSocket() == nullptr) return Errno(ENOTSOCK);
  return arg;
}

// sendmsg(2) with the header at `addr`.
SyscallTask SendMessage(CallContext& context, const FileArg& arg, uint64_t addr, int flags) {
  ClientMsghdr header;
  Errno error = co_await CopyInObject(context, addr, &header);
  if (!error.ok()) co_return error;
  SocketAddress to;
  if (header.name != 0) {
    error = co_await CopyInAddress(context, header.name, header.name_len, &to);
    if (!error.ok()) co_return error;
  }
  // What it would pass on (descriptors, credentials) must not get lost without a word.
  if (header.control_len != 0 && arg.file->AsSocket()->domain() == AF_UNIX) {
    co_return Errno(EOPNOTSUPP);
  }
  Result<ClientBuffers> buffers =
      co_await ClientBuffers::FromIovecs(context, header.iov, header.iov_count);
  if (!buffers.ok()) co_return buffers.error() == Errno(EINVAL) ? Errno(EMSGSIZE) : buffers.error();
  if (header.control_len > kMaxControl) co_return Errno(ENOBUFS);
  CallMemory memory(context.process());
  if (!memory.Take(header.control_len)) co_return Errno(ENOBUFS);
  std::vector<std::byte> control(header.control_len);
  error = co_await CopyInBytes(context, header.control, control);
  if (!error.ok()) co_return error;
  co_return co_await SendData(context, arg, *std::move(buffers), &to, flags, control);
}

// Copies as much of the control messages out as there is room for, and says in the header how much.
void CopyOutControl(CallContext& context, std::vector<std::byte> control, ClientMsghdr* header) {
  size_t used = 0;
  // What has been used ends within a message, or within the padding behind it, once room runs out.
  for (size_t at = 0; at < control.size();) {
    cmsghdr message;
    memcpy(&message, control.data() + at, sizeof message);
    const size_t room = header->control_len - used;
    if (message.cmsg_len > room) header->flags |= MSG_CTRUNC;
    // As natively: one that does not fit is cut, but not its header.
    if (room < sizeof message) break;
    const size_t space = CMSG_ALIGN(message.cmsg_len);
    message.cmsg_len = std::min(message.cmsg_len, room);
    memcpy(control.data() + at, &message, sizeof message);
    at += space;
    used += std::min(space, room);
  }
  if (used > 0) context.call().CopyOut(header->control, std::span(control).first(used));
  header->control_len = used;
}

// recvmsg(2) with the header at `addr`; `header` is what the caller then copies out.
SyscallTask ReceiveMessage(CallContext& context, const FileArg& arg, uint64_t addr, int flags,
                           ClientMsghdr* header) {
  const Errno error = co_await CopyInObject(context, addr, header);
  if (!error.ok()) co_return error;
  Result<ClientBuffers> buffers =
      co_await ClientBuffers::FromIovecs(context, header->iov, header->iov_count);
  if (!buffers.ok()) co_return buffers.error() == Errno(EINVAL) ? Errno(EMSGSIZE) : buffers.error();
  Received received;
  const Result<uint64_t> n =
      co_await ReceiveData(context, arg, *std::move(buffers), flags, &received);
  if (!n.ok()) co_return n.error();
  const std::span<const std::byte> from = received.from.bytes();
  if (header->name != 0) {
    context.call().CopyOut(header->name,
                           from.first(std::min<size_t>(from.size(), header->name_len)));
    header->name_len = received.from.len;
  }
  header->flags = received.flags;
  CopyOutControl(context, std::move(received.control), header);
  co_return *n;
}

}  // namespace

SyscallTask ReceiveData(CallContext& context, const FileArg& arg, ClientBuffers buffers, int flags,
                        Received* received) {
  Socket& socket = *arg.file->AsSocket();
  const bool stream = socket.type() == SOCK_STREAM;
  // The error queue and the urgent byte are looked at and never waited for.
  const bool may_block = arg.may_block() && (flags & (MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB)) == 0;
  const bool peek = (flags & MSG_PEEK) != 0;
  std::optional<Deadline> deadline;
  // Nothing was asked of the stream, so there is nothing to wait for.
  if (stream && buffers.left() == 0) co_return uint64_t{0};
  for (;;) {
    const Errno room = co_await OutputRoom(context, context.kernel().loop());
    if (!room.ok()) co_return buffers.passed() > 0 ? Result(buffers.passed()) : room;
    const size_t size = std::min<uint64_t>(buffers.left(), ScratchBuffer().size());
    Result<Received> r = socket.Receive(ScratchBuffer().first(size), flags & ~kCallFlags);
    // A peek that finds nothing has met a stale byte, which the client then takes.
    // The error queue has no byte.
    const bool taken = (!peek || !r.ok()) && (flags & MSG_ERRQUEUE) == 0;
    if (arg.object != nullptr && !stream && taken) arg.object->DatagramTaken();
    if (r.ok()) {
      const size_t copied = r->copied;
      const size_t length = r->length;
      const bool at_mark = r->at_mark;
      buffers.Put(context, ScratchBuffer().first(copied));
      if (received != nullptr) *received = std::move(*r);
      if (!stream) {
        co_return uint64_t{(flags & MSG_TRUNC) != 0 ? length : copied};
      }
      // What MSG_TRUNC threw away counts, but the scratch buffer has nothing of it: its bytes are
      // some other client's.
      buffers.Pass(length - copied);
      const bool more =
          (flags & MSG_WAITALL) != 0 && !peek && !at_mark && length > 0 && buffers.left() > 0;
      if (!more) co_return buffers.passed();
      continue;
    }
    Errno error = r.error();
    if (error == Errno(EAGAIN) && may_block) {
      if (!deadline) deadline = SocketDeadline(socket, SO_RCVTIMEO);
      error = co_await WaitFor(context, arg, POLLIN, may_block, *deadline);
    }
    if (!error.ok()) co_return buffers.passed() > 0 ? Result(buffers.passed()) : error;
  }
}

SyscallTask SendData(CallContext& context, const FileArg& arg, ClientBuffers buffers,
                     const SocketAddress* to, int flags, std::span<const std::byte> control) {
  Socket& socket = *arg.file->AsSocket();
  const bool stream = socket.type() == SOCK_STREAM;
  const bool may_block = arg.may_block() && (flags & MSG_DONTWAIT) == 0;
  if (!stream && buffers.left() > kSendChunk) co_return Errno(EMSGSIZE);
  std::optional<Deadline> deadline;
  CallBuffer chunk(context.process());
  size_t sent = 0;  // of chunk
  do {
    std::span<const std::byte> next = chunk.bytes().subspan(sent);
    bool in_chunk = !next.empty();
    if (!in_chunk) {
      next = buffers.InRequest(context, std::min<uint64_t>(buffers.left(), kSendChunk));
    }
    if (next.empty()) {
      in_chunk = true;
      chunk.Resize(std::min<uint64_t>(buffers.left(), kSendChunk));
      // A datagram goes as a whole.
      if (!stream && chunk.size() < buffers.left()) co_return Errno(ENOBUFS);
      sent = 0;
      const Errno copied = co_await buffers.Peek(context, chunk.bytes());
      if (!copied.ok()) co_return buffers.passed() > 0 ? Result(buffers.passed()) : copied;
      next = chunk.bytes();
    }
    // The last byte of all is the urgent one.
    const bool last = buffers.left() == next.size();
    const int last_flags = flags & ~(last ? kCallFlags : kCallFlags | MSG_OOB);
    const bool keeps = stream && !in_chunk && next.size() >= Call::kWorthKeeping && control.empty();
    const Result<size_t> n = keeps ? socket.SendKept(next, context.call().KeepRequest(), last_flags)
                                   : socket.SendMessage(next, to, control, last_flags);
    if (n.ok()) {
      if (in_chunk) sent += *n;
      buffers.Pass(*n);
      continue;
    }
    Errno error = n.error();
    if (error == Errno(EPIPE) && stream && (flags & MSG_NOSIGNAL) == 0) {
      context.call().Raise(SIGPIPE);
    }
    if (error == Errno(EAGAIN) && may_block) {
      if (!deadline) deadline = SocketDeadline(socket, SO_SNDTIMEO);
      error = co_await WaitFor(context, arg, POLLOUT, may_block, *deadline);
    }
    if (!error.ok()) co_return buffers.passed() > 0 ? Result(buffers.passed()) : error;
  } while (buffers.left() > 0);
  co_return buffers.passed();
}

SyscallTask SysSendto(CallContext& context) {
  Result<FileArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  SocketAddress to;
  if (context.arg(4) != 0) {
    const Errno error = co_await CopyInAddress(context, context.arg(4), context.arg(5), &to);
    if (!error.ok()) co_return error;
  }
  co_return co_await SendData(context, *arg, ClientBuffers(context.arg(1), context.arg(2)), &to,
                              context.int_arg(3));
}

SyscallTask SysRecvfrom(CallContext& context) {
  Result<FileArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  AddressRoom room;
  const Errno error = co_await CopyInAddressRoom(context, context.arg(4), context.arg(5), &room);
  if (!error.ok()) co_return error;
  Received received;
  const Result<uint64_t> n = co_await ReceiveData(
      context, *arg, ClientBuffers(context.arg(1), context.arg(2)), context.int_arg(3), &received);
  if (n.ok()) CopyOutAddress(context, received.from, room);
  co_return n;
}

SyscallTask SysSendmsg(CallContext& context) {
  Result<FileArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  co_return co_await SendMessage(context, *arg, context.arg(1), context.int_arg(2));
}

SyscallTask SysRecvmsg(CallContext& context) {
  Result<FileArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  ClientMsghdr header;
  const Result<uint64_t> n =
      co_await ReceiveMessage(context, *arg, context.arg(1), context.int_arg(2), &header);
  if (n.ok()) CopyOutObject(context, context.arg(1), header);
  co_return n;
}

SyscallTask SysSendmmsg(CallContext& context) {
  Result<FileArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  const uint64_t count = std::min(context.arg(2), kMaxMessages);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t message = context.arg(1) + i * sizeof(mmsghdr);
    const Result<uint64_t> n = co_await SendMessage(context, *arg, message, context.int_arg(3));
    if (!n.ok()) co_return i > 0 ? Result(i) : n.error();
    CopyOutObject(context, message + offsetof(mmsghdr, msg_len), static_cast<uint32_t>(*n));
  }
  co_return count;
}

SyscallTask SysRecvmmsg(CallContext& context) {
  Result<FileArg> arg = GetSocket(context);
  if (!arg.ok()) co_return arg.error();
  const uint64_t count = std::min(context.arg(2), kMaxMessages);
  int flags = context.int_arg(3);
  Deadline deadline = kNever;
  if (context.arg(4) != 0) {
    ClientTimespec timeout;
    const Errno copied = co_await CopyInObject(context, context.arg(4), &timeout);
    if (!copied.ok()) co_return copied;
    if (!timeout.valid()) co_return Errno(EINVAL);
    deadline = DeadlineAfter(timeout);
  }
  uint64_t received = 0;
  while (received < count) {
    const uint64_t message = context.arg(1) + received * sizeof(mmsghdr);
    ClientMsghdr header;
    const Result<uint64_t> n =
        co_await ReceiveMessage(context, *arg, message, flags & ~MSG_WAITFORONE, &header);
    if (!n.ok()) {
      if (received == 0) co_return n.error();
      break;
    }
    // The client lets nobody write to the pointers in between.
    if (header.name != 0) {
      CopyOutObject(context, message + offsetof(ClientMsghdr, name_len), header.name_len);
    }
    const MessageTail tail{.control_len = header.control_len,
                           .flags = header.flags,
                           .pad = 0,
                           .length = static_cast<uint32_t>(*n)};
    CopyOutObject(context, message + offsetof(ClientMsghdr, control_len), tail);
    ++received;
    if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
    // recvmmsg(2) looks at the time after each datagram only, and so do we.
    if (deadline <= EventLoop::Clock::now()) break;
  }
  if (deadline != kNever) CopyOutObject(context, context.arg(4), LeftUntil(deadline));
  co_return received;
}

}  // namespace rump
