// What the kernels of all recurrent operators share: the kernel object, the checks of what moves, groups of rows.
#pragma once

#include <atomic>
#include <new>
#include <string>

#include "node.h"

namespace lstm_edge {

constexpr int kGroupRows = 16;              // rows that run together; groups may run on several threads
constexpr double kParallelWork = 1 << 22;   // multiplications below which a second thread costs more than it brings

struct Kernel {
  Runtime runtime;
  const Operator& op;
  const InstructionSet& set;
  Lstm lstm;
  Gru gru;
  Linear linear;
};

// Puts a bias [n] in the order of the packed columns.
inline Aligned<float> pack_bias(const float* bias, const Matrix& matrix, Columns columns) {
  Aligned<float> packed = allocate<float>(matrix.width());
  for (int column = 0; column < matrix.n; ++column) packed[columns.packed(column)] = bias[column];
  return packed;
}

struct Sizes {
  int64_t steps, batch;
};

// The steps and rows of x [T, B, inputs].
inline Sizes read_sizes(const Kernel& kernel, const OrtValue* x, int inputs) {
  Shape shape;
  kernel.runtime.read_shape(x, shape);
  require(shape.rank == 3 && shape.dims[2] == inputs && shape.dims[0] > 0 && shape.dims[1] > 0,
          [&] {
            return kernel.op.name + ": x has shape " + shape.text() + ", expected [time, batch, " +
                   std::to_string(inputs) + "], both at least 1";
          });
  const Sizes sizes{shape.dims[0], shape.dims[1]};
  require(sizes.steps < (1 << 30) && sizes.batch < (1 << 24),
          [&] { return kernel.op.name + ": x has too many steps or rows"; });
  return sizes;
}

// A state [1, batch, size].
inline const float* read_state(const Kernel& kernel, const OrtValue* state, const char* name, int64_t batch, int size) {
  Shape shape;
  kernel.runtime.read_shape(state, shape);
  require(shape.rank == 3 && shape.dims[0] == 1 && shape.dims[1] == batch && shape.dims[2] == size,
          [&] {
            return kernel.op.name + ": " + name + " has another shape than [1, " + std::to_string(batch) + ", " +
                   std::to_string(size) + "]";
          });
  return kernel.runtime.data<float>(state);
}

inline const int64_t* read_lengths(const Kernel& kernel, const OrtValue* lengths, int64_t batch) {
  Shape shape;
  kernel.runtime.read_shape(lengths, shape);
  require(shape.rank == 1 && shape.dims[0] == batch,
          [&] { return kernel.op.name + ": lengths has another shape than [batch]"; });
  return kernel.runtime.data<int64_t>(lengths);
}

// The rows of one call in groups, for the threads of onnxruntime.
template <typename Layer, typename Call>
struct RowGroups {
  void (*run)(const Layer&, const Call&, int first, int last);
  const Layer& layer;
  const Call& call;
  std::atomic<bool> out_of_memory{false};
};

template <typename Layer, typename Call>
void run_group(void* data, size_t index) {
  auto& groups = *static_cast<RowGroups<Layer, Call>*>(data);
  const int first = int(index) * kGroupRows;
  const int last = first + kGroupRows < groups.call.batch ? first + kGroupRows : groups.call.batch;
  try {
    groups.run(groups.layer, groups.call, first, last);
  } catch (const std::bad_alloc&) {  // must not leave a thread of onnxruntime's
    groups.out_of_memory = true;
  }
}

// Runs all rows; `work` is the number of multiplications, which no integer need hold.
template <typename Layer, typename Call>
void run_groups(const Runtime& runtime, const OrtKernelContext* context,
                void (*run)(const Layer&, const Call&, int, int), const Layer& layer, const Call& call, double work) {
  const int64_t groups = (call.batch + kGroupRows - 1) / kGroupRows;
  RowGroups<Layer, Call> data{run, layer, call};
  if (groups > 1 && work > kParallelWork) {
    runtime.check(runtime.api.call(kContextParallelFor, context, &run_group<Layer, Call>, size_t(groups), size_t(0),
                                   static_cast<void*>(&data)));
  } else {
    for (int64_t i = 0; i < groups; ++i) run_group<Layer, Call>(&data, size_t(i));
  }
  if (data.out_of_memory) throw std::bad_alloc();
}

}  // namespace lstm_edge
