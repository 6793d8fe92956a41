// The tensors of a model as its graph and its card describe them, and the check that both agree: contract.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "card.h"

namespace lstm_edge::device {

// An input or output as onnxruntime reports it. `type` is onnxruntime's text, such as "tensor(float)"; an axis without
// a name and without a size is the empty text.
struct GraphTensor {
  std::string name;
  std::string type;
  Axes axes;
};

struct Contract {
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  std::vector<StateSpec> states;
  std::optional<std::string> lengths;
  std::optional<std::string> end;
};

// `card` may be null. Errors as Python's read_contract.
Contract read_contract(const std::vector<GraphTensor>& inputs, const std::vector<GraphTensor>& outputs,
                       const Card* card);

// The shape of a state for a batch size.
Shape state_shape(const StateSpec& spec, int64_t batch_size);

}  // namespace lstm_edge::device
