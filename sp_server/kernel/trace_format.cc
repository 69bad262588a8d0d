#include "sp_server/kernel/trace_format.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rump {
namespace {

// What is kept of each piece of memory: an address, or some iovecs.
constexpr size_t kMaxHead = 128;
constexpr size_t kMaxPieces = 32;
// What is shown of a string.
constexpr size_t kMaxShown = 32;

struct CallView {
  const SyscallSpec& spec;
  std::span<const uint64_t> args;
  const SeenMemory& memory;
};

// Appends argument `i` of the call to *out.
using Decoder = void (*)(const CallView& call, size_t i, std::string* out);

// Arguments that are socket addresses: of all bytes the ones that people look for.
constexpr struct {
  uint32_t number;
  size_t arg;
} kAddressArgs[] = {
    {SYS_connect, 1},     {SYS_accept, 1},      {SYS_bind, 1},
    {SYS_getsockname, 1}, {SYS_getpeername, 1}, {SYS_accept4, 1},
    {SYS_sendto, 4},      {SYS_recvfrom, 4},    {kSysHostConnect, 1},
};

bool IsAddress(const CallView& call, size_t i) {
  return std::ranges::any_of(kAddressArgs, [&](const auto& known) {
    return known.number == call.spec.number && known.arg == i;
  });
}

void AppendNumber(uint64_t value, std::string* out) {
  // An int that is negative was extended by some clients and not by others.
  const int64_t number =
      value >> 32 == 0 ? static_cast<int32_t>(value) : static_cast<int64_t>(value);
  if (number >= -4096 && number < 65536) {
    absl::StrAppend(out, number);
  } else {
    absl::StrAppendFormat(out, "%#x", value);
  }
}

void AppendPointer(uint64_t addr, std::string* out) {
  if (addr == 0) {
    absl::StrAppend(out, "NULL");
  } else {
    absl::StrAppendFormat(out, "%#x", addr);
  }
}

// `size`: of the whole string, of which `head` is the start.
void AppendQuoted(std::string_view head, uint64_t size, std::string* out) {
  out->push_back('"');
  for (const char c : head.substr(0, kMaxShown)) {
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (c == '\n') {
      out->append("\\n");
    } else if (c >= ' ' && c <= '~') {
      out->push_back(c);
    } else {
      absl::StrAppendFormat(out, "\\x%02x", static_cast<unsigned char>(c));
    }
  }
  out->append(size > kMaxShown ? "\"..." : "\"");
}

template <typename T>
bool Load(std::string_view bytes, T* value) {
  if (bytes.size() < sizeof *value) return false;
  memcpy(value, bytes.data(), sizeof *value);
  return true;
}

void AppendAddress(std::string_view bytes, std::string* out) {
  sa_family_t family = AF_UNSPEC;
  (void)Load(bytes, &family);
  char text[INET6_ADDRSTRLEN];
  if (sockaddr_in in; family == AF_INET && Load(bytes, &in)) {
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    absl::StrAppendFormat(out, "{AF_INET, %s:%d}", text, ntohs(in.sin_port));
  } else if (sockaddr_in6 in6; family == AF_INET6 && Load(bytes, &in6)) {
    inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof text);
    absl::StrAppendFormat(out, "{AF_INET6, [%s]:%d}", text, ntohs(in6.sin6_port));
  } else if (family == AF_UNIX && bytes.size() >= sizeof family) {
    std::string_view path = bytes.substr(sizeof family);
    // A name with a NUL in front is abstract: all of it counts.
    if (!path.starts_with('\0')) path = path.substr(0, path.find('\0'));
    absl::StrAppend(out, "{AF_UNIX, ");
    AppendQuoted(path, path.size(), out);
    absl::StrAppend(out, "}");
  } else {
    AppendQuoted(bytes, bytes.size(), out);
  }
}

