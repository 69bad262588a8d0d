#include "protocol/frame.h"

#include <errno.h>
#include <string.h>

#include <optional>

namespace rump {
namespace {

// Payloads are copied, not cast: they start wherever a socket's bytes happened to land.
template <typename T>
FrameError Load(std::span<const std::byte> payload, T* value) {
  if (payload.size() != sizeof(T)) return FrameError::kBadPayload;
  memcpy(value, payload.data(), sizeof(T));
  return FrameError::kNone;
}

FrameError LoadCommand(std::span<const std::byte> payload, std::string_view* command) {
  for (size_t i = 0; i < payload.size(); ++i) {
    if (payload[i] != std::byte{0}) continue;
    *command = {reinterpret_cast<const char*>(payload.data()), i};
    return i + 1 == payload.size() ? FrameError::kNone : FrameError::kBadPayload;
  }
  return FrameError::kUnterminated;
}

FrameError DecodeHandshakeRequest(uint32_t u, std::span<const std::byte> payload,
                                  Message* message) {
  switch (static_cast<HandshakeKind>(u)) {
    case HandshakeKind::kGuest:
      return LoadCommand(payload, &message->emplace<GuestRequest>().command);
    case HandshakeKind::kAuth:
      message->emplace<AuthRequest>().payload = payload;
      return FrameError::kNone;
    case HandshakeKind::kFork:
      return Load(payload, &message->emplace<ForkRequest>().fork);
    case HandshakeKind::kExec:
      return LoadCommand(payload, &message->emplace<ExecRequest>().command);
  }
  return FrameError::kUnknownHandshake;
}

FrameError DecodeSyscallRequest(std::span<const std::byte> payload, Message* message) {
  constexpr size_t kSlot = sizeof(uint64_t);
  if (payload.size() % kSlot != 0 || payload.size() / kSlot > kMaxSyscallArgs) {
    return FrameError::kBadPayload;
  }
  message->emplace<SyscallRequest>().args = payload;
  return FrameError::kNone;
}

// Takes up to `most` blocks off *bytes; how many, or -1 if there is something else, or more than a
// frame may carry.
int TakeBlocks(std::span<const std::byte>* bytes, uint32_t most) {
  CopyPayload range;
  std::span<const std::byte> data;
  size_t total = 0;
  uint32_t count = 0;
  for (; count < most && !bytes->empty(); ++count) {
    if (count == kMaxBlocks || !TakeBlock(bytes, &range, &data)) return -1;
    total += data.size();
    if (total > kMaxBlockBytes) return -1;
  }
  return static_cast<int>(count);
}

FrameError DecodeInlineRequest(std::span<const std::byte> payload, Message* message) {
  constexpr size_t kSlot = sizeof(uint64_t);
  InlineTrailer trailer;
  if (payload.size() < sizeof trailer) return FrameError::kBadPayload;
  const std::span<const std::byte> body = payload.first(payload.size() - sizeof trailer);
  memcpy(&trailer, payload.data() + body.size(), sizeof trailer);
  if (trailer.slots > kMaxSyscallArgs || trailer.slots * kSlot > body.size()) {
    return FrameError::kBadPayload;
  }
  auto& request = message->emplace<InlineRequest>();
  request.args = body.first(trailer.slots * kSlot);
  request.count = trailer.blocks;
  const std::span<const std::byte> blocks = body.subspan(request.args.size());
  request.unused = blocks;
  if (request.count > kMaxBlocks ||
      TakeBlocks(&request.unused, request.count) != static_cast<int>(request.count)) {
    return FrameError::kBadPayload;
  }
  request.blocks = blocks.first(blocks.size() - request.unused.size());
  return FrameError::kNone;
}

FrameError DecodeInlineResponse(std::span<const std::byte> payload, Message* message) {
  auto& response = message->emplace<InlineResponse>();
  if (payload.size() < sizeof response.result) return FrameError::kBadPayload;
  memcpy(&response.result, payload.data(), sizeof response.result);
  response.blocks = payload.subspan(sizeof response.result);
  std::span<const std::byte> rest = response.blocks;
  return TakeBlocks(&rest, UINT32_MAX) < 0 ? FrameError::kBadPayload : FrameError::kNone;
}

FrameError DecodeCopyOutRequest(std::span<const std::byte> payload, Message* message) {
  if (payload.size() < sizeof(CopyPayload)) return FrameError::kBadPayload;
  auto& request = message->emplace<CopyOutRequest>();
  request.data = payload.subspan(sizeof(CopyPayload));
  memcpy(&request.range, payload.data(), sizeof(CopyPayload));
  return request.range.len == request.data.size() ? FrameError::kNone : FrameError::kBadPayload;
}

FrameError DecodeEmpty(std::span<const std::byte> payload) {
  return payload.empty() ? FrameError::kNone : FrameError::kBadPayload;
}

FrameError DecodeRequest(const FrameHeader& header, std::span<const std::byte> payload,
                         Message* message) {
  switch (header.type) {
    case FrameType::kHandshake:
      return DecodeHandshakeRequest(header.u, payload, message);
    case FrameType::kSyscall:
      return DecodeSyscallRequest(payload, message);
    case FrameType::kCopyIn:
    case FrameType::kCopyInStr:
      return Load(payload, &message->emplace<CopyInRequest>().range);
    case FrameType::kCopyOut:
    case FrameType::kCopyOutStr:
      return DecodeCopyOutRequest(payload, message);
    case FrameType::kAnonMmap:
      return Load(payload, &message->emplace<AnonMmapRequest>().len);
    case FrameType::kPrefork:
      message->emplace<PreforkRequest>();
      return DecodeEmpty(payload);
    case FrameType::kRaise:
      message->emplace<RaiseRequest>();
      return DecodeEmpty(payload);
    case FrameType::kCancel:
      return Load(payload, &message->emplace<CancelRequest>().reqno);
    case FrameType::kInline:
      return DecodeInlineRequest(payload, message);
  }
  return FrameError::kUnknownType;
}

FrameError DecodeResponse(const FrameHeader& header, std::span<const std::byte> payload,
                          Message* message) {
  switch (header.type) {
    case FrameType::kHandshake:
      return Load(payload, &message->emplace<HandshakeResponse>().error);
    case FrameType::kSyscall:
      return Load(payload, &message->emplace<SyscallResponse>().result);
    case FrameType::kCopyIn:
    case FrameType::kCopyInStr:
      message->emplace<CopyInResponse>().data = payload;
      return FrameError::kNone;
    case FrameType::kAnonMmap:
      return Load(payload, &message->emplace<AnonMmapResponse>().addr);
    case FrameType::kPrefork:
      return Load(payload, &message->emplace<PreforkResponse>().cookie);
    case FrameType::kInline:
      return DecodeInlineResponse(payload, message);
    case FrameType::kCopyOut:
    case FrameType::kCopyOutStr:
    case FrameType::kRaise:
    case FrameType::kCancel:
      break;
  }
  return FrameError::kUnknownType;
}

template <typename T>
std::span<const std::byte> BytesOf(const T& value) {
  return std::as_bytes(std::span<const T, 1>(&value, 1));
}

// A payload in the parts that the most complicated of them has.
struct Parts {
  std::span<const std::byte> fixed;
  std::span<const std::byte> data;
  bool nul = false;  // behind the data
  std::span<const std::byte> blocks = {};
  std::span<const std::byte> unused = {};
  std::optional<InlineTrailer> trailer = {};

