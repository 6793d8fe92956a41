// An array that somebody else holds: what the checks and the graph need to know of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "array.h"
#include "ort.h"

namespace lstm_edge::device {

struct View {
  std::string_view name;
  lstm_edge_dtype dtype = LSTM_EDGE_FLOAT32;
  const int64_t* shape = nullptr;
  size_t rank = 0;
  const void* data = nullptr;

  Shape sizes() const { return Shape(shape, shape + rank); }
  bool has_shape(const Shape& other) const;
  int64_t count() const;
};

// Views of arrays; they point into them.
View view_of(std::string_view name, const Array& array);
// Of an array of a caller; throws Error (LSTM_EDGE_MISUSE) if its rank, sizes, dtype or pointer cannot be right.
View view_of(const lstm_edge_array& array);
// onnxruntime reads the memory and does not write it.
Lent lent_of(std::string_view name, const View& view);
Lent lent_of(std::string_view name, Array& array);
Array copy_of(const View& view);
// A reshaped copy.
Array copy_of(const View& view, Shape shape);
bool same_values(const Array& a, const Array& b);

// One element as a number: exact up to 53 bits.
double element(const View& view, int64_t index);
// Whether a float array holds neither NaN nor infinity; true of any other dtype.
bool all_finite(const View& view);
bool is_float(lstm_edge_dtype dtype);

}  // namespace lstm_edge::device
