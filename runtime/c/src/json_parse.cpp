#include <algorithm>
#include <cctype>
#include <limits>
#include <numeric>

#include "json.h"
#include "text.h"

namespace lstm_edge::device::json {
namespace {

constexpr int64_t kMostContainers = 1 << 20;
constexpr size_t kMostDigits = 4300;  // of an integer that Python turns into a number
constexpr size_t kSafeDigits = 18;    // of an integer that int64_t holds whatever they are

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// The scanner of CPython's _json.c, rule by rule: each refusal has its sentence and its position.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value document() {
    if (text_.substr(0, 3) == "\xef\xbb\xbf") refuse("Unexpected UTF-8 BOM (decode using utf-8-sig)", 0);
    skip_space();
    Value value = any(1);
    skip_space();
    if (at_ != text_.size()) refuse("Extra data", at_);
    return value;
  }

 private:
  [[noreturn]] void refuse(const char* what, size_t at) const {
    const std::string_view before = text_.substr(0, at);
    const size_t newline = before.rfind('\n');
    const size_t column = character_count(newline == std::string_view::npos ? before : before.substr(newline));
    throw Refused{"JSONDecodeError",
                  std::string(what) + ": line " + std::to_string(std::count(before.begin(), before.end(), '\n') + 1) +
                      " column " + std::to_string(newline == std::string_view::npos ? column + 1 : column) + " (char " +
                      std::to_string(character_count(before)) + ")"};
  }

  bool at_end() const { return at_ >= text_.size(); }
  bool next_is(char byte) const { return !at_end() && text_[at_] == byte; }
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void skip_space() {
    while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }

  Value any(int level) {
    if (at_end()) refuse("Expecting value", at_);
    const bool object = text_[at_] == '{';
    if (object || text_[at_] == '[') {
      if (level > kMostLevels) {
        throw Refused{"ValueError", std::string("maximum recursion depth exceeded while decoding a JSON ") +
                                        (object ? "object" : "array") + " from a unicode string"};
      }
      ++at_;
      return object ? members(level + 1) : items(level + 1);
    }
    if (take("\"")) return Value(string());
    if (take("null")) return Value();
    if (take("true")) return Value(true);
    if (take("false")) return Value(false);
    if (take("NaN")) return Value(std::numeric_limits<double>::quiet_NaN());
    if (take("Infinity")) return Value(std::numeric_limits<double>::infinity());
    if (take("-Infinity")) return Value(-std::numeric_limits<double>::infinity());
    return number();
  }

  Value items(int level) {
    List items;
    skip_space();
    while (!next_is(']')) {
      items.push_back(any(level));
      skip_space();
      if (next_is(']')) break;
      if (!next_is(',')) refuse("Expecting ',' delimiter", at_);
      ++at_;
      skip_space();
      if (next_is(']')) refuse("Expecting value", at_);
    }
    ++at_;
    items.shrink_to_fit();
    return Value(std::move(items));
  }

  Value members(int level) {
    Object members;
    skip_space();
    while (!(members.empty() && next_is('}'))) {
      if (!next_is('"')) refuse("Expecting property name enclosed in double quotes", at_);
      ++at_;
      std::string key = string();
      skip_space();
      if (!next_is(':')) refuse("Expecting ':' delimiter", at_);
      ++at_;
      skip_space();
      members.push_back({std::move(key), any(level)});
      skip_space();
      if (next_is('}')) break;
      if (!next_is(',')) refuse("Expecting ',' delimiter", at_);
      ++at_;
      skip_space();
    }
    ++at_;
    return Value(each_once(std::move(members)));
  }

