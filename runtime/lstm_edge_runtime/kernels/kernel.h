// What onnxruntime creates for a node: one class for each kind of layer.
#pragma once

#include "node.h"

namespace lstm_edge {

class Kernel {
 public:
  virtual ~Kernel() = default;
  // Checks everything that moves before it reads a byte of it; throws Failure or std::bad_alloc. `runtime` has the
  // functions that belong to the context.
  virtual void compute(const Runtime& runtime, OrtKernelContext* context) const = 0;

  const Runtime onnxruntime;  // which made the node
  const Operator& op;

 protected:
  Kernel(const Runtime& runtime, const Operator& op) : onnxruntime(runtime), op(op) {}
};

}  // namespace lstm_edge
