// Reading and writing short texts without libc, for code that runs inside other people's programs:
// no allocation, no locale, no exceptions.
#ifndef PROTOCOL_TEXT_H_
#define PROTOCOL_TEXT_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <span>
#include <string_view>

namespace rump {

inline bool StartsWith(std::string_view text, std::string_view prefix) {
  return prefix.empty() ||
         (text.size() >= prefix.size() && memcmp(text.data(), prefix.data(), prefix.size()) == 0);
}

// Cuts `prefix` off the front of *text. False, and *text is left as it is, if it is not there.
inline bool Skip(std::string_view* text, std::string_view prefix) {
  if (!StartsWith(*text, prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// Where `wanted` first stands in `text`; text.size() if nowhere.
inline size_t IndexOf(std::string_view text, char wanted) {
  size_t i = 0;
  while (i < text.size() && text[i] != wanted) ++i;
  return i;
}

// Cuts the part before the first `separator` off *text, the separator too, and returns it: all of
// *text if there is none.
inline std::string_view TakeUntil(std::string_view* text, char separator) {
  const size_t length = IndexOf(*text, separator);
  const std::string_view part(text->data(), length);
  text->remove_prefix(length == text->size() ? length : length + 1);
  return part;
}

// Reads all of `text` as a decimal number of at most `max`, digits only.
inline bool ParseDecimal(std::string_view text, uint32_t max, uint32_t* value) {
  uint64_t sum = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    sum = sum * 10 + static_cast<uint64_t>(c - '0');
    if (sum > max) return false;
  }
  *value = static_cast<uint32_t>(sum);
  return !text.empty();
}

// Puts text behind text in a buffer, and remembers when it ran out of room.
class TextWriter {
 public:
  explicit TextWriter(std::span<char> out) : out_(out) {}

  TextWriter& operator<<(std::string_view text) {
    const size_t room = out_.size() - size_;
    const size_t length = text.size() <= room ? text.size() : room;
    if (length < text.size()) fits_ = false;
    if (length > 0) memcpy(out_.data() + size_, text.data(), length);
    size_ += length;
    return *this;
  }
  TextWriter& operator<<(uint32_t number) { return Number(number, 10); }
  TextWriter& Hex(uint32_t number) { return Number(number, 16); }

  size_t size() const { return size_; }
  // False if something was cut.
  bool fits() const { return fits_; }

 private:
  TextWriter& Number(uint32_t number, uint32_t base) {
    char digits[10];
    char* const end = digits + sizeof(digits);
    char* first = end;
    do {
      *--first = "0123456789abcdef"[number % base];
      number /= base;
    } while (number != 0);
    return *this << std::string_view(first, static_cast<size_t>(end - first));
  }

  std::span<char> out_;
  size_t size_ = 0;
  bool fits_ = true;
};

}  // namespace rump

#endif  // PROTOCOL_TEXT_H_
