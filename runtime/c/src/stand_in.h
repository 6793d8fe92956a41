// What stands in for onnxruntime where a kernel runs without it: tensors, and a table of the few functions that a
// running kernel calls.
#pragma once

#include <vector>

#include "array.h"
#include "direct.h"

namespace lstm_edge::device {

// A tensor over memory of somebody else.
struct Tensor {
  int type = LSTM_EDGE_FLOAT32;
  Shape shape;
  void* data = nullptr;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// The inputs (null: absent) and outputs of one node, over tensors that stay where they are.
struct NodeContext {
  std::vector<const Tensor*> inputs;
  std::vector<Tensor*> outputs;
  // While true the outputs take the shapes that the kernel asks for, and the kernel gets no memory to write to.
  bool asks_for_shapes = false;
};

// Runs a kernel; false if it refuses its inputs, or if its outputs have other shapes than the context's.
bool run_kernel(const void* kernel, NodeContext& context);
// Sets the shapes of the outputs of a kernel; false if it refuses its inputs or asks for fewer outputs.
bool find_shapes(const void* kernel, NodeContext& context);

}  // namespace lstm_edge::device
