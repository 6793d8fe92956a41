// The forms of the pieces that a pool gets, so that a piece of a form that came before needs no further checks.
#pragma once

#include <memory>
#include <vector>

#include "piece_shapes.h"
#include "row_slices.h"

namespace lstm_edge::device {

struct PoolForm {
  explicit PoolForm(PieceShape shape) : piece(std::move(shape)) {}

  PieceShape piece;
  // For each input and each output of the contract: where a row of it lies in a call.
  std::vector<RowSlices> inputs, outputs;
  // The answer of one stream, without its memory; where each of its arrays lies, and the bytes of all.
  std::vector<lstm_edge_array> answer;
  std::vector<size_t> offsets;
  size_t answer_bytes = 0;
};

using SharedForm = std::shared_ptr<const PoolForm>;

class PoolForms {
 public:
  explicit PoolForms(const PieceReader& reader);

  // The form of arrays that need no further checks than those of their values, or null. `holds`: conditions may be
  // missing. `sources` gets the memory of each input of the contract, null of a condition that is not given.
  const SharedForm* find(const lstm_edge_array* inputs, size_t count, bool holds, const void** sources);
  // Makes a form of what PieceReader::read returned; throws Error if the inputs have no common form.
  const SharedForm& make(const std::vector<View>& views);
  // Forgets what was not used for long; the forms that were returned before are not valid then.
  void tidy();
  // Refuses NaN and infinity in a piece of a form after `step` steps.
  void check_finite(const PoolForm& form, const lstm_edge_array* inputs, size_t count, int64_t step);

 private:
  const PieceReader& reader_;
  PieceSlots slots_;               // of the last piece
  std::vector<SharedForm> forms_;  // the last used one first
};

}  // namespace lstm_edge::device
