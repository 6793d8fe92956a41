// The kernels of the LSTM, GRU and RNN operators: how their constants are read, and one call.
#pragma once

#include <atomic>
#include <tuple>

#include "kernel.h"

namespace lstm_edge {

constexpr int kGroupRows = 16;             // rows that run together; groups may run on several threads
constexpr double kParallelWork = 1 << 22;  // multiplications below which a second thread costs more than it brings

// The rows of one call in groups, for the threads of onnxruntime.
template <typename Layer>
struct RowGroups {
  RunRows<Layer> run;
  const Layer& layer;
  const Call& call;
  std::atomic<bool> out_of_memory{false};

  static void run_group(void* data, size_t index) {
    auto& groups = *static_cast<RowGroups*>(data);
    const int first = int(index) * kGroupRows;
    try {
      groups.run(groups.layer, groups.call, first, std::min(first + kGroupRows, groups.call.batch));
    } catch (const std::bad_alloc&) {  // must not leave a thread of onnxruntime's
      groups.out_of_memory = true;
    }
  }
};

template <typename Layer>
class RecurrentKernel : public Kernel {
 public:
  void compute(OrtKernelContext* context) const final {
    size_t next = 0;
    const OrtValue* x = runtime.input(context, next++);
    const auto [steps, batch] = read_sizes(x);
    Call call{int(steps), int(batch), runtime.data<float>(x), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
    call.h = read_state(runtime.input(context, next++), "h", batch, layer_.outputs);
    if (Layer::kHasCell) call.c = read_state(runtime.input(context, next++), "c", batch, layer_.hidden);
    if (op.ragged) call.lengths = read_lengths(runtime.input(context, next++), batch);
    const int64_t y_dims[3] = {steps, batch, layer_.outputs};
    const int64_t h_dims[3] = {1, batch, layer_.outputs}, c_dims[3] = {1, batch, layer_.hidden};
    call.y = runtime.output(context, 0, y_dims, 3);
    call.h_out = runtime.output(context, 1, h_dims, 3);
    if (Layer::kHasCell) call.c_out = runtime.output(context, 2, c_dims, 3);
    require(call.y && call.h_out && (call.c_out || !Layer::kHasCell),
            [&] { return op.name + ": an output is missing"; });
    run_groups(context, call);
  }

 protected:
  RecurrentKernel(const Runtime& runtime, const Operator& op, RunRows<Layer> run) : Kernel(runtime, op), run_(run) {}

  Layer layer_;

 private:
  // The steps and rows of x [T, B, inputs].
  std::pair<int64_t, int64_t> read_sizes(const OrtValue* x) const {
    Shape shape;
    runtime.read_shape(x, shape);
    require(shape.rank == 3 && shape.dims[2] == layer_.inputs && shape.dims[0] > 0 && shape.dims[1] > 0, [&] {
      return op.name + ": x has shape " + shape.text() + ", expected [time, batch, " + std::to_string(layer_.inputs) +
             "], both at least 1";
    });
    require(shape.dims[0] < (1 << 30) && shape.dims[1] < (1 << 24),
            [&] { return op.name + ": x has too many steps or rows"; });
    return {shape.dims[0], shape.dims[1]};
  }

  // A state [1, batch, size].
  const float* read_state(const OrtValue* state, const char* name, int64_t batch, int size) const {
    Shape shape;
    runtime.read_shape(state, shape);
    require(shape.rank == 3 && shape.dims[0] == 1 && shape.dims[1] == batch && shape.dims[2] == size, [&] {
      return op.name + ": " + name + " has another shape than [1, " + std::to_string(batch) + ", " +
             std::to_string(size) + "]";
    });
    return runtime.data<float>(state);
  }

  const int64_t* read_lengths(const OrtValue* lengths, int64_t batch) const {
    Shape shape;
    runtime.read_shape(lengths, shape);
    require(shape.rank == 1 && shape.dims[0] == batch,
            [&] { return op.name + ": lengths has another shape than [batch]"; });
    return runtime.data<int64_t>(lengths);
  }

  void run_groups(const OrtKernelContext* context, const Call& call) const {
    const size_t groups = (size_t(call.batch) + kGroupRows - 1) / kGroupRows;
    // A double: the number of multiplications need not fit into an integer.
    const double work =
        double(call.steps) * call.batch * (double(layer_.inputs) + layer_.outputs) * Layer::kGates * layer_.hidden;
    RowGroups<Layer> data{run_, layer_, call};
    if (groups > 1 && work > kParallelWork) {
      runtime.check(runtime.api.call(kContextParallelFor, context, &RowGroups<Layer>::run_group, groups, size_t(0),
                                     static_cast<void*>(&data)));
    } else {
      for (size_t i = 0; i < groups; ++i) RowGroups<Layer>::run_group(&data, i);
    }
    if (data.out_of_memory) throw std::bad_alloc();
  }

  RunRows<Layer> run_;
};

class LstmKernel final : public RecurrentKernel<Lstm> {
 public:
  LstmKernel(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info)
      : RecurrentKernel(runtime, op, instruction_set().lstm[int(op.precision)][int(op.peephole)]) {
    Constants constants(runtime, info, op, op.ragged ? 4 : 3);
    Lstm& lstm = layer_;
    lstm.projected = op.projected;
    lstm.w = constants.matrix(-1, -1, 4, op.w_precision);
    lstm.inputs = lstm.w.k;
    lstm.hidden = lstm.w.n / 4;
    lstm.r = constants.matrix(-1, lstm.w.n, 4, op.precision);
    lstm.outputs = lstm.r.k;
    require(op.projected || lstm.outputs == lstm.hidden,
            [&] { return op.name + ": r has rows for other than the hidden size"; });
    lstm.bias = constants.bias(lstm.w, Columns{4, lstm.hidden});
    if (op.peephole == Peephole::kDiagonal) {
      lstm.diagonal = constants.rows({3, lstm.hidden});
    } else if (op.peephole == Peephole::kFull) {
      lstm.p = constants.matrix(lstm.hidden, 3 * lstm.hidden, 3, op.further());
      lstm.po = constants.matrix(lstm.hidden, lstm.hidden, 1, op.further());
    }
    if (op.projected) lstm.v = constants.matrix(lstm.hidden, lstm.outputs, 1, op.further());
  }
};

class GruKernel final : public RecurrentKernel<Gru> {
 public:
  GruKernel(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info)
      : RecurrentKernel(runtime, op, instruction_set().gru[int(op.precision)][op.reset_after]) {
    Constants constants(runtime, info, op, op.ragged ? 3 : 2);
    Gru& gru = layer_;
    gru.w = constants.matrix(-1, -1, 3, op.w_precision);
    gru.inputs = gru.w.k;
    gru.hidden = gru.outputs = gru.w.n / 3;
    if (op.reset_after) {
      gru.r = constants.matrix(gru.hidden, gru.w.n, 3, op.precision);
    } else {
      std::tie(gru.r, gru.rn) = constants.split_matrix(gru.hidden, gru.w.n, 2 * gru.hidden, 2, op.precision);
    }
    gru.bias = constants.bias(gru.w, Columns{3, gru.hidden});
    if (op.reset_after) gru.recurrent_bias = constants.rows({gru.hidden});
  }
};

class RnnKernel final : public RecurrentKernel<Rnn> {
 public:
  RnnKernel(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info)
      : RecurrentKernel(runtime, op, instruction_set().rnn[int(op.precision)][op.relu]) {
    Constants constants(runtime, info, op, op.ragged ? 3 : 2);
    Rnn& rnn = layer_;
    rnn.w = constants.matrix(-1, -1, 1, op.w_precision);
    rnn.inputs = rnn.w.k;
    rnn.hidden = rnn.outputs = rnn.w.n;
    rnn.r = constants.matrix(rnn.hidden, rnn.hidden, 1, op.precision);
    rnn.bias = constants.bias(rnn.w, Columns{1, rnn.hidden});
  }
};

}  // namespace lstm_edge
