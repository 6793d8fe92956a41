// A line of JSON as arrays: what `lstm-edge run --stream` reads, with the same refusals.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lstm_edge.h"

namespace device_program {

// A line that is not JSON, or holds what its input does not take; the sentence is Python's.
class BadLine : public std::runtime_error {
  using runtime_error::runtime_error;
};

// A number or truth value; an integer that fits neither int64 nor uint64 is `kOther`, as are null, text and objects.
struct Scalar {
  enum Kind : uint8_t { kInteger, kUnsigned, kReal, kTruth, kOther };

  Kind kind = kOther;
  union {
    int64_t integer = 0;
    uint64_t bits;
    double real;
  };
};

// A value of JSON. A list of scalars alone is kept as `scalars`, any other list as `items`.
struct Value {
  enum Kind : uint8_t { kScalar, kList, kObject };

  Kind kind = kScalar;
  Scalar scalar;
  std::vector<Scalar> scalars;
  std::vector<Value> items;
  std::vector<std::pair<std::string, Value>> members;

  size_t size() const { return items.empty() ? scalars.size() : items.size(); }
  // Whether this is an object with this one member, whose value is true (or 1, which Python takes for true).
  bool is_only(std::string_view name) const;
};

// Reads one document; throws BadLine with the sentence of Python's json module.
Value parse_line(std::string_view line);

// An array with its memory, as a push takes it.
struct OwnedArray {
  lstm_edge_array array{};
  std::vector<uint64_t> memory;
};

// The array of an input: the JSON value converted to its dtype, in the shape that the lists have.
OwnedArray to_array(const char* name, lstm_edge_dtype dtype, const Value& value);

}  // namespace device_program
