// The fields of the model card: the dataclasses of card.py as tables, which generate.py writes.
#pragma once

#include <cstddef>

namespace lstm_edge::device::card_schema {

enum class Type { kText, kWhole, kNumber, kFlag, kLiteral, kAxis, kList, kMap, kRecord };

struct Record;

// A type annotation. `literals` ends with a null pointer; `item` is what a list or a map holds.
struct Kind {
  Type type;
  bool optional;  // "| None"
  const char* const* literals;
  const Kind* item;
  const Record* record;
};

// `since` is the minor version of the schema that added the field; `fallback` is its value, as JSON, in older cards.
struct Field {
  const char* name;
  Kind kind;
  int since;
  const char* fallback;
};

struct Record {
  const char* name;
  const Field* fields;
  size_t count;
};

// card.SCHEMA, such as "1.5".
extern const char kSchema[];
extern const Record kModelCard;

}  // namespace lstm_edge::device::card_schema
