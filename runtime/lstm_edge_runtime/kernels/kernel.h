// What onnxruntime creates for a node: one class for each kind of layer.
#pragma once

#include "node.h"

namespace lstm_edge {

class Kernel {
 public:
  virtual ~Kernel() = default;
  // Checks everything that moves before it reads a byte of it; throws Failure or std::bad_alloc.
  virtual void compute(OrtKernelContext* context) const = 0;

  const Runtime runtime;
  const Operator& op;

 protected:
  Kernel(const Runtime& runtime, const Operator& op) : runtime(runtime), op(op) {}
};

}  // namespace lstm_edge
