#include "card_decode.h"

#include <cmath>
#include <map>

#include "error.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

using card_schema::Field;
using card_schema::Kind;
using card_schema::Record;
using card_schema::Type;
using json::Value;

std::string below(const std::string& path, const std::string& key) { return path + "[" + shortened(repr(key)) + "]"; }

// Half a surrogate pair, which JSON can escape, has no UTF-8 encoding.
void check_text(const std::string& text, const std::string& path) {
  if (!is_utf8(text)) fail_wrong(path, "text of whole characters", Value(text));
}

bool can_be_written(const Value& value) {
  if (const double* number = value.number()) return std::isfinite(*number);
  if (const std::string* text = value.text()) return is_utf8(*text);
  if (const json::List* items = value.items()) {
    for (const Value& item : *items) {
      if (!can_be_written(item)) return false;
    }
  } else if (const json::Object* members = value.members()) {
    for (const json::Member& member : *members) {
      if (!is_utf8(member.key) || !can_be_written(member.value)) return false;
    }
  }
  return true;
}

// A value of a later version is kept only to be written again.
void check_kept(const std::string& key, const Value& value, const std::string& path) {
  if (!is_utf8(key) || json::levels(value) > json::kMostWrittenLevels || !can_be_written(value)) {
    fail_wrong(path, "JSON of finite numbers, whole characters and few levels", value);
  }
}

Value decode(const Kind& kind, Value value, const std::string& path, int64_t minor);

Value decode_number(Value value, const std::string& path) {
  double number = 0;
  if (const int64_t* whole = value.whole()) {
    number = double(*whole);
  } else if (const json::LargeInteger* large = value.large()) {
    number = parse_float(large->digits);
  } else if (const double* given = value.number()) {
    number = *given;
  } else {
    fail_wrong(path, "a float", value);
  }
  if (!std::isfinite(number)) fail_wrong(path, "a finite number", value);
  return Value(number);
}

Value decode_literal(const Kind& kind, Value value, const std::string& path) {
  std::vector<std::string> allowed;
  const std::string* text = value.text();
  for (const char* const* literal = kind.literals; *literal != nullptr; ++literal) {
    if (text != nullptr && *text == *literal) return value;
    allowed.push_back(repr(*literal));
  }
  fail_wrong(path, "one of " + joined(allowed), value);
}

Value decode_list(const Kind& kind, Value value, const std::string& path, int64_t minor) {
  if (value.items() == nullptr) fail_wrong(path, "a list", value);
  auto items = std::move(*std::get<std::unique_ptr<json::List>>(value.data));
  for (size_t i = 0; i < items.size(); ++i) {
    items[i] = decode(*kind.item, std::move(items[i]), path + "[" + std::to_string(i) + "]", minor);
  }
  return Value(std::move(items));
}

Value decode_map(const Kind& kind, Value value, const std::string& path, int64_t minor) {
  if (value.members() == nullptr) fail_wrong(path, "an object", value);
  auto members = std::move(*std::get<std::unique_ptr<json::Object>>(value.data));
  for (json::Member& member : members) {
    check_text(member.key, path + ", a key,");
    member.value = decode(*kind.item, std::move(member.value), below(path, member.key), minor);
  }
  return Value(std::move(members));
}

Value decode(const Kind& kind, Value value, const std::string& path, int64_t minor) {
  if (kind.optional && value.is_null()) return value;
  switch (kind.type) {
    case Type::kText:
      if (value.text() == nullptr) fail_wrong(path, "a str", value);
      check_text(*value.text(), path);
      return value;
    case Type::kWhole:
      if (!value.is_integer()) fail_wrong(path, "a int", value);
      return value;
    case Type::kNumber: return decode_number(std::move(value), path);
    case Type::kFlag:
      if (value.flag() == nullptr) fail_wrong(path, "a bool", value);
      return value;
    case Type::kLiteral: return decode_literal(kind, std::move(value), path);
    case Type::kAxis:
      if (value.text() == nullptr && !value.is_integer()) fail_wrong(path, "str or int", value);
      if (value.text() != nullptr) check_text(*value.text(), path);
      return value;
    case Type::kList: return decode_list(kind, std::move(value), path, minor);
    case Type::kMap: return decode_map(kind, std::move(value), path, minor);
    case Type::kRecord: break;
  }
  return decode_record(*kind.record, std::move(value), path, minor);
}

}  // namespace

void fail_wrong(const std::string& path, const std::string& expected, const Value& got) {
  fail(LSTM_EDGE_CARD, "model card: " + path + " must be " + expected + ", got " + json::shown(got));
}

Value decode_record(const Record& record, Value value, const std::string& path, int64_t minor) {
  if (value.members() == nullptr) fail_wrong(path, "an object", value);
  auto given = std::move(*std::get<std::unique_ptr<json::Object>>(value.data));
  std::map<std::string, size_t, std::less<>> unknown;  // places in `given`
  for (size_t i = 0; i < given.size(); ++i) unknown[given[i].key] = i;
  json::Object decoded;
  for (const Field* field = record.fields; field != record.fields + record.count; ++field) {
    const std::string where = path + "." + field->name;
    const auto found = unknown.find(field->name);
    if (found != unknown.end()) {
      decoded.push_back({field->name, decode(field->kind, std::move(given[found->second].value), where, minor)});
      unknown.erase(found);
    } else if (minor >= field->since) {
      // Required even if the field has a default: writers write every key, so a missing key means damage.
      fail(LSTM_EDGE_CARD, "model card: " + where + " is missing");
    } else {
      decoded.push_back({field->name, json::parse(field->fallback)});
    }
  }
  unknown.erase("extra");  // the name under which Python keeps unknown keys
  for (json::Member& member : given) {
    if (unknown.count(member.key) == 0) continue;
    check_kept(member.key, member.value, below(path, member.key));
    decoded.push_back(std::move(member));
  }
  return Value(std::move(decoded));
}

}  // namespace lstm_edge::device
