// The frames of RUMPSP 0.4 as bytes: header, payloads, and what makes one malformed.
// docs/protocol.md is the description; nothing here does I/O or allocates.
#ifndef PROTOCOL_FRAME_H_
#define PROTOCOL_FRAME_H_

#include <stddef.h>
#include <stdint.h>

#include <span>
#include <string_view>
#include <variant>

namespace rump {

enum class FrameClass : uint16_t { kRequest = 0, kResponse = 1, kError = 2 };

enum class FrameType : uint16_t {
  kHandshake = 0,
  kSyscall = 1,
  kCopyIn = 2,
  kCopyInStr = 3,
  kCopyOut = 4,
  kCopyOutStr = 5,
  kAnonMmap = 6,
  kPrefork = 7,
  kRaise = 8,
  kCancel = 9,   // extension "cancel"
  kInline = 10,  // extension "inline": a SYSCALL with memory
};

enum class HandshakeKind : uint32_t { kGuest = 0, kAuth = 1, kFork = 2, kExec = 3 };

// The `u` field of a frame of class kError.
enum class WireError : uint32_t {
  kNone = 0,
  kTryAgain = 1,
  kAuth = 2,
  kInvalidPrefork = 3,
  kForkFailed = 4,
  kInExec = 5,
  kNoMemory = 6,
  kMalformedRequest = 7,
};

// The errno that a client reports for `error`; EIO for values that 0.4 does not define.
int ErrnoOf(WireError error);
// Its name in docs/protocol.md, such as "TRYAGAIN"; "UNKNOWN" for values that 0.4 does not define.
std::string_view WireErrorName(WireError error);

// The 24 bytes that start every frame, in host byte order (little-endian everywhere we run).
struct FrameHeader {
  uint64_t len = 0;  // of the whole frame, header included
  uint64_t reqno = 0;
  FrameClass cls = FrameClass::kRequest;
  FrameType type = FrameType::kHandshake;
  uint32_t u = 0;  // call number, HandshakeKind, WireError or signal number, by class and type

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};
static_assert(sizeof(FrameHeader) == 24);

inline constexpr size_t kHeaderSize = sizeof(FrameHeader);
// `u` of a response that a descriptor comes with, by the extension "hostfd"; 0 in others.
inline constexpr uint32_t kBringsFd = 1;
// Longest command name kept of a GUEST or EXEC handshake, its NUL included (longer ones are cut).
inline constexpr size_t kMaxCommandName = 64;
// Slots of 64 bits that a system call request carries at most.
inline constexpr size_t kMaxSyscallArgs = 8;
// Bytes that one COPYIN, COPYINSTR or COPYOUT moves at most; the server splits longer copies.
inline constexpr size_t kMaxCopy = 256 * 1024;
// The longest frame that a peer sends in good faith: a full COPYOUT.
inline constexpr size_t kMaxFrame = kHeaderSize + 16 + kMaxCopy;
// Blocks of memory that an INLINE request or response carries at most, and their bytes together.
inline constexpr size_t kMaxBlocks = 16;
inline constexpr size_t kMaxBlockBytes = 65 * 1024;

// Payload layouts (the part of the frame behind the header).
struct PreforkCookie {
  uint32_t auth[4] = {};
  friend bool operator==(const PreforkCookie&, const PreforkCookie&) = default;
};
struct ForkPayload {
  PreforkCookie cookie;
  int32_t cancel = 0;
};
static_assert(sizeof(ForkPayload) == 20);
struct SyscallResultPayload {
  int32_t error = 0;  // errno, 0 for success
  uint32_t pad = 0;   // 0 in our responses; other servers send garbage
  uint64_t retval[2] = {};
};
static_assert(sizeof(SyscallResultPayload) == 24);
struct CopyPayload {  // followed by the data in COPYOUT and COPYOUTSTR
  uint64_t len = 0;
  uint64_t addr = 0;
};
static_assert(sizeof(CopyPayload) == 16);
// Ends the payload of an INLINE request: slots, then blocks, each a CopyPayload and its bytes.
struct InlineTrailer {
  uint32_t slots = 0;
  uint32_t blocks = 0;  // bytes behind them mean nothing: the sender met memory that is not there
};
static_assert(sizeof(InlineTrailer) == 8);

// Why bytes are not a frame, or not one of 0.4.
enum class FrameError {
  kNone,
  kIncomplete,        // fewer bytes than a header, or less payload than the header's len says
  kTooShort,          // len < 24: the stream cannot be followed any more
  kTooLong,           // len above the receiver's limit
  kUnknownClass,      // class above kError
  kUnknownType,       // type above kInline, or a response of a type that has none
  kUnknownHandshake,  // HANDSHAKE request with u above kExec
  kBadPayload,        // of the wrong size for class and type, or bytes behind a string's NUL
  kUnterminated,      // a string without its NUL
};
// A name such as "too short", for messages.
std::string_view FrameErrorName(FrameError error);

// Reads the header at the start of `bytes`; the payload need not be there yet. kIncomplete (fewer
// than 24 bytes), kTooShort and kTooLong (against `max_len`) are the only errors: class and type
// are for DecodeMessage, since the connection outlives them. *header is filled unless kIncomplete.
FrameError DecodeHeader(std::span<const std::byte> bytes, size_t max_len, FrameHeader* header);

// Writes `header` to the first 24 bytes of `out`, which must have room.
void EncodeHeader(const FrameHeader& header, std::byte* out);

// One alternative per kind of frame. Views point into the decoded bytes.
struct GuestRequest {
  std::string_view command;  // without its NUL
};
struct AuthRequest {
  std::span<const std::byte> payload;  // reserved by the protocol, so of any shape
};
struct ForkRequest {
  ForkPayload fork;
};
struct ExecRequest {
  std::string_view command;  // without its NUL
};
struct HandshakeResponse {
  int32_t error = 0;
};
struct SyscallRequest {
  std::span<const std::byte> args;  // a multiple of 8 bytes; unaligned
};
struct SyscallResponse {
  SyscallResultPayload result;
};
// Blocks stand one behind the other: TakeBlock gets them all.
struct InlineRequest {
  std::span<const std::byte> args;  // a multiple of 8 bytes; unaligned
  std::span<const std::byte> blocks;
  uint32_t count = 0;  // of blocks
  std::span<const std::byte> unused;
};
struct InlineResponse {
  SyscallResultPayload result;
  std::span<const std::byte> blocks;
};
struct CopyInRequest {  // COPYIN and COPYINSTR
  CopyPayload range;
};
struct CopyInResponse {  // answers both; a string carries its NUL
  std::span<const std::byte> data;
};
struct CopyOutRequest {  // COPYOUT and COPYOUTSTR
  CopyPayload range;
  std::span<const std::byte> data;  // range.len bytes
};
struct AnonMmapRequest {
  uint64_t len = 0;
};
struct AnonMmapResponse {
  uint64_t addr = 0;  // 0: failed
};
struct PreforkRequest {};
// In u of a PREFORK, with the extension "hostfd": the response brings the descriptor of a
// connection that is the copy's, which needs no handshake any more; its cookie is all zeros.
inline constexpr uint32_t kPreforkConnected = 1;
struct PreforkResponse {
  PreforkCookie cookie;
};
struct RaiseRequest {};  // the signal is in the header's u
struct CancelRequest {
  uint64_t reqno = 0;  // of the call to interrupt
};
struct ErrorResponse {};  // the WireError is in the header's u

using Message =
    std::variant<GuestRequest, AuthRequest, ForkRequest, ExecRequest, HandshakeResponse,
                 SyscallRequest, SyscallResponse, InlineRequest, InlineResponse, CopyInRequest,
                 CopyInResponse, CopyOutRequest, AnonMmapRequest, AnonMmapResponse, PreforkRequest,
                 PreforkResponse, RaiseRequest, CancelRequest, ErrorResponse>;

// Takes the block at the start of *blocks off it. False, and nothing is taken: there is none, or
// not all of it, or its last byte has no address.
bool TakeBlock(std::span<const std::byte>* blocks, CopyPayload* range,
               std::span<const std::byte>* bytes);

// Decodes the frame whose header is `header` and whose payload is `payload` (header.len - 24 bytes,
// checked). An empty command name is legal: 0.4 clients may send the NUL alone, and a GUEST without
// even that is kUnterminated.
FrameError DecodeMessage(const FrameHeader& header, std::span<const std::byte> payload,
                         Message* message);

// Writes `message` under `header` (whose len is computed, the rest taken as it is) to `out`.
// Returns the frame's length; if that is more than out.size(), nothing was written.
size_t EncodeMessage(FrameHeader header, const Message& message, std::span<std::byte> out);

}  // namespace rump

#endif  // PROTOCOL_FRAME_H_
