#include "json_line.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "text.h"

namespace device_program {
namespace {

constexpr int64_t kMostContainers = 1 << 20;
// Python's json module stops at its limit of recursion, about a thousand; deeper lists fit no input.
constexpr int kDeepest = 900;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value document() {
    skip_space();
    Value value = read(0);
    skip_space();
    if (at_ < text_.size()) refuse("Extra data", at_);
    return value;
  }

 private:
  [[noreturn]] void refuse(const char* what, size_t where) const {
    size_t line = 1, column = 1, character = 0;
    for (size_t i = 0; i < where; ++i) {
      if ((uint8_t(text_[i]) & 0xc0) == 0x80) continue;  // not the first byte of a character
      ++character;
      ++column;
      if (text_[i] == '\n') ++line, column = 1;
    }
    throw BadLine("not a line of JSON (" + std::string(what) + ": line " + std::to_string(line) + " column " +
                  std::to_string(column) + " (char " + std::to_string(character) + "))");
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Value read(int depth) {
    if (depth > kDeepest) throw BadLine("not a line of JSON (maximum recursion depth exceeded)");
    Value value;
    if (peek() == '[') {
      read_list(value, depth);
    } else if (peek() == '{') {
      read_object(value, depth);
    } else {
      value.scalar = read_scalar();
    }
    return value;
  }

  Scalar read_scalar() {
    Scalar scalar;
    if (peek() == '"') {
      read_string();
    } else if (take("true") || take("false")) {
      scalar.kind = Scalar::kTruth;
      scalar.integer = text_[at_ - 2] == 'u';
    } else if (!take("null")) {
      refuse_constants();
      read_number(scalar);
    }
    return scalar;
  }

  void refuse_constants() {
    for (const char* name : {"NaN", "Infinity", "-Infinity"}) {
      if (take(name)) throw BadLine(std::string(name) + " is not JSON; every value must be a finite number");
    }
  }

  size_t digits(size_t from) const {
    while (from < text_.size() && text_[from] >= '0' && text_[from] <= '9') ++from;
    return from;
  }

  void read_number(Scalar& scalar) {
    const size_t begin = at_;
    size_t end = begin + (peek() == '-');
    const size_t whole = end;
    end = end < text_.size() && text_[end] == '0' ? end + 1 : digits(end);
    if (end == whole) refuse("Expecting value", begin);
    bool real = false;
    if (end < text_.size() && text_[end] == '.' && digits(end + 1) > end + 1) end = digits(end + 1), real = true;
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      const bool sign = end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-');
      if (digits(end + 1 + sign) > end + 1 + sign) end = digits(end + 1 + sign), real = true;
    }
    at_ = end;
    const char* first = text_.data() + begin;
    const char* last = text_.data() + end;
    if (!real) {
      scalar.kind = Scalar::kInteger;
      if (std::from_chars(first, last, scalar.integer).ec == std::errc()) return;
      scalar.kind = Scalar::kUnsigned;
      if (*first != '-' && std::from_chars(first, last, scalar.bits).ec == std::errc()) return;
      scalar.kind = Scalar::kOther;
      // Python refuses to read integers of more digits.
      if (end - whole > 4300) throw BadLine("not a line of JSON (an integer has more than 4,300 digits)");
      return;
    }
    // A copy: the line may end with the number, without a byte that stops strtod.
    scalar.kind = Scalar::kReal;
    scalar.real = std::strtod(std::string(first, last).c_str(), nullptr);
  }

  void read_list(Value& value, int depth) {
    value.kind = Value::kList;
    ++at_;
    skip_space();
    if (take("]")) return;
    for (;;) {
      const char next = peek();
      if (value.items.empty() && next != '[' && next != '{') {
        value.scalars.push_back(read_scalar());
      } else {
        for (const Scalar& scalar : value.scalars) value.items.emplace_back().scalar = scalar;
        value.scalars.clear();
        value.items.push_back(read(depth + 1));
      }
      skip_space();
      if (take("]")) return;
      if (!take(",")) refuse("Expecting ',' delimiter", at_);
      skip_space();
    }
  }

