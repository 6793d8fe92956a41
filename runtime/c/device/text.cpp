#include "text.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace device_program {
namespace {

// Appends digits ("12345") with the exponent of the first one, in the form that Python's repr chooses.
void append_digits(std::string& text, std::string_view digits, int exponent) {
  if (exponent < -4 || exponent >= 16) {
    text += digits[0];
    if (digits.size() > 1) (text += '.') += digits.substr(1);
    char suffix[8];
    std::snprintf(suffix, sizeof suffix, "e%+03d", exponent);
    text += suffix;
  } else if (exponent < 0) {
    text.append("0.").append(size_t(-exponent - 1), '0') += digits;
  } else if (digits.size() <= size_t(exponent) + 1) {
    text.append(digits).append(size_t(exponent) + 1 - digits.size(), '0') += ".0";
  } else {
    text.append(digits.substr(0, size_t(exponent) + 1)).append(1, '.') += digits.substr(size_t(exponent) + 1);
  }
}

// Appends a number that is written as "-1.2345e-06".
void append_scientific(std::string& text, std::string_view written) {
  if (written[0] == '-') {
    text += '-';
    written.remove_prefix(1);
  }
  const size_t mark = written.find('e');
  std::string digits(1, written[0]);
  if (mark > 2) digits += written.substr(2, mark - 2);
  while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
  append_digits(text, digits, std::atoi(std::string(written.substr(mark + 1)).c_str()));
}

double read_back(const char* text, double) { return std::strtod(text, nullptr); }
float read_back(const char* text, float) { return std::strtof(text, nullptr); }

// Writes a number with so many digits as "1.234e-05".
template <typename T>
bool reads_back(T value, int digits, char (&text)[40]) {
  std::snprintf(text, sizeof text, "%.*e", digits - 1, double(value));
  if (read_back(text, value) == value) return true;
  // Below a power of two its neighbour is half as far: a text that is a little further, above, may read back.
  int exponent;
  if (std::fabs(std::frexp(value, &exponent)) != T(0.5)) return false;
  char* last = std::strchr(text, 'e') - 1;
  for (; last >= text && (*last == '9' || *last == '.'); --last) {
    if (*last == '9') *last = '0';
  }
  if (last < text || *last == '-') return false;  // another power of ten, which has fewer digits
  ++*last;
  return read_back(text, value) == value;
}

// std::to_chars does this too, with tables of 140 KB.
template <typename T>
void append_shortest(std::string& text, T value) {
  if (!std::isfinite(value)) {
    text += "null";
    return;
  }
  // So many digits always survive from decimal to binary and back; most numbers need more.
  constexpr int kSafe = std::numeric_limits<T>::digits10;
  char written[40];
  const bool few = reads_back(value, kSafe, written);
  for (int digits = few ? 1 : kSafe + 1; !reads_back(value, digits, written); ++digits) {
  }
  append_scientific(text, written);
}

// The next code point of UTF-8 text and its bytes; a byte that is not UTF-8 gives U+DC00 + byte, as Python's
// surrogateescape.
uint32_t next_character(std::string_view text, size_t at, size_t& bytes) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? uint8_t(text[at + i]) : 0u; };
  const uint32_t first = byte(0);
  bytes = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
  uint32_t code = bytes == 1 ? first : bytes == 0 ? 0 : first & (0x7fu >> bytes);
  bool valid = bytes > 0;
  for (size_t i = 1; i < bytes; ++i) {
    valid = valid && byte(i) >> 6 == 2;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (!valid || code < kLeast[bytes] || code > 0x10ffff || code >> 11 == 0x1b) {
    bytes = 1;
    return 0xdc00 + first;
  }
  return code;
}

struct Range {
  uint32_t first, last;
};

// Controls, separators other than the space, marks that reorder or hide text, surrogates and private use.
constexpr Range kHidden[] = {
    {0x0, 0x1f},        {0x7f, 0xa0},       {0xad, 0xad},        {0x600, 0x605},     {0x61c, 0x61c},
    {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x1680, 0x1680},    {0x180e, 0x180e},   {0x2000, 0x200f},
    {0x2028, 0x202f},   {0x205f, 0x206f},   {0x3000, 0x3000},    {0xd800, 0xf8ff},   {0xfeff, 0xfeff},
    {0xfff0, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd},  {0x110cd, 0x110cd}, {0x13430, 0x1343f},
    {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0x10ffff},
};

