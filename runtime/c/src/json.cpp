#include "json.h"

#include <algorithm>
#include <cmath>

#include "text.h"

namespace lstm_edge::device::json {
namespace {

constexpr size_t kShown = 61;  // one more than `shortened` keeps

void append_text(std::string& out, std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char byte : text) {
    const auto character = static_cast<unsigned char>(byte);
    const char* found = nullptr;
    switch (byte) {
      case '"': found = "\\\""; break;
      case '\\': found = "\\\\"; break;
      case '\n': found = "\\n"; break;
      case '\r': found = "\\r"; break;
      case '\t': found = "\\t"; break;
      case '\f': found = "\\f"; break;
      case '\b': found = "\\b"; break;
      default: break;
    }
    if (found != nullptr) {
      out += found;
    } else if (character < 0x20) {
      out += "\\u00";
      out += kHex[character >> 4];
      out += kHex[character & 15];
    } else {
      out += byte;
    }
  }
  out += '"';
}

std::string scalar_text(const Value& value, bool python) {
  if (const bool* flag = value.flag()) return python ? (*flag ? "True" : "False") : (*flag ? "true" : "false");
  if (const int64_t* whole = value.whole()) return std::to_string(*whole);
  if (const LargeInteger* large = value.large()) return large->digits;
  if (const double* number = value.number()) {
    if (python || std::isfinite(*number)) return float_text(*number);
    return std::isnan(*number) ? "NaN" : *number < 0 ? "-Infinity" : "Infinity";
  }
  return python ? "None" : "null";
}

void append(std::string& out, const Value& value) {
  if (const std::string* text = value.text()) {
    append_text(out, *text);
  } else if (const List* items = value.items()) {
    out += '[';
    for (const Value& item : *items) {
      if (&item != items->data()) out += ", ";
      append(out, item);
    }
    out += ']';
  } else if (const Object* members = value.members()) {
    std::vector<const Member*> sorted;
    for (const Member& member : *members) sorted.push_back(&member);
    std::sort(sorted.begin(), sorted.end(), [](const Member* a, const Member* b) { return a->key < b->key; });
    out += '{';
    for (const Member* member : sorted) {
      if (member != sorted.front()) out += ", ";
      append_text(out, member->key);
      out += ": ";
      append(out, member->value);
    }
    out += '}';
  } else {
    out += scalar_text(value, false);
  }
}

// Appends the start of the value's repr, and stops when there is enough of it.
bool append_repr(std::string& out, const Value& value) {
  if (out.size() > 4 * kShown) return false;
  if (const std::string* text = value.text()) {
    // A quote at the end of a long text decides which quotes are written, so the whole text is needed.
    out += repr(*text);
  } else if (const List* items = value.items()) {
    out += '[';
    for (const Value& item : *items) {
      if (&item != items->data()) out += ", ";
      if (!append_repr(out, item)) return false;
    }
    out += ']';
  } else if (const Object* members = value.members()) {
    out += '{';
    for (const Member& member : *members) {
      if (&member != members->data()) out += ", ";
      out += repr(member.key) + ": ";
      if (!append_repr(out, member.value)) return false;
    }
    out += '}';
  } else {
    out += scalar_text(value, true);
  }
  return true;
}

}  // namespace

Value::Value() : data(nullptr) {}
Value::~Value() = default;
Value::Value(Value&&) noexcept = default;
Value& Value::operator=(Value&&) noexcept = default;
Value::Value(bool flag) : data(flag) {}
Value::Value(int64_t whole) : data(whole) {}
Value::Value(double number) : data(number) {}
Value::Value(LargeInteger whole) : data(std::make_unique<LargeInteger>(std::move(whole))) {}
Value::Value(std::string text) : data(std::make_unique<std::string>(std::move(text))) {}
Value::Value(List items) : data(std::make_unique<List>(std::move(items))) {}
Value::Value(Object members) : data(std::make_unique<Object>(std::move(members))) {}

const Value* Value::find(std::string_view key) const {
  if (const Object* all = members()) {
    for (const Member& member : *all) {
      if (member.key == key) return &member.value;
    }
  }
  return nullptr;
}

std::string write(const Value& value) {
  std::string out;
  append(out, value);
  return out;
}

std::string shown(const Value& value) {
  std::string out;
  append_repr(out, value);
  return shortened(std::move(out));
}

std::string repr_start(const Value& value, size_t count) {
  std::string out;
  append_repr(out, value);
  return std::string(first_characters(out, count));
}

const char* type_name(const Value& value) {
  constexpr const char* kNames[] = {"NoneType", "bool", "int", "float", "int", "str", "list", "dict"};
  return kNames[value.data.index()];
}

int levels(const Value& value) {
  int deepest = 0;
  if (const List* items = value.items()) {
    for (const Value& item : *items) deepest = std::max(deepest, levels(item));
    return deepest + 1;
  }
  if (const Object* members = value.members()) {
    for (const Member& member : *members) deepest = std::max(deepest, levels(member.value));
    return deepest + 1;
  }
  return 0;
}

}  // namespace lstm_edge::device::json