  size_t size() const {
    return fixed.size() + data.size() + (nul ? 1 : 0) + blocks.size() + unused.size() +
           (trailer ? sizeof *trailer : 0);
  }
};

Parts PartsOfCommand(std::string_view command) {
  return {.fixed = {}, .data = std::as_bytes(std::span<const char>(command)), .nul = true};
}

Parts PartsOf(const Message& message) {
  if (auto* m = std::get_if<GuestRequest>(&message)) return PartsOfCommand(m->command);
  if (auto* m = std::get_if<ExecRequest>(&message)) return PartsOfCommand(m->command);
  if (auto* m = std::get_if<AuthRequest>(&message)) return {.fixed = {}, .data = m->payload};
  if (auto* m = std::get_if<SyscallRequest>(&message)) return {.fixed = {}, .data = m->args};
  if (auto* m = std::get_if<CopyInResponse>(&message)) return {.fixed = {}, .data = m->data};
  if (auto* m = std::get_if<CopyOutRequest>(&message)) {
    return {.fixed = BytesOf(m->range), .data = m->data};
  }
  if (auto* m = std::get_if<ForkRequest>(&message)) return {.fixed = BytesOf(m->fork), .data = {}};
  if (auto* m = std::get_if<HandshakeResponse>(&message)) {
    return {.fixed = BytesOf(m->error), .data = {}};
  }
  if (auto* m = std::get_if<SyscallResponse>(&message)) {
    return {.fixed = BytesOf(m->result), .data = {}};
  }
  if (auto* m = std::get_if<InlineRequest>(&message)) {
    const auto slots = static_cast<uint32_t>(m->args.size() / sizeof(uint64_t));
    return {.fixed = {},
            .data = m->args,
            .blocks = m->blocks,
            .unused = m->unused,
            .trailer = InlineTrailer{slots, m->count}};
  }
  if (auto* m = std::get_if<InlineResponse>(&message)) {
    return {.fixed = BytesOf(m->result), .data = m->blocks};
  }
  if (auto* m = std::get_if<CopyInRequest>(&message)) {
    return {.fixed = BytesOf(m->range), .data = {}};
  }
  if (auto* m = std::get_if<AnonMmapRequest>(&message)) {
    return {.fixed = BytesOf(m->len), .data = {}};
  }
  if (auto* m = std::get_if<AnonMmapResponse>(&message)) {
    return {.fixed = BytesOf(m->addr), .data = {}};
  }
  if (auto* m = std::get_if<PreforkResponse>(&message)) {
    return {.fixed = BytesOf(m->cookie), .data = {}};
  }
  if (auto* m = std::get_if<CancelRequest>(&message)) {
    return {.fixed = BytesOf(m->reqno), .data = {}};
  }
  return {};
}

std::byte* Append(std::byte* out, std::span<const std::byte> bytes) {
  if (!bytes.empty()) memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

}  // namespace

int ErrnoOf(WireError error) {
  switch (error) {
    case WireError::kNone:
      return 0;
    case WireError::kTryAgain:
      return EAGAIN;
    case WireError::kAuth:
      return EPERM;
    case WireError::kInvalidPrefork:
      return ESRCH;
    case WireError::kForkFailed:
      return EIO;
    case WireError::kInExec:
      return EBUSY;
    case WireError::kNoMemory:
      return ENOMEM;
    case WireError::kMalformedRequest:
      return EINVAL;
  }
  return EIO;
}

std::string_view WireErrorName(WireError error) {
  switch (error) {
    case WireError::kNone:
      return "NONE";
    case WireError::kTryAgain:
      return "TRYAGAIN";
    case WireError::kAuth:
      return "AUTH";
    case WireError::kInvalidPrefork:
      return "INVALID_PREFORK";
    case WireError::kForkFailed:
      return "RFORK_FAILED";
    case WireError::kInExec:
      return "INEXEC";
    case WireError::kNoMemory:
      return "NOMEM";
    case WireError::kMalformedRequest:
      return "MALFORMED_REQUEST";
  }
  return "UNKNOWN";
}

std::string_view FrameErrorName(FrameError error) {
  switch (error) {
    case FrameError::kNone:
      return "no error";
    case FrameError::kIncomplete:
      return "incomplete";
    case FrameError::kTooShort:
      return "too short";
    case FrameError::kTooLong:
      return "too long";
    case FrameError::kUnknownClass:
      return "unknown class";
    case FrameError::kUnknownType:
      return "unknown type";
    case FrameError::kUnknownHandshake:
      return "unknown handshake";
    case FrameError::kBadPayload:
      return "bad payload";
    case FrameError::kUnterminated:
      return "unterminated string";
  }
  return "unknown error";
}

FrameError DecodeHeader(std::span<const std::byte> bytes, size_t max_len, FrameHeader* header) {
  if (bytes.size() < kHeaderSize) return FrameError::kIncomplete;
  memcpy(header, bytes.data(), kHeaderSize);
  if (header->len < kHeaderSize) return FrameError::kTooShort;
  return header->len > max_len ? FrameError::kTooLong : FrameError::kNone;
}

void EncodeHeader(const FrameHeader& header, std::byte* out) { memcpy(out, &header, kHeaderSize); }

FrameError DecodeMessage(const FrameHeader& header, std::span<const std::byte> payload,
                         Message* message) {
  if (header.len < kHeaderSize) return FrameError::kTooShort;
  if (payload.size() < header.len - kHeaderSize) return FrameError::kIncomplete;
  if (payload.size() > header.len - kHeaderSize) return FrameError::kBadPayload;
  switch (header.cls) {
    case FrameClass::kRequest:
      return DecodeRequest(header, payload, message);
    case FrameClass::kResponse:
      return DecodeResponse(header, payload, message);
    case FrameClass::kError:
      if (header.type > FrameType::kInline) return FrameError::kUnknownType;
      message->emplace<ErrorResponse>();
      return DecodeEmpty(payload);
  }
  return FrameError::kUnknownClass;
}

size_t EncodeMessage(FrameHeader header, const Message& message, std::span<std::byte> out) {
  const Parts parts = PartsOf(message);
  header.len = kHeaderSize + parts.size();
  if (header.len > out.size()) return header.len;
  EncodeHeader(header, out.data());
  std::byte* end = Append(Append(out.data() + kHeaderSize, parts.fixed), parts.data);
  if (parts.nul) *end++ = std::byte{0};
  end = Append(Append(end, parts.blocks), parts.unused);
  if (parts.trailer) Append(end, BytesOf(*parts.trailer));
  return header.len;
}

bool TakeBlock(std::span<const std::byte>* blocks, CopyPayload* range,
               std::span<const std::byte>* bytes) {
  CopyPayload head;
  if (blocks->size() < sizeof head) return false;
  memcpy(&head, blocks->data(), sizeof head);
  const std::span<const std::byte> rest = blocks->subspan(sizeof head);
  if (head.len > rest.size() || head.len > UINT64_MAX - head.addr) return false;
  *range = head;
  *bytes = rest.first(head.len);
  *blocks = rest.subspan(head.len);
  return true;
}

}  // namespace rump
