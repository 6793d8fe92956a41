// Where the rows of a batch lie in an array: [before, rows, bytes of a slice].
#pragma once

#include <cstring>
#include <optional>

#include "card.h"

namespace lstm_edge::device {

struct BatchAxis {
  size_t axis;
  int64_t factor;  // rows of the axis that belong to a row of the batch
};

inline std::optional<BatchAxis> batch_axis(const Axes& axes) {
  for (size_t i = 0; i < axes.size(); ++i) {
    if (const std::optional<int64_t> factor = batch_factor(axes[i])) return BatchAxis{i, *factor};
  }
  return std::nullopt;
}

struct RowSlices {
  RowSlices() = default;
  // `one_row`: the shape of the array for a batch of one row.
  RowSlices(const Axes& axes, const Shape& one_row, lstm_edge_dtype dtype) : bytes(item_size(dtype)) {
    const std::optional<BatchAxis> batch = batch_axis(axes);
    has_batch = batch.has_value();
    if (has_batch)
      before = size_t(element_count(Shape(one_row.begin(), one_row.begin() + std::ptrdiff_t(batch->axis))));
    bytes *= size_t(element_count(one_row)) / (before == 0 ? 1 : before);
  }

  // Copies the slices of one row: from its slice in an array of some rows to its slice in another.
  void copy(char* to, size_t to_rows, const char* from, size_t from_rows) const {
    for (size_t i = 0; i < before; ++i) {
      std::memcpy(to, from, bytes);
      to += to_rows * bytes;
      from += from_rows * bytes;
    }
  }
  size_t row_bytes() const { return before * bytes; }

  bool has_batch = false;  // if not, all rows share the array
  size_t before = 1;       // product of the axes before that of the batch
  size_t bytes = 0;
};

}  // namespace lstm_edge::device
