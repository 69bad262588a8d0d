// Entry by rewriting libc: its system calls lead to the dispatcher, whoever calls libc.
#ifndef HIJACK_REWRITING_H_
#define HIJACK_REWRITING_H_

namespace rump::hijack {

struct Rewriting {
  bool from_table = false;  // rather than by a scan
  bool complete = false;    // no call that the library takes is missing
  // Why libc was left as it is, or nullptr.
  const char* failure = nullptr;
};

// For the library's constructor, once.
Rewriting RewriteLibc();

}  // namespace rump::hijack

#endif  // HIJACK_REWRITING_H_
