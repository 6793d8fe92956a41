// Read the piece that a push gets: name its inputs, hold its conditions, find which axes it lacks: pieces.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contract.h"
#include "view.h"

namespace lstm_edge::device {

// The axes that a piece lacks. A chunk has all axes, a frame lacks time, and a frame of one row may also lack batch.
enum Form : unsigned { kChunk = 0, kLacksTime = 1, kLacksBatch = 2, kRow = kLacksTime | kLacksBatch };

// The shape of a tensor without the axes that it lacks.
Shape shape_of(const Axes& axes, int64_t batch_size, int64_t steps, unsigned lacks = kChunk);
// The shape of an output in an answer whose number of steps varies. `called`: whether the graph was called; an output
// without a time axis has no rows otherwise.
Shape answer_shape(const Axes& axes, int64_t steps, int64_t batch_size, bool lacks_batch, bool called);
bool has_axis(const Axes& axes, std::string_view name);
// The position of the time axis, which must be there.
size_t time_axis(const Axes& axes);

class PieceReader {
 public:
  PieceReader(const Contract& contract, int64_t batch_size);

  // The arrays of a piece, for each input of the contract; a condition has all of its axes. `held` are the conditions
  // of earlier pieces (empty: there were none), `step` is the number of steps before this piece, for messages.
  std::vector<View> read(std::vector<View> given, const std::vector<Array>& held, int64_t step) const;
  // Which axes a piece lacks, and its number of steps; `views` are those that `read` returned.
  Form find_form(const std::vector<View>& views, int64_t& steps) const;

  const Contract& contract;
  int64_t batch_size;
  std::vector<size_t> moving;      // indices of the inputs with a time axis; of all inputs if none has one
  std::vector<size_t> conditions;  // of the others, which a stream holds until they are replaced
  std::vector<Shape> condition_shapes;

 private:
  bool fits(const TensorSpec& spec, const View& view, int64_t& steps, unsigned lacks) const;
  void complete_condition(size_t index, View& view, int64_t step) const;
  [[noreturn]] void refuse_form(const std::vector<View>& views) const;
};

}  // namespace lstm_edge::device
