// Everything that a stream knows between two pieces, and the same as named arrays: moment.py, whose names are used.
#pragma once

#include <optional>
#include <vector>

#include "golden.h"
#include "pieces.h"

namespace lstm_edge::device {

// The last call of the graph: the state before it, its inputs, its conditions and the output steps it gave.
struct LastCall {
  bool begun = false;
  std::vector<Array> before;
  std::vector<Array> inputs;
  std::vector<Array> conditions;
  int64_t gave = 0;
};

// States and conditions in the contract's order, inputs in the reader's; empty where there are none.
struct Moment {
  std::vector<Array> state;
  int64_t steps = 0;
  bool begun = false;
  bool ended = false;
  bool lacks_batch = false;
  std::vector<Array> kept;
  int64_t kept_steps = 0;
  std::optional<LastCall> call;
  std::vector<Array> conditions;
};

Array clone(const Array& array);
std::vector<Array> clone(const std::vector<Array>& arrays);

Arrays moment_to_arrays(const Moment& moment, const PieceReader& reader);
// Throws Error (LSTM_EDGE_INPUT): an array is missing, unknown, of a wrong dtype or shape, or not finite, or they
// contradict each other.
Moment moment_from_arrays(Arrays arrays, const PieceReader& reader, const Streaming& streaming);

}  // namespace lstm_edge::device
