// Recognize a piece of a shape that was read before, without allocating memory.
#pragma once

#include <cstdint>
#include <vector>

#include "lstm_edge.h"
#include "pieces.h"

namespace lstm_edge::device {

struct FixedShape {
  int32_t rank = -1;
  int64_t sizes[LSTM_EDGE_MOST_AXES] = {};

  // More axes than a caller can give fit no array.
  void set(const Shape& shape);
  bool agrees(const lstm_edge_array& array) const;
};

// An array that a push may give without further checks than those of its values.
struct ExpectedArray {
  lstm_edge_dtype dtype = LSTM_EDGE_FLOAT32;
  FixedShape shape, row;  // a condition of one row may lack the batch axis
  size_t bytes = 0;
  bool moves = true;

  bool agrees(const lstm_edge_array& array) const {
    return array.dtype == dtype && array.data != nullptr && (shape.agrees(array) || row.agrees(array));
  }
};

// What a piece looks like that the reader accepted; `views` are those that PieceReader::read returned.
struct PieceShape {
  // Throws Error (LSTM_EDGE_INPUT) if the inputs do not have one form.
  PieceShape(const PieceReader& reader, const std::vector<View>& views);

  int64_t steps = 1;
  Form form = kChunk;
  std::vector<ExpectedArray> expected;  // for each input of the contract
};

// Which input each array of a piece is.
class PieceSlots {
 public:
  explicit PieceSlots(const PieceReader& reader);

  // Whether the arrays have these shapes, and nothing is missing; `holds`: conditions may be missing. If so, the slots
  // are those of these arrays.
  bool agrees(const PieceShape& piece, const lstm_edge_array* inputs, size_t count, bool holds);
  // The input that the array at a position is.
  size_t operator[](size_t position) const { return slots_[position]; }
  // The array of the piece that is this input, or null.
  const lstm_edge_array* find(size_t slot, const lstm_edge_array* inputs, size_t count) const;
  // Refuses NaN and infinity in the arrays of a piece after `step` steps: conditions first, as Python reads them first.
  void check_finite(const lstm_edge_array* inputs, size_t count, int64_t step) const;

 private:
  size_t slot_of(const lstm_edge_array& array, size_t position, size_t count) const;

  const PieceReader& reader_;
  std::vector<size_t> slots_;
};

}  // namespace lstm_edge::device
