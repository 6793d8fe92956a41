// JSON as Python's json module reads and writes it, and reading.parse_json limits it.
//
// nlohmann's parser is not used here, because Python's accepts what it refuses (NaN, Infinity, half of a surrogate
// pair, integers of any size) and refuses with the position in characters.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace lstm_edge::device::json {

struct Value;
struct Member;
using List = std::vector<Value>;
using Object = std::vector<Member>;  // in the document's order; every key once, with its last value

// An integer outside of int64_t, as its decimal digits.
struct LargeInteger {
  std::string digits;
};

// 16 bytes, so that a long list takes little more than its text.
struct Value {
  Value();  // null
  ~Value();
  Value(Value&&) noexcept;
  Value& operator=(Value&&) noexcept;
  explicit Value(bool flag);
  explicit Value(int64_t whole);
  explicit Value(double number);
  explicit Value(LargeInteger whole);
  explicit Value(std::string text);
  explicit Value(List items);
  explicit Value(Object members);

  bool is_null() const { return data.index() == 0; }
  const bool* flag() const { return std::get_if<bool>(&data); }
  const int64_t* whole() const { return std::get_if<int64_t>(&data); }
  const double* number() const { return std::get_if<double>(&data); }
  const LargeInteger* large() const { return get<LargeInteger>(); }
  const std::string* text() const { return get<std::string>(); }
  const List* items() const { return get<List>(); }
  const Object* members() const { return get<Object>(); }
  bool is_integer() const { return whole() != nullptr || large() != nullptr; }
  // The value of a key of an object; null if there is none.
  const Value* find(std::string_view key) const;

  std::variant<std::nullptr_t, bool, int64_t, double, std::unique_ptr<LargeInteger>, std::unique_ptr<std::string>,
               std::unique_ptr<List>, std::unique_ptr<Object>>
      data;

 private:
  template <typename T>
  const T* get() const {
    const auto* held = std::get_if<std::unique_ptr<T>>(&data);
    return held == nullptr ? nullptr : held->get();
  }
};

struct Member {
  std::string key;
  Value value;
};

// The exception of Python with which parse_json ends.
struct Refused {
  std::string type;  // "JSONDecodeError", "ValueError" or "TooLargeError"
  std::string message;
};

constexpr int64_t kMostCharacters = int64_t(1) << 26;
// Levels of lists and objects within each other that Python reads, and of a value that it writes, called from a script
// whose own calls take few of the 1,000 levels of its stack.
constexpr int kMostLevels = 992;
constexpr int kMostWrittenLevels = 987;

// parse_json(text); throws Refused. Without limits: of text that `write` made.
Value parse(std::string_view text, bool limited = true);
// json.dumps(value, sort_keys=True, ensure_ascii=False)
std::string write(const Value& value);
// shortened(value)
std::string shown(const Value& value);
// repr(value)[:count]
std::string repr_start(const Value& value, size_t count);
// type(value).__name__
const char* type_name(const Value& value);
// Levels of lists and objects within each other; 0 for others.
int levels(const Value& value);

}  // namespace lstm_edge::device::json
