// The states of a model: where they lie in one block of memory, so that one check reads them all, and what is checked
// of states that a caller gives: layout.py and State.from_arrays of state.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "contract.h"
#include "view.h"

namespace lstm_edge::device {

struct StateLayout {
  StateLayout() = default;
  StateLayout(const std::vector<StateSpec>& specs, int64_t batch_size);

  // The float32 states first, the others (counts) after them; each begins at a multiple of 64 bytes.
  struct Place {
    size_t offset, bytes;  // in bytes
    lstm_edge_dtype dtype;
    Shape shape;
  };
  std::vector<Place> places;  // in the order of the specs
  size_t floats = 0;          // elements at the start of a block that hold the float32 states and the zeros between
  size_t bytes = 0;           // of a block
};

// The axes of a spec as messages print them: "[1, batch, 5]".
std::string plain_axes(const Axes& axes);
// The batch size of a state of this shape, or none where its axes are all fixed.
std::optional<int64_t> batch_of_shape(const StateSpec& spec, const View& view);

// Checks a state for each spec (`arrays` in their order; data may be null if one is missing), as State.from_arrays.
// Returns the rows, or none if every batch size is fixed.
std::optional<int64_t> check_states(const std::vector<StateSpec>& specs,
                                    const std::vector<std::optional<View>>& arrays);
// Whether steps came before states that a caller made: State.begun.
bool states_begun(const std::vector<StateSpec>& specs, const std::vector<std::optional<View>>& arrays);

}  // namespace lstm_edge::device
