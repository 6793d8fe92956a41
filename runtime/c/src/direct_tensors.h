// What the operators of direct_operators.h share: places of elements.
#pragma once

#include <array>

#include "direct_operators.h"

namespace lstm_edge::device {

using Inputs = std::vector<const Tensor*>;

// Elements from one index of an axis to the next, for tensors of few axes: a step must not allocate.
using Strides = std::array<int64_t, LSTM_EDGE_MOST_AXES>;

inline Strides strides_of(const Shape& shape) {
  Strides strides{};
  int64_t elements = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = elements;
    elements *= shape[axis];
  }
  return strides;
}

// Calls `visit(place)` with the offset in a tensor of these strides for each index of `shape`, the last axis fastest.
template <typename Visit>
void walk(const Shape& shape, const Strides& strides, const Visit& visit) {
  int64_t index[LSTM_EDGE_MOST_AXES] = {};
  int64_t place = 0;
  for (int64_t left = element_count(shape); left > 0; --left) {
    visit(place);
    for (size_t axis = shape.size(); axis-- > 0;) {
      place += strides[axis];
      if (++index[axis] < shape[axis]) break;
      place -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

inline bool has_few_axes(const Tensor& tensor) { return tensor.shape.size() <= LSTM_EDGE_MOST_AXES; }

// Null for another name. Both in files of their own.
std::unique_ptr<const DirectOperator> make_arithmetic(std::string_view name);
std::unique_ptr<const DirectOperator> make_rearrangement(std::string_view data, const Message& node);

}  // namespace lstm_edge::device
