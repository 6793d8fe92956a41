// The kernel of the linear operators: how its constants are read, and one call.
#pragma once

#include "kernel.h"

namespace lstm_edge {

class LinearKernel final : public Kernel {
 public:
  LinearKernel(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info)
      : Kernel(runtime, op), run_(instruction_set().linear[int(op.precision)]) {
    Constants constants(runtime, info, op, 1);
    linear_.w = constants.matrix(-1, -1, 1, op.precision);
    linear_.bias = constants.bias(linear_.w, Columns{1, linear_.w.n});
  }

  void compute(const Runtime& runtime, OrtKernelContext* context) const final {
    const OrtValue* x = runtime.input(context, 0);
    const Matrix& w = linear_.w;
    Shape shape;
    runtime.read_shape(x, shape);
    require(shape.rank >= 1 && shape.rank <= 8 && shape.dims[shape.rank - 1] == w.k,
            [&] { return op.name + ": the last axis of x is not " + std::to_string(w.k); });
    const int64_t rows = shape.count() / w.k;
    int64_t dims[8];
    std::memcpy(dims, shape.dims, sizeof(int64_t) * shape.rank);
    dims[shape.rank - 1] = w.n;
    float* y = runtime.output(context, 0, dims, shape.rank);
    if (y != nullptr) run_(linear_, runtime.data<float>(x), y, rows);
  }

 private:
  RunLinear run_;
  Linear linear_;
};

}  // namespace lstm_edge