// Structures whose fields nobody told us: as ints if they are short, as 64-bit words if they may
// be.
void AppendWords(std::string_view bytes, uint64_t size, std::string* out) {
  if (bytes.size() < size || size % 4 != 0) return AppendQuoted(bytes, size, out);
  const bool ints = size % 8 != 0 || size == 8;
  out->push_back('[');
  for (size_t at = 0; at < size; at += ints ? 4 : 8) {
    if (at > 0) absl::StrAppend(out, ", ");
    uint64_t word = 0;
    memcpy(&word, bytes.data() + at, ints ? 4 : 8);
    AppendNumber(word, out);
  }
  out->push_back(']');
}

void AppendIovecs(const CallView& call, uint64_t addr, uint64_t count, std::string* out) {
  const SeenMemory::Piece* vectors = call.memory.Find(addr);
  if (vectors == nullptr) return AppendPointer(addr, out);
  out->push_back('[');
  std::string_view head = vectors->head;
  iovec vector;
  for (uint64_t i = 0; i < count; ++i) {
    if (i > 0) absl::StrAppend(out, ", ");
    if (!Load(head, &vector)) {
      absl::StrAppend(out, "...");
      break;
    }
    head.remove_prefix(sizeof vector);
    const auto base = reinterpret_cast<uintptr_t>(vector.iov_base);
    absl::StrAppend(out, "{");
    if (const SeenMemory::Piece* data = call.memory.Find(base); data != nullptr) {
      AppendQuoted(data->head, data->size, out);
    } else {
      AppendPointer(base, out);
    }
    absl::StrAppend(out, ", ", vector.iov_len, "}");
  }
  out->push_back(']');
}

void DecodeInt(const CallView& call, size_t i, std::string* out) {
  AppendNumber(call.args[i], out);
}

void DecodeFd(const CallView& call, size_t i, std::string* out) {
  const uint64_t fd = call.args[i];
  if (fd >= kFirstObjectId && static_cast<int64_t>(fd) >= 0) {
    absl::StrAppendFormat(out, "object %#x", fd);
  } else {
    absl::StrAppend(out, static_cast<int>(fd));
  }
}

void DecodeSize(const CallView& call, size_t i, std::string* out) {
  absl::StrAppend(out, call.args[i]);
}

void DecodeBytes(const CallView& call, size_t i, std::string* out) {
  const SeenMemory::Piece* piece = call.memory.Find(call.args[i]);
  if (piece == nullptr) {
    AppendPointer(call.args[i], out);
  } else if (IsAddress(call, i)) {
    AppendAddress(piece->head, out);
  } else if (call.spec.number == SYS_setsockopt || call.spec.number == SYS_getsockopt) {
    AppendWords(piece->head, piece->size, out);
  } else {
    AppendQuoted(piece->head, piece->size, out);
  }
}

void DecodeWords(const CallView& call, size_t i, std::string* out) {
  const SeenMemory::Piece* piece = call.memory.Find(call.args[i]);
  if (piece == nullptr) return AppendPointer(call.args[i], out);
  AppendWords(piece->head, piece->size, out);
}

void DecodeString(const CallView& call, size_t i, std::string* out) {
  const SeenMemory::Piece* piece = call.memory.Find(call.args[i]);
  if (piece == nullptr) return AppendPointer(call.args[i], out);
  const std::string_view text = std::string_view(piece->head).substr(0, piece->head.find('\0'));
  AppendQuoted(text, text.size(), out);
}

void DecodeIovecs(const CallView& call, size_t i, std::string* out) {
  const size_t count = call.spec.args[i].n;
  AppendIovecs(call, call.args[i], count < call.args.size() ? call.args[count] : 0, out);
}

void DecodeMessage(const CallView& call, size_t i, std::string* out) {
  const SeenMemory::Piece* piece = call.memory.Find(call.args[i]);
  msghdr message;
  if (piece == nullptr || !Load(piece->head, &message)) return AppendPointer(call.args[i], out);
  absl::StrAppend(out, "{name=");
  const auto name = reinterpret_cast<uintptr_t>(message.msg_name);
  if (const SeenMemory::Piece* address = call.memory.Find(name); address != nullptr) {
    AppendAddress(address->head, out);
  } else {
    AppendPointer(name, out);
  }
  absl::StrAppend(out, ", iov=");
  AppendIovecs(call, reinterpret_cast<uintptr_t>(message.msg_iov), message.msg_iovlen, out);
  absl::StrAppend(out, ", controllen=", message.msg_controllen);
  absl::StrAppendFormat(out, ", flags=%#x}", message.msg_flags);
}

