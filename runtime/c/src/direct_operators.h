// The standard operators that a graph of recurrent layers has around them, as far as they can run without onnxruntime:
// one rounding for each element, as in onnxruntime, so that the bits are the same.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "protobuf.h"
#include "stand_in.h"

namespace lstm_edge::device {

class DirectOperator {
 public:
  virtual ~DirectOperator() = default;
  // Sets type and shape of the output; false if this operator cannot take such inputs.
  virtual bool find_shape(const std::vector<const Tensor*>& inputs, Tensor& output) const = 0;
  // False where the values are refused.
  virtual bool run(const std::vector<const Tensor*>& inputs, Tensor& output) const = 0;
  // Whether the values of this input decide about the shape: it must be a constant then.
  virtual bool needs_constant(size_t input) const;
  // Whether the output has the bytes of the first input, in its order.
  virtual bool only_renames(const std::vector<const Tensor*>& inputs) const;
};

// The operator of a node of the standard domain; null for one that only onnxruntime runs. `data` is the file.
std::unique_ptr<const DirectOperator> make_direct_operator(std::string_view data, const Message& node);

}  // namespace lstm_edge::device
