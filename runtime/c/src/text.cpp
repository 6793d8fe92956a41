#include "text.h"

#include <locale.h>
#include <stdlib.h>

#include <cmath>
#include <cstdio>
#include <cstring>

#include "printable.h"

namespace lstm_edge::device {
namespace {

constexpr size_t kShown = 60;
constexpr char32_t kFirstSurrogate = 0xd800, kLastSurrogate = 0xdfff;
constexpr char kHex[] = "0123456789abcdef";

void append_hex(std::string& text, uint32_t value, int digits) {
  while (digits-- > 0) text += kHex[(value >> (4 * digits)) & 15];
}

void append_escaped(std::string& text, char32_t character) {
  if (character < 0x100) {
    text += "\\x";
    append_hex(text, character, 2);
  } else if (character < 0x10000) {
    text += "\\u";
    append_hex(text, character, 4);
  } else {
    text += "\\U";
    append_hex(text, character, 8);
  }
}

// What repr of str and of bytes write alike; false for other characters.
bool append_common(std::string& text, char32_t character, char quote) {
  switch (character) {
    case '\t': text += "\\t"; return true;
    case '\n': text += "\\n"; return true;
    case '\r': text += "\\r"; return true;
    case '\\': text += "\\\\"; return true;
    default: break;
  }
  if (character >= 0x7f || character < 0x20) return false;
  if (character == char32_t(quote)) text += '\\';
  text += char(character);
  return true;
}

char quote_of(std::string_view text) {
  return text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
}

std::string quoted(std::string_view text, bool ascii_only) {
  const char quote = quote_of(text);
  std::string shown(1, quote);
  for (size_t at = 0; at < text.size();) {
    const char32_t character = next_character(text, at);
    if (append_common(shown, character, quote)) continue;
    if (ascii_only || character < 0x80 || !is_printable(character)) {
      append_escaped(shown, character);
    } else {
      append_character(shown, character);
    }
  }
  return shown + quote;
}

// Bytes of the UTF-8 sequence that a byte begins; 0 if none does.
int sequence_bytes(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return 2;
  if (first < 0xf0) return 3;
  return first < 0xf5 ? 4 : 0;
}

// Whether a second byte may follow the first one; surrogates have first byte 0xed.
bool may_follow(unsigned char first, unsigned char second, bool surrogates) {
  if ((second & 0xc0) != 0x80) return false;
  if (first == 0xe0) return second >= 0xa0;
  if (first == 0xed) return surrogates || second < 0xa0;
  if (first == 0xf0) return second >= 0x90;
  return first != 0xf4 || second < 0x90;
}

// How many bytes at text[at] are a sequence's valid start, at most `wanted`, its length.
int valid_bytes(std::string_view text, size_t at, int wanted, bool surrogates) {
  int valid = 1;
  while (valid < wanted && at + size_t(valid) < text.size()) {
    const auto first = static_cast<unsigned char>(text[at]);
    const auto next = static_cast<unsigned char>(text[at + size_t(valid)]);
    if (valid == 1 ? !may_follow(first, next, surrogates) : (next & 0xc0) != 0x80) break;
    ++valid;
  }
  return valid;
}

locale_t c_locale() {
  static const locale_t locale = newlocale(LC_ALL_MASK, "C", nullptr);
  return locale;
}

// The digits of a finite number without the point, and the exponent of its first digit.
struct Decimal {
  std::string digits;
  int exponent = 0;
};

Decimal rounded(double magnitude, int digits) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*e", digits - 1, magnitude);
  Decimal decimal;
  const char* at = buffer;
  // The decimal point depends on the locale.
  for (; *at != 'e' && *at != 0; ++at) {
    if (*at >= '0' && *at <= '9') decimal.digits += *at;
  }
  decimal.exponent = *at == 'e' ? std::atoi(at + 1) : 0;
  return decimal;
}

double value_of(const Decimal& decimal) {
  return parse_float(decimal.digits + "e" + std::to_string(decimal.exponent + 1 - int(decimal.digits.size())));
}

// The next larger number with as many digits.
Decimal above(Decimal decimal) {
  for (size_t i = decimal.digits.size(); i-- > 0;) {
    if (decimal.digits[i] != '9') {
      ++decimal.digits[i];
      return decimal;
    }
    decimal.digits[i] = '0';
  }
  decimal.digits.insert(decimal.digits.begin(), '1');
  decimal.digits.pop_back();
  ++decimal.exponent;
  return decimal;
}

Decimal shortest(double magnitude) {
  int exponent = 0;
  // Below a power of two the numbers are closer together than above it.
  const bool power_of_two = std::frexp(magnitude, &exponent) == 0.5;
  for (int digits = 1; digits < 17; ++digits) {
    const Decimal decimal = rounded(magnitude, digits);
    if (value_of(decimal) == magnitude) return decimal;
    if (power_of_two && value_of(above(decimal)) == magnitude) return above(decimal);
  }
  return rounded(magnitude, 17);
}

void strip_zeros(std::string& digits) {
  while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
}

std::string exponent_text(const Decimal& decimal) {
  std::string text(1, decimal.digits[0]);
  if (decimal.digits.size() > 1) text += "." + decimal.digits.substr(1);
  const int magnitude = std::abs(decimal.exponent);
  text += decimal.exponent < 0 ? "e-" : "e+";
  return text + (magnitude < 10 ? "0" : "") + std::to_string(magnitude);
}

std::string fixed_text(const Decimal& decimal) {
  const int exponent = decimal.exponent;
  if (exponent < 0) return "0." + std::string(size_t(-exponent - 1), '0') + decimal.digits;
  std::string digits = decimal.digits;
  const size_t whole = size_t(exponent) + 1;
  if (digits.size() <= whole) return digits + std::string(whole - digits.size(), '0');
  return digits.insert(whole, ".");
}

std::string not_finite(double value) {
  if (std::isnan(value)) return "nan";
  return value < 0 ? "-inf" : "inf";
}

}  // namespace