constexpr struct {
  ArgKind kind;
  Decoder decode;
} kDecoders[] = {
    {ArgKind::kInt, DecodeInt},
    {ArgKind::kFd, DecodeFd},
    {ArgKind::kSize, DecodeSize},
    {ArgKind::kIn, DecodeBytes},
    {ArgKind::kOut, DecodeBytes},
    {ArgKind::kInFixed, DecodeWords},
    {ArgKind::kOutFixed, DecodeWords},
    {ArgKind::kIoctl, DecodeWords},
    {ArgKind::kInStr, DecodeString},
    {ArgKind::kOutSize, DecodeWords},
    {ArgKind::kOutBySize, DecodeBytes},
    {ArgKind::kInIov, DecodeIovecs},
    {ArgKind::kOutIov, DecodeIovecs},
    {ArgKind::kInMsg, DecodeMessage},
    {ArgKind::kOutMsg, DecodeMessage},
    {ArgKind::kInOutFixed, DecodeWords},
    {ArgKind::kOutArray, DecodeWords},
    {ArgKind::kInOutArray, DecodeWords},
    {ArgKind::kFdSet, DecodeWords},
    // Of several messages the first is shown.
    {ArgKind::kInMsgs, DecodeMessage},
    {ArgKind::kOutMsgs, DecodeMessage},
};

Decoder FindDecoder(ArgKind kind) {
  const auto* const found =
      std::ranges::find(kDecoders, kind, [](const auto& d) { return d.kind; });
  return found == std::end(kDecoders) ? nullptr : found->decode;
}

void AppendOutcome(const CallOutcome& outcome, std::string* out) {
  if (outcome.error.ok()) {
    // Beyond int there are object ids and addresses.
    if (outcome.result <= INT32_MAX) {
      absl::StrAppend(out, " = ", outcome.result);
    } else {
      absl::StrAppendFormat(out, " = %#x", outcome.result);
    }
    return;
  }
  const char* name = strerrorname_np(outcome.error.value());
  const char* text = strerrordesc_np(outcome.error.value());
  absl::StrAppend(out, " = -1 ", name != nullptr ? name : absl::StrCat(outcome.error.value()), " (",
                  text != nullptr ? text : "unknown error", ")");
}

}  // namespace

void SeenMemory::Add(uint64_t addr, std::span<const std::byte> data) {
  // The ends of a call's memory matter least.
  if (pieces_.size() >= kMaxPieces) return;
  pieces_.push_back(
      {addr, data.size(),
       std::string(reinterpret_cast<const char*>(data.data()), std::min(data.size(), kMaxHead))});
}

const SeenMemory::Piece* SeenMemory::Find(uint64_t addr) const {
  const auto found = std::ranges::find(pieces_.rbegin(), pieces_.rend(), addr, &Piece::addr);
  return found == pieces_.rend() ? nullptr : &*found;
}

std::string FormatCall(uint32_t number, std::span<const uint64_t> args, const SeenMemory& memory,
                       const CallOutcome& outcome) {
  const SyscallSpec* spec = FindSyscall(number);
  std::string line = spec != nullptr ? std::string(spec->name) : absl::StrCat("syscall_", number);
  line.push_back('(');
  const size_t shown = spec != nullptr ? std::min<size_t>(args.size(), spec->nargs) : args.size();
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) absl::StrAppend(&line, ", ");
    const Decoder decode = spec != nullptr ? FindDecoder(spec->args[i].kind) : nullptr;
    if (decode != nullptr) {
      decode(CallView{*spec, args, memory}, i, &line);
    } else {
      absl::StrAppendFormat(&line, "%#x", args[i]);
    }
  }
  line.push_back(')');
  AppendOutcome(outcome, &line);
  return line;
}

bool HasTraceDecoder(ArgKind kind) { return FindDecoder(kind) != nullptr; }

}  // namespace rump