  // A dict keeps the place of a key's first occurrence and its last value.
  static Object each_once(Object members) {
    std::vector<size_t> order(members.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return members[a].key < members[b].key; });
    std::vector<bool> dropped(members.size());
    bool repeated = false;
    for (size_t i = 0; i < order.size();) {
      size_t end = i + 1;
      while (end < order.size() && members[order[end]].key == members[order[i]].key) ++end;
      if (end > i + 1) members[order[i]].value = std::move(members[order[end - 1]].value);
      for (size_t j = i + 1; j < end; ++j) dropped[order[j]] = repeated = true;
      i = end;
    }
    if (!repeated) return members;
    Object kept;
    for (size_t i = 0; i < members.size(); ++i) {
      if (!dropped[i]) kept.push_back(std::move(members[i]));
    }
    return kept;
  }

  // The rest of a string whose opening quote was read.
  std::string string() {
    const size_t begin = at_ - 1;
    std::string result;
    while (true) {
      const size_t start = at_;
      while (!at_end() && text_[at_] != '"' && text_[at_] != '\\') {
        if (static_cast<unsigned char>(text_[at_]) < 0x20) refuse("Invalid control character at", at_);
        ++at_;
      }
      result += text_.substr(start, at_ - start);
      if (at_end()) refuse("Unterminated string starting at", begin);
      if (text_[at_++] == '"') return result;
      if (at_end()) refuse("Unterminated string starting at", begin);
      if (text_[at_] == 'u') {
        append_character(result, unicode_escape());
        continue;
      }
      const size_t found = std::string_view("\"\\/bfnrt").find(text_[at_]);
      if (found == std::string_view::npos) refuse("Invalid \\escape", at_ - 1);
      result += "\"\\/\b\f\n\r\t"[found];
      ++at_;
    }
  }

  // The character after a backslash, which text_[at_], a "u", begins.
  char32_t unicode_escape() {
    const size_t digits = ++at_;
    // As in CPython, the four digits may not end the text.
    if (characters_left(digits) <= 4) refuse("Invalid \\uXXXX escape", digits - 1);
    char32_t high = 0;
    if (!hex(digits, high)) refuse("Invalid \\uXXXX escape", digits - 1);
    at_ = digits + 4;
    const bool more = high >= 0xd800 && high < 0xdc00 && characters_left(at_) > 6 && text_.substr(at_, 2) == "\\u";
    if (!more) return high;
    char32_t low = 0;
    if (!hex(at_ + 2, low)) refuse("Invalid \\uXXXX escape", at_ + 1);
    if (low < 0xdc00 || low >= 0xe000) return high;
    at_ += 6;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }

  // Up to seven characters from a position.
  size_t characters_left(size_t at) const {
    size_t count = 0;
    while (at < text_.size() && count < 7) {
      next_character(text_, at);
      ++count;
    }
    return count;
  }

  bool hex(size_t at, char32_t& value) const {
    value = 0;
    for (size_t end = at + 4; at < end; ++at) {
      const char byte = at < text_.size() ? text_[at] : ' ';
      if (!std::isxdigit(static_cast<unsigned char>(byte))) return false;
      value = value << 4 | char32_t(is_digit(byte) ? byte - '0' : (byte | 0x20) - 'a' + 10);
    }
    return true;
  }

  void skip_digits() {
    while (!at_end() && is_digit(text_[at_])) ++at_;
  }

  Value number() {
    const size_t start = at_;
    if (text_[at_] == '-') ++at_;
    if (at_end() || !is_digit(text_[at_])) refuse("Expecting value", start);
    const size_t first = at_;
    if (text_[at_] == '0') {
      ++at_;
    } else {
      skip_digits();
    }
    const size_t whole_end = at_;
    bool whole = true;
    if (at_ + 1 < text_.size() && text_[at_] == '.' && is_digit(text_[at_ + 1])) {
      whole = false;
      ++at_;
      skip_digits();
    }
    if (at_ + 1 < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      const size_t before = at_++;
      if (at_ + 1 < text_.size() && (text_[at_] == '-' || text_[at_] == '+')) ++at_;
      skip_digits();
      if (is_digit(text_[at_ - 1])) {
        whole = false;
      } else {
        at_ = before;
      }
    }
    const std::string_view written = text_.substr(start, at_ - start);
    return whole ? integer(written, whole_end - first) : Value(parse_float(written));
  }

  static Value integer(std::string_view written, size_t digits) {
    if (digits > kMostDigits) {
      throw Refused{"ValueError", "Exceeds the limit (4300 digits) for integer string conversion: value has " +
                                      std::to_string(digits) +
                                      " digits; use sys.set_int_max_str_digits() to increase the limit"};
    }
    if (digits <= kSafeDigits) return Value(int64_t(std::stoll(std::string(written))));
    const bool negative = written[0] == '-';
    uint64_t magnitude = 0;
    for (const char digit : written.substr(negative ? 1 : 0)) {
      const bool over = __builtin_mul_overflow(magnitude, uint64_t(10), &magnitude) ||
                        __builtin_add_overflow(magnitude, uint64_t(digit - '0'), &magnitude);
      if (over) return Value(LargeInteger{std::string(written)});
    }
    const uint64_t most = uint64_t(INT64_MAX) + (negative ? 1 : 0);
    if (magnitude > most) return Value(LargeInteger{std::string(written)});
    return Value(int64_t(negative ? ~magnitude + 1 : magnitude));
  }

  std::string_view text_;
  size_t at_ = 0;
};

void check_limits(std::string_view text) {
  if (int64_t(text.size()) > kMostCharacters) {
    const auto characters = int64_t(character_count(text));
    if (characters > kMostCharacters) {
      throw Refused{"TooLargeError",
                    with_commas(characters) + " characters, at most " + with_commas(kMostCharacters) + " are read"};
    }
  }
  const int64_t found = std::count(text.begin(), text.end(), '[') + std::count(text.begin(), text.end(), '{');
  if (found > kMostContainers) {
    throw Refused{"TooLargeError", "it has " + with_commas(found) + " lists and objects, at most " +
                                       with_commas(kMostContainers) + " are read"};
  }
}

}  // namespace

Value parse(std::string_view text, bool limited) {
  if (limited) check_limits(text);
  return Parser(text).document();
}

}  // namespace lstm_edge::device::json