std::string repr(std::string_view text) { return quoted(text, false); }

std::string ascii(std::string_view text) { return quoted(text, true); }

std::string repr_of_bytes(std::string_view bytes) {
  const char quote = quote_of(bytes);
  std::string shown = {'b', quote};
  for (const char byte : bytes) {
    const auto character = static_cast<unsigned char>(byte);
    if (!append_common(shown, character, quote)) append_escaped(shown, character);
  }
  return shown + quote;
}

std::string float_text(double value) {
  if (!std::isfinite(value)) return not_finite(value);
  const std::string sign = std::signbit(value) ? "-" : "";
  if (value == 0) return sign + "0.0";
  Decimal decimal = shortest(std::fabs(value));
  strip_zeros(decimal.digits);
  if (decimal.exponent < -4 || decimal.exponent >= 16) return sign + exponent_text(decimal);
  const std::string text = fixed_text(decimal);
  return sign + text + (text.find('.') == std::string::npos ? ".0" : "");
}

std::string general(double value, int digits) {
  if (!std::isfinite(value)) return not_finite(value);
  const std::string sign = std::signbit(value) ? "-" : "";
  if (value == 0) return sign + "0";
  Decimal decimal = rounded(std::fabs(value), digits);
  strip_zeros(decimal.digits);
  const bool fixed = decimal.exponent >= -4 && decimal.exponent < digits;
  return sign + (fixed ? fixed_text(decimal) : exponent_text(decimal));
}

std::string with_commas(std::string_view digits) {
  std::string text;
  const bool negative = !digits.empty() && digits[0] == '-';
  if (negative) digits.remove_prefix(1);
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return (negative ? "-" : "") + text;
}

std::string with_commas(int64_t value) { return with_commas(std::string_view(std::to_string(value))); }

