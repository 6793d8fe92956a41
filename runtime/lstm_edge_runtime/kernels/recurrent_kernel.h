// The kernels of the LSTM, GRU and RNN operators: how their constants are read, and one call.
#pragma once

#include <atomic>
#include <tuple>

#include "kernel.h"

namespace lstm_edge {

constexpr int kGroupRows = 16;             // rows that run together; groups may run on several threads
constexpr double kParallelWork = 1 << 22;  // multiplications below which a second thread costs more than it brings

// The rows of one call in groups, of each direction one after the other, for the threads of onnxruntime.
template <typename Layer>
struct RowGroups {
  RunRows<Layer> run;
  const Layer* layers;  // one of each direction, as the calls
  const Call* calls;
  size_t groups;  // of one direction
  std::atomic<bool> out_of_memory{false};

  static void run_group(void* data, size_t index) {
    auto& self = *static_cast<RowGroups*>(data);
    const Call& call = self.calls[index / self.groups];
    const int first = int(index % self.groups) * kGroupRows;
    try {
      self.run(self.layers[index / self.groups], call, first, std::min(first + kGroupRows, call.batch));
    } catch (const std::bad_alloc&) {  // must not leave a thread of onnxruntime's
      self.out_of_memory = true;
    }
  }
};

// What the kernels of all recurrent operators do in one call: inputs x, h, of an LSTM c, and perhaps lengths.
template <typename Layer>
class SequenceKernel : public Kernel {
 protected:
  SequenceKernel(const Runtime& runtime, const Operator& op, RunRows<Layer> run) : Kernel(runtime, op), run_(run) {}

  // A call with the inputs before the constants, for `sides` layers of these sizes; `lengths` is null where the
  // operator has none.
  Call read_inputs(const Runtime& runtime, const OrtKernelContext* context, const Layer& layer, int sides,
                   const OrtValue*& lengths) const {
    size_t next = 0;
    Call call{};
    const OrtValue* x = runtime.input(context, next++);
    read_sizes(runtime, x, layer.inputs, call);
    call.x = runtime.data<float>(x);
    call.h = read_state(runtime, context, next++, sides, call.batch, layer.outputs);
    if (Layer::kHasCell) call.c = read_state(runtime, context, next++, sides, call.batch, layer.hidden);
    lengths = op.ragged ? runtime.input(context, next++) : nullptr;
    if (lengths == nullptr) return call;
    Shape shape;
    runtime.read_shape(lengths, shape);
    require(shape.rank == 1 && shape.dims[0] == call.batch,
            [&] { return op.name + ": lengths has another shape than [batch]"; });
    return call;
  }

  void take_outputs(const Runtime& runtime, OrtKernelContext* context, const Layer& layer, int sides,
                    const int64_t* y_dims, size_t rank, Call& call) const {
    const int64_t h_dims[3] = {sides, call.batch, layer.outputs}, c_dims[3] = {sides, call.batch, layer.hidden};
    call.y = runtime.output(context, 0, y_dims, rank);
    call.h_out = runtime.output(context, 1, h_dims, 3);
    if (Layer::kHasCell) call.c_out = runtime.output(context, 2, c_dims, 3);
    require(call.y && call.h_out && (call.c_out || !Layer::kHasCell),
            [&] { return op.name + ": an output is missing"; });
  }

  void run_groups(const Runtime& runtime, const OrtKernelContext* context, const Layer* layers, const Call* calls,
                  int sides) const {
    const Call& call = calls[0];
    const Layer& layer = layers[0];
    RowGroups<Layer> data{run_, layers, calls, (size_t(call.batch) + kGroupRows - 1) / kGroupRows};
    const size_t count = data.groups * sides;
    // A double: the number of multiplications need not fit into an integer.
    const double work =
        double(call.steps) * call.batch * (double(layer.inputs) + layer.outputs) * Layer::kGates * layer.hidden * sides;
    if (count > 1 && work > kParallelWork) {
      runtime.check(runtime.api.call(kContextParallelFor, context, &RowGroups<Layer>::run_group, count, size_t(0),
                                     static_cast<void*>(&data)));
    } else {
      for (size_t i = 0; i < count; ++i) RowGroups<Layer>::run_group(&data, i);
    }
    if (data.out_of_memory) throw std::bad_alloc();
  }

 private:
  // The steps and rows of x [T, B, inputs].
  void read_sizes(const Runtime& runtime, const OrtValue* x, int inputs, Call& call) const {
    Shape shape;
    runtime.read_shape(x, shape);
    require(shape.rank == 3 && shape.dims[2] == inputs && shape.dims[0] > 0 && shape.dims[1] > 0, [&] {
      return op.name + ": x has shape " + shape.text() + ", expected [time, batch, " + std::to_string(inputs) +
             "], both at least 1";
    });
    require(shape.dims[0] < (1 << 30) && shape.dims[1] < (1 << 24),
            [&] { return op.name + ": x has too many steps or rows"; });
    call.steps = int(shape.dims[0]);
    call.batch = int(shape.dims[1]);
  }

  // A state [sides, batch, size]; null where it is absent and may be.
  const float* read_state(const Runtime& runtime, const OrtKernelContext* context, size_t index, int sides, int batch,
                          int size) const {
    const OrtValue* state = op.optional[index] ? runtime.optional_input(context, index) : runtime.input(context, index);
    if (state == nullptr) return nullptr;
    Shape shape;
    runtime.read_shape(state, shape);
    const bool fits = shape.rank == 3 && shape.dims[0] == sides && shape.dims[1] == batch && shape.dims[2] == size;
    require(fits && shape.type == kFloat, [&] {
      return op.name + ": " + op.input_names[index] + " has shape " + shape.text() + ", expected [" +
             std::to_string(sides) + ", " + std::to_string(batch) + ", " + std::to_string(size) + "]";
    });
    return runtime.data<float>(state);
  }

  RunRows<Layer> run_;
};

template <typename Layer>
class RecurrentKernel : public SequenceKernel<Layer> {
 public:
  void compute(const Runtime& runtime, OrtKernelContext* context) const final {
    const OrtValue* lengths;
    Call call = this->read_inputs(runtime, context, layer_, 1, lengths);
    if (lengths != nullptr) call.lengths = runtime.template data<int64_t>(lengths);
    const int64_t y_dims[3] = {call.steps, call.batch, layer_.outputs};
    this->take_outputs(runtime, context, layer_, 1, y_dims, 3, call);
    this->run_groups(runtime, context, &layer_, &call, 1);
  }

 protected:
  using SequenceKernel<Layer>::SequenceKernel;

  Layer layer_;
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