bool is_hidden(uint32_t code) {
  for (const Range& range : kHidden) {
    if (code >= range.first && code <= range.last) return true;
  }
  return false;
}

void append_unit(std::string& text, uint32_t unit) {
  char escape[8];
  std::snprintf(escape, sizeof escape, "\\u%04x", unit);
  text += escape;
}

}  // namespace

void append_number(std::string& text, float value) { append_shortest(text, value); }

void append_number(std::string& text, double value) { append_shortest(text, value); }

double float16_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const double size = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                      : exponent == 0 ? std::ldexp(fraction, -24)
                                      : std::ldexp(fraction + 1024, exponent - 25);
  return bits >> 15 != 0 ? -size : size;
}

uint16_t to_float16(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(value);
  if (std::isnan(value)) return uint16_t(sign | 0x7e00);
  if (size >= 65520.0) return uint16_t(sign | 0x7c00);
  const int exponent = size < std::ldexp(1.0, -14) ? -14 : std::ilogb(size);
  // Bits of a float16 count evenly within and across exponents, so rounding may carry into the exponent.
  const auto units = uint32_t(std::nearbyint(std::ldexp(size, 10 - exponent)));
  const uint32_t bits = units < 1024 ? units : units + (uint32_t(exponent + 14) << 10);
  return uint16_t(sign | bits);
}

void append_float16(std::string& text, uint16_t bits) {
  const double value = float16_value(bits);
  if (!std::isfinite(value)) {
    text += "null";
    return;
  }
  char written[32] = "";
  for (int digits = 0; digits < 6; ++digits) {
    std::snprintf(written, sizeof written, "%.*e", digits, value);
    if (to_float16(std::strtod(written, nullptr)) == bits) break;
  }
  append_scientific(text, written);
}

void append_json_string(std::string& text, std::string_view value) {
  constexpr std::string_view kPlain = "\"\\\b\f\n\r\t";
  constexpr std::string_view kLetter = "\"\\bfnrt";
  text += '"';
  for (char c : value) {
    const size_t at = kPlain.find(c);
    if (at != std::string_view::npos) {
      (text += '\\') += kLetter[at];
    } else if (uint8_t(c) < 0x20) {
      append_unit(text, uint8_t(c));
    } else {
      text += c;
    }
  }
  text += '"';
}

std::string quoted(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string shown(1, quote);
  for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
    const uint32_t code = next_character(text, at, bytes);
    char escape[12] = "";
    if (code == '\n' || code == '\r' || code == '\t') {
      std::snprintf(escape, sizeof escape, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
    } else if (code == '\\' || code == uint8_t(quote)) {
      std::snprintf(escape, sizeof escape, "\\%c", char(code));
    } else if (is_hidden(code)) {
      std::snprintf(escape, sizeof escape, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
    }
    if (escape[0] != 0) {
      shown += escape;
    } else {
      shown += text.substr(at, bytes);
    }
  }
  return shown + quote;
}

std::string grouped(int64_t value) {
  std::string digits = std::to_string(value);
  for (size_t at = digits.size(); at > (value < 0 ? 4u : 3u);) digits.insert(at -= 3, 1, ',');
  return digits;
}

std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string printable(std::string_view text) {
  std::string shown;
  for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
    const uint32_t code = next_character(text, at, bytes);
    if (code == '\n' || !is_hidden(code)) {
      shown += text.substr(at, bytes);
    } else if (code < 0x10000) {
      append_unit(shown, code);
    } else {
      append_unit(shown, 0xd800 + ((code - 0x10000) >> 10));
      append_unit(shown, 0xdc00 + ((code - 0x10000) & 0x3ff));
    }
  }
  return shown;
}

void print_error(std::string_view sentence) {
  std::string line = "error:";
  bool between = true;
  for (char c : sentence) {
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    if (!space && between) line += ' ';
    if (!space) line += c;
    between = space;
  }
  line = printable(line) + "\n";
  // Standard error may be closed too; the exit code still says what happened.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string wrapped(std::string_view text) {
  std::string shown;
  size_t column = 0;
  while (!text.empty()) {
    const size_t end = text.find(' ');
    const std::string_view word = text.substr(0, end);
    size_t width = 0;
    for (char c : word) width += (uint8_t(c) & 0xc0) != 0x80;
    if (column > 0 && column + 1 + width > 80) {
      shown += "\n  ";
      column = 2;
    } else if (column > 0) {
      shown += ' ';
      ++column;
    }
    shown += word;
    column += width;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return shown;
}

}  // namespace device_program