std::string with_commas_unsigned(uint64_t value) { return with_commas(std::string_view(std::to_string(value))); }

std::string joined(const std::vector<std::string>& names, std::string_view separator) {
  std::string text;
  for (const std::string& name : names) {
    if (&name != &names.front()) text += separator;
    text += name;
  }
  return text;
}

std::string axes_text(const std::vector<std::variant<int64_t, std::string>>& axes) {
  std::vector<std::string> shown;
  for (const auto& axis : axes) {
    const auto* size = std::get_if<int64_t>(&axis);
    shown.push_back(size != nullptr ? std::to_string(*size) : repr(std::get<std::string>(axis)));
  }
  return "[" + joined(shown) + "]";
}

std::string shortened(std::string shown) {
  if (character_count(shown) <= kShown) return shown;
  return std::string(first_characters(shown, kShown - 3)) + "...";
}

std::string_view first_characters(std::string_view text, size_t count) {
  size_t at = 0;
  while (count-- > 0 && at < text.size()) next_character(text, at);
  return text.substr(0, at);
}

size_t character_count(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) next_character(text, at);
  return count;
}

char32_t next_character(std::string_view text, size_t& at) {
  const auto first = static_cast<unsigned char>(text[at]);
  const int wanted = sequence_bytes(first);
  if (wanted == 1 || wanted == 0 || valid_bytes(text, at, wanted, true) != wanted) {
    ++at;
    return first < 0x80 ? char32_t(first) : 0xdc00 + char32_t(first);
  }
  char32_t character = first & (0xffu >> (wanted + 1));
  for (int i = 1; i < wanted; ++i) character = character << 6 | (static_cast<unsigned char>(text[at + size_t(i)]) & 63);
  at += size_t(wanted);
  return character;
}

void append_character(std::string& text, char32_t character) {
  if (character < 0x80) {
    text += char(character);
    return;
  }
  const int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
  text += char((0xff80 >> more & 0xff) | character >> (6 * more));
  for (int i = more - 1; i >= 0; --i) text += char(0x80 | (character >> (6 * i) & 63));
}

bool is_printable_text(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (!is_printable(next_character(text, at))) return false;
  }
  return true;
}

std::string printable_text(std::string_view bytes) {
  std::string shown;
  for (size_t at = 0; at < bytes.size();) {
    const size_t start = at;
    const char32_t character = next_character(bytes, at);
    if (character == '\t' || character == '\n' || character == '\r') {
      append_common(shown, character, '"');
    } else if (is_printable(character)) {
      append_character(shown, character);
    } else if (character >= kFirstSurrogate && character <= kLastSurrogate) {
      for (const char byte : bytes.substr(start, at - start)) append_escaped(shown, static_cast<unsigned char>(byte));
    } else {
      append_escaped(shown, character);
    }
  }
  return shown;
}

bool is_utf8(std::string_view bytes) { return !utf8_error(bytes).has_value(); }

std::optional<std::string> utf8_error(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const auto first = static_cast<unsigned char>(bytes[at]);
    const int wanted = sequence_bytes(first);
    const int valid = wanted == 0 ? 1 : valid_bytes(bytes, at, wanted, false);
    if (wanted == valid) {
      at += size_t(wanted);
      continue;
    }
    const bool ended = at + size_t(valid) == bytes.size();
    const char* why = wanted == 0 ? "invalid start byte"
                      : ended     ? "unexpected end of data"
                                  : "invalid continuation byte";
    std::string text = "'utf-8' codec can't decode byte";
    if (valid == 1) {
      text += " 0x";
      append_hex(text, first, 2);
      text += " in position " + std::to_string(at);
    } else {
      text += "s in position " + std::to_string(at) + "-" + std::to_string(at + size_t(valid) - 1);
    }
    return text + ": " + why;
  }
  return std::nullopt;
}

double parse_float(std::string_view text) { return strtod_l(std::string(text).c_str(), nullptr, c_locale()); }

}  // namespace lstm_edge::device
