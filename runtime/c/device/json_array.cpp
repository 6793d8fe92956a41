// JSON values to arrays, by NumPy's rules: numpy.asarray of the value, then its conversion to the input's dtype.
#include <cmath>
#include <cstring>

#include "handles.h"
#include "json_line.h"
#include "text.h"

namespace device_program {
namespace {

// What the leaves of a value are, together.
struct Leaves {
  std::vector<const Scalar*> scalars;
  bool seen[5] = {};

  void add(const Scalar& scalar) {
    scalars.push_back(&scalar);
    seen[scalar.kind] = true;
  }
};

[[noreturn]] void refuse_ragged(const char* name) {
  throw BadLine("input " + quoted(name) + ": nested lists must have equal lengths");
}

void find_shape(const char* name, const Value& value, lstm_edge_array& array) {
  const Value* level = &value;
  while (level != nullptr && level->kind == Value::kList) {
    if (array.rank == LSTM_EDGE_MOST_AXES) {
      throw BadLine("input " + quoted(name) + ": lists are nested more than " + std::to_string(LSTM_EDGE_MOST_AXES) +
                    " deep, which no input is");
    }
    array.shape[array.rank++] = int64_t(level->size());
    level = level->items.empty() ? nullptr : &level->items[0];
  }
}

void collect(const char* name, const Value& value, const lstm_edge_array& array, int32_t depth, Leaves& leaves) {
  if (value.kind != Value::kList) {
    if (depth != array.rank) refuse_ragged(name);
    leaves.add(value.scalar);
    return;
  }
  if (depth >= array.rank || array.shape[depth] != int64_t(value.size())) refuse_ragged(name);
  if (!value.scalars.empty() && depth + 1 != array.rank) refuse_ragged(name);
  for (const Scalar& scalar : value.scalars) leaves.add(scalar);
  for (const Value& item : value.items) collect(name, item, array, depth + 1, leaves);
}

bool is_float(lstm_edge_dtype dtype) {
  return dtype == LSTM_EDGE_FLOAT32 || dtype == LSTM_EDGE_FLOAT64 || dtype == LSTM_EDGE_FLOAT16;
}

double as_real(const Scalar& scalar) {
  if (scalar.kind == Scalar::kReal) return scalar.real;
  return scalar.kind == Scalar::kUnsigned ? double(scalar.bits) : double(scalar.integer);
}

void store_float(lstm_edge_dtype dtype, const Scalar& scalar, bool mixed, void* memory, size_t index) {
  if (dtype == LSTM_EDGE_FLOAT64) {
    static_cast<double*>(memory)[index] = as_real(scalar);
  } else if (dtype == LSTM_EDGE_FLOAT16) {
    static_cast<uint16_t*>(memory)[index] = to_float16(as_real(scalar));
  } else {
    // Integers alone are rounded once; beside a real number NumPy makes float64 of them first.
    const bool once = !mixed && scalar.kind != Scalar::kReal;
    static_cast<float*>(memory)[index] = !once                              ? float(as_real(scalar))
                                         : scalar.kind == Scalar::kUnsigned ? float(scalar.bits)
                                                                            : float(scalar.integer);
  }
}

// Whether the integer is in the range of the dtype; its bytes are then the lowest ones of `bits`.
bool in_range(lstm_edge_dtype dtype, const Scalar& scalar) {
  const bool is_unsigned =
      dtype == LSTM_EDGE_UINT8 || dtype == LSTM_EDGE_UINT16 || dtype == LSTM_EDGE_UINT32 || dtype == LSTM_EDGE_UINT64;
  const int bits = int(8 * item_size(dtype));
  if (scalar.kind == Scalar::kUnsigned) return dtype == LSTM_EDGE_UINT64;
  if (is_unsigned) return scalar.integer >= 0 && (bits == 64 || scalar.integer >> bits == 0);
  return bits == 64 || (scalar.integer >> (bits - 1) == 0 || scalar.integer >> (bits - 1) == -1);
}

void store_integer(const char* name, lstm_edge_dtype dtype, const Scalar& scalar, void* memory, size_t index) {
  if (!in_range(dtype, scalar)) {
    throw BadLine("input " + quoted(name) + " holds an integer outside the range of " + dtype_name(dtype));
  }
  std::memcpy(static_cast<char*>(memory) + index * item_size(dtype), &scalar.bits, item_size(dtype));
}

}  // namespace

OwnedArray to_array(const char* name, lstm_edge_dtype dtype, const Value& value) {
  OwnedArray owned;
  lstm_edge_array& array = owned.array;
  array.name = name;
  array.dtype = dtype;
  Leaves leaves;
  find_shape(name, value, array);
  collect(name, value, array, 0, leaves);
  const bool* seen = leaves.seen;
  // NumPy's common type: of int64 and uint64, as of a real number and anything, it is float64.
  const bool mixed = seen[Scalar::kReal] || (seen[Scalar::kUnsigned] && seen[Scalar::kInteger]);
  const bool numbers = mixed || seen[Scalar::kInteger] || seen[Scalar::kUnsigned];
  const bool fits = seen[Scalar::kOther]      ? false
                    : is_float(dtype)         ? numbers
                    : dtype == LSTM_EDGE_BOOL ? seen[Scalar::kTruth] && !numbers
                                              : numbers && !mixed;
  if (!leaves.scalars.empty() && !fits) {
    throw BadLine("input " + quoted(name) + " takes " + dtype_name(dtype) +
                  ", got a JSON value that holds something else");
  }
  owned.memory.resize(leaves.scalars.size() * item_size(dtype) / 8 + 1);
  array.data = owned.memory.data();
  for (size_t index = 0; index < leaves.scalars.size(); ++index) {
    if (is_float(dtype)) {
      store_float(dtype, *leaves.scalars[index], mixed, array.data, index);
    } else {
      store_integer(name, dtype, *leaves.scalars[index], array.data, index);
    }
  }
  return owned;
}

}  // namespace device_program
