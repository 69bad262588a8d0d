// What kind of socket a descriptor of ours is.
#ifndef HIJACK_HIJACKED_FD_H_
#define HIJACK_HIJACKED_FD_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <initializer_list>

#include "hijack/fd_cache.h"

namespace rump::hijack {

// The program's end of one of the server's sockets, as just seen in the program's fd table.
struct HijackedFd {
  int fd = -1;
  uint64_t object = 0;
  FdKind kind = FdKind::kUnknown;

  // Makes call `number` on the object: its value, or -errno.
  long Request(uint32_t number, std::initializer_list<uint64_t> arguments = {}) const;
};

// Whether `fd` is one of ours; then *hijacked describes it. Asks the kernel, and the server about
// descriptors that came by inheritance, dup(2) or message. Remembers what it learns.
bool Identify(int fd, HijackedFd* hijacked);

// Learns what every open descriptor is.
void LearnOpenFds();
// Whether descriptors may be asked what they are, which is a system call that a sandbox can forbid.
// From AskNoMore on all that are not known count as the host's.
bool MayAsk();
void AskNoMore();
// Whether bytes of a write may be sent by sendto(2) and sendmsg(2), which a sandbox can forbid.
bool MaySend();
void SendNoMore();
// Whether the limit of descriptors may be asked for, the same.
bool MayAskLimit();
void AskLimitNoMore();

// The state of a stream of kind kFresh.
enum class StreamState { kUnconnected, kConnecting, kConnected };

// Asks the server how far `hijacked`, of kind kFresh, has come; it may have connected by itself
// since connect(2) returned. When it has, it becomes kConnected here too.
StreamState Settle(HijackedFd* hijacked);

// Returns `result`, but pauses before if it is ENOTCONN: poll(2) says of a socket without its
// server that it is readable, for ever, and servers try again and again.
long AfterLoss(long result);

// Makes `fd`, the program's end of a stream, take no more bytes than it has by now, until
// BecomeConnected. Returns how many it took to fill it.
size_t Fill(int fd);

// `hijacked` has become a connected stream, in the background.
void BecomeConnected(HijackedFd* hijacked);
// The same at once, so that it was never filled; it is of `kind` now.
void BecomeConnectedAtOnce(HijackedFd* hijacked, FdKind kind);
// From now on `hijacked` is of `kind`.
void SetKind(HijackedFd* hijacked, FdKind kind);

// Whether `hijacked`, a connected stream, is an end of a direct pair.
bool IsDirect(const HijackedFd& hijacked);

// Whether the object's server is the one that the process is connected to.
bool IsServed(const HijackedFd& hijacked);

// The program has set SO_SNDBUF of `hijacked`, a stream.
void SendBufferSet(const HijackedFd& hijacked);

}  // namespace rump::hijack

#endif  // HIJACK_HIJACKED_FD_H_