  void read_object(Value& value, int depth) {
    value.kind = Value::kObject;
    ++at_;
    skip_space();
    if (take("}")) return;
    for (;;) {
      if (peek() != '"') refuse("Expecting property name enclosed in double quotes", at_);
      std::string name = read_string();
      skip_space();
      if (!take(":")) refuse("Expecting ':' delimiter", at_);
      skip_space();
      Value member = read(depth + 1);
      set(value, std::move(name), std::move(member));
      skip_space();
      if (take("}")) return;
      if (!take(",")) refuse("Expecting ',' delimiter", at_);
      skip_space();
    }
  }

  // Of members of one name the last one counts, as in Python.
  static void set(Value& object, std::string name, Value member) {
    for (auto& known : object.members) {
      if (known.first == name) {
        known.second = std::move(member);
        return;
      }
    }
    object.members.emplace_back(std::move(name), std::move(member));
  }

  std::string read_string() {
    const size_t begin = at_++;
    std::string read;
    for (;;) {
      if (at_ >= text_.size()) refuse("Unterminated string starting at", begin);
      const char c = text_[at_];
      if (c == '"') break;
      if (uint8_t(c) < 0x20) refuse("Invalid control character at", at_);
      if (c == '\\') {
        read_escape(read, begin);
      } else {
        read += c;
        ++at_;
      }
    }
    ++at_;
    return read;
  }

  void read_escape(std::string& read, size_t begin) {
    const size_t where = at_++;
    if (at_ >= text_.size()) refuse("Unterminated string starting at", begin);
    const size_t which = std::string_view("\"\\/bfnrt").find(text_[at_]);
    if (which != std::string_view::npos) {
      read += "\"\\/\b\f\n\r\t"[which];
      ++at_;
      return;
    }
    if (text_[at_] != 'u') refuse("Invalid \\escape", where);
    ++at_;
    uint32_t code = read_unit();
    if (code >> 10 == 0x36 && text_.substr(at_, 2) == "\\u") {
      const size_t before = at_;
      at_ += 2;
      const uint32_t low = read_unit();
      if (low >> 10 == 0x37) {
        code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
      } else {
        at_ = before;
      }
    }
    append_character(read, code);
  }

  uint32_t read_unit() {
    uint32_t code = 0;
    const char* first = text_.data() + at_;
    const char* last = first + (at_ + 4 <= text_.size() ? 4 : 0);
    if (last == first || std::from_chars(first, last, code, 16).ptr != last || *first == '-') {
      refuse("Invalid \\uXXXX escape", at_ - 1);
    }
    at_ += 4;
    return code;
  }

  static void append_character(std::string& text, uint32_t code) {
    if (code < 0x80) {
      text += char(code);
      return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr uint32_t kMarks[] = {0, 0xc0, 0xe0, 0xf0};
    text += char(kMarks[more] | code >> (6 * more));
    for (int i = more - 1; i >= 0; --i) text += char(0x80 | (code >> (6 * i) & 0x3f));
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

bool Value::is_only(std::string_view name) const {
  if (kind != kObject || members.size() != 1 || members[0].first != name) return false;
  const Value& value = members[0].second;
  if (value.kind != kScalar) return false;
  const Scalar& only = value.scalar;
  if (only.kind == Scalar::kReal) return only.real == 1;
  return (only.kind == Scalar::kTruth || only.kind == Scalar::kInteger) && only.integer == 1;
}

Value parse_line(std::string_view line) {
  if (line.substr(0, 3) == "\xef\xbb\xbf") line.remove_prefix(3);
  const auto containers = std::count_if(line.begin(), line.end(), [](char c) { return c == '[' || c == '{'; });
  if (containers > kMostContainers) {
    throw BadLine("not a line of JSON (it has " + grouped(containers) + " lists and objects, at most " +
                  grouped(kMostContainers) + " are read)");
  }
  return Parser(line).document();
}

}  // namespace device_program
