// Check the arguments of a caller, with a message for each error: checks.py.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "contract.h"
#include "view.h"

namespace lstm_edge::device {

constexpr char kBatch[] = "batch", kTime[] = "time";

// The sizes of named axes, each with the input that gave it, in the order of their appearance.
struct AxisSizes {
  struct Seen {
    std::string axis, input;
    int64_t size;
  };
  std::vector<Seen> seen;

  int64_t get(std::string_view axis, int64_t otherwise) const;
};

// The array of each input of the contract, in its order. One array without a name is the model's only input.
std::vector<View> name_inputs(const Contract& contract, const std::vector<View>& given);
void check_array(const TensorSpec& spec, const View& view);
AxisSizes check_shapes(const std::vector<TensorSpec>& specs, const std::vector<View>& views);
// Refuses NaN and infinity; the message says where.
void check_finite(std::string_view name, const View& view);
// The same in a stream after `step` steps.
void check_step_finite(std::string_view name, const View& view, int64_t step);
// The valid lengths as int64 [batch], or none for a model without lengths.
std::optional<Array> check_lengths(const Contract& contract, const std::optional<View>& lengths,
                                   const AxisSizes& sizes);
// Refuses fewer samples than the first frame of a front end takes. `card` may be null.
void check_frame(const Card* card, int64_t steps);
// Refuses to go on after a call that does not complete its outputs: blocked_after.
void check_completes(const Streaming& streaming, int64_t steps, bool begun, bool end);

}  // namespace lstm_edge::device
