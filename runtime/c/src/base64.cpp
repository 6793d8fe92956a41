#include "base64.h"

#include <algorithm>

#include "text.h"
#include "unreadable.h"

namespace lstm_edge::device {
namespace {

// The value of a character; -1 if it is none of the alphabet.
int value_of(char character) {
  if (character >= 'A' && character <= 'Z') return character - 'A';
  if (character >= 'a' && character <= 'z') return character - 'a' + 26;
  if (character >= '0' && character <= '9') return character - '0' + 52;
  return character == '+' ? 62 : character == '/' ? 63 : -1;
}

[[noreturn]] void refuse(const std::string& message) { throw Unreadable("Error(" + repr(message) + ")"); }

}  // namespace

// The rules of CPython's binascii.a2b_base64 in strict mode, in its order.
std::string decode_base64(std::string_view text) {
  if (std::any_of(text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) > 127; })) {
    throw Unreadable("ValueError('string argument should contain only ASCII characters')");
  }
  if (!text.empty() && text[0] == '=') refuse("Leading padding not allowed");
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  int place = 0;  // within four characters
  int pads = 0;
  bool padded = false;
  unsigned kept = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '=') {
      padded = true;
      if (place >= 2 && place + ++pads >= 4) {
        if (i + 1 < text.size()) refuse("Excess data after padding");
        return bytes;
      }
      continue;
    }
    const int value = value_of(text[i]);
    if (value < 0) refuse("Only base64 data is allowed");
    if (padded) refuse("Discontinuous padding not allowed");
    kept = (kept << 6 | unsigned(value)) & 0xffffff;
    place = (place + 1) % 4;
    if (place != 1) bytes += char(kept >> (place == 2 ? 4 : place == 3 ? 2 : 0) & 0xff);
  }
  if (place == 1) {
    const size_t characters = bytes.size() / 3 * 4 + 1;
    refuse("Invalid base64-encoded string: number of data characters (" + std::to_string(characters) +
           ") cannot be 1 more than a multiple of 4");
  }
  if (place != 0) refuse("Incorrect padding");
  return bytes;
}

}  // namespace lstm_edge::device
