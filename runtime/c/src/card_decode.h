// The generic walk over a card's JSON that _json.decode is in Python.
#pragma once

#include <string>

#include "card_schema.h"
#include "json.h"

namespace lstm_edge::device {

// Checks a value against a table, and returns it as Python's encode(decode(value)) would: fields of later minor
// versions with their defaults, numbers as floats where the field is one, unknown keys kept. Throws Error
// (LSTM_EDGE_CARD) that names the dotted path.
json::Value decode_record(const card_schema::Record& record, json::Value value, const std::string& path, int64_t minor);

// The error for a value of a wrong type or form.
[[noreturn]] void fail_wrong(const std::string& path, const std::string& expected, const json::Value& got);

}  // namespace lstm_edge::device
