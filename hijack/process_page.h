// Whose memory this is: memory that the kernel empties in the child of a fork, however the fork was
// made, and that a child on its parent's memory (vfork, posix_spawn) shares.
#ifndef HIJACK_PROCESS_PAGE_H_
#define HIJACK_PROCESS_PAGE_H_

#include <stdint.h>

#include <atomic>

#include "rumpclient/core/futex.h"

namespace rump::hijack {

// SpareSocket's share of the page.
struct SparePage {
  // kNever: somebody has used it for too long, and perhaps never ends.
  enum class State : uint8_t { kNone, kThere, kInUse, kNever };
  std::atomic<State> state;
  std::atomic<int> domain;  // of the one that is there
  std::atomic<int> wanted;  // the domain that the program has last made a socket of
  std::atomic<int> misses;  // stream sockets that were made without
};

struct ProcessPage {
  // The process that the memory belongs to; in the child of a fork 0 until it is first asked.
  std::atomic<int> owner;
  // Whether the session's connection is this process's, rather than what a fork left of it.
  std::atomic<bool> connected;
  // Held while connecting.
  client::FutexLock connect_lock;
  // Held from the request for a copy of the process to the fork: the copy's connection must get
  // into one child alone. Not by a fork handler's fork, inside of the one of `forker`.
  client::FutexLock fork_lock;
  std::atomic<const void*> forker;
  // Calls that use the connection at the moment.
  std::atomic<int> calls;
  SparePage spare;
};

// Maps the page; without it (no memory) the child of a fork would take itself for its parent.
// Returns whether that went well.
bool MapProcessPage();

ProcessPage& process_page();

// False in a child that runs on its parent's memory: what it learns of its own descriptors must not
// be stored.
bool OwnMemory();

}  // namespace rump::hijack

#endif  // HIJACK_PROCESS_PAGE_H_
