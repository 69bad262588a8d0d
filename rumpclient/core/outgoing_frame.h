// A frame on its way out, made of the library's own bytes and of the program's memory.
#ifndef RUMPCLIENT_CORE_OUTGOING_FRAME_H_
#define RUMPCLIENT_CORE_OUTGOING_FRAME_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <span>

#include "protocol/frame.h"

namespace rump::client {

// Lives on the sender's stack. The program's memory is read by the kernel alone, as it is sent.
class OutgoingFrame {
 public:
  // A frame with `payload`, at most kMaxOwn bytes, of the library's own.
  OutgoingFrame(const FrameHeader& header, const void* payload, size_t payload_size);
  OutgoingFrame(const OutgoingFrame&) = delete;
  OutgoingFrame& operator=(const OutgoingFrame&) = delete;

  static constexpr size_t kMaxOwn = 64;

  // Of an answer to a COPYIN: its payload.
  void AddMemory(uint64_t addr, size_t len);
  // Of an INLINE request whose slots are the payload so far: a block, and what ends it. At most
  // kMaxBlocks.
  void AddBlock(const CopyPayload& range);
  void AddTrailer();

  // Whether it has none of the program's memory, and its bytes then, before any is sent.
  bool is_own() const { return count_ == 1; }
  std::span<const std::byte> own() const {
    return {reinterpret_cast<const std::byte*>(own_), own_size_};
  }

  // One sendmsg(2), with the descriptor `fd` unless it is -1: bytes sent, or -errno.
  long SendSome(int socket, int fd);
  bool begun() const { return sent_ > 0; }
  bool done() const { return sent_ == header().len; }
  // After an EFAULT. As long as nothing has been sent, the frame goes without the program's memory:
  // as an empty answer, or a request without blocks. Later zeros stand for what cannot be read, and
  // a trailer that is still to come says that no block counts.
  void LeaveMemoryOut();

 private:
  static constexpr size_t kOwn =
      kHeaderSize + kMaxOwn + kMaxBlocks * sizeof(CopyPayload) + sizeof(InlineTrailer);
  static constexpr size_t kMaxParts = 2 * kMaxBlocks + 2;

  FrameHeader header() const;
  void SetLength(uint64_t len);
  void AddOwn(const void* bytes, size_t size);
  void AddPart(void* base, size_t size, bool own);
  void PassSent(size_t bytes);

  size_t head_size_;  // of header and payload
  size_t own_size_ = 0;
  uint32_t blocks_ = 0;
  bool has_trailer_ = false;
  bool zeros_ = false;  // for the program's memory
  size_t sent_ = 0;
  size_t first_ = 0;  // part of which not all has been sent
  size_t count_ = 0;
  uint64_t own_parts_ = 0;  // bit n: part n is the library's own
  // Not cleared: there is a frame for each call.
  iovec parts_[kMaxParts];
  alignas(uint64_t) char own_[kOwn];
};

}  // namespace rump::client

#endif  // RUMPCLIENT_CORE_OUTGOING_FRAME_H_
