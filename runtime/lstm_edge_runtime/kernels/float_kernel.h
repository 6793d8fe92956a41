// The kernels of the float32 operators whose body is one ONNX node: they take what it takes, one direction or two.
#pragma once

#include "onnx_layout.h"
#include "recurrent_kernel.h"

namespace lstm_edge {

template <typename Layer>
class FloatKernel : public SequenceKernel<Layer> {
 public:
  void compute(const Runtime& runtime, OrtKernelContext* context) const final {
    const OrtValue* lengths;
    Call call = this->read_inputs(runtime, context, layers_[0], sides_, lengths);
    if (lengths != nullptr) call.lengths = read_lengths(runtime, lengths, call);
    call.directions = sides_;
    const int64_t y_dims[4] = {call.steps, sides_, call.batch, layers_[0].hidden};
    this->take_outputs(runtime, context, layers_[0], sides_, y_dims, 4, call);
    const Call calls[2] = {side_of(call, 0), side_of(call, sides_ - 1)};
    this->run_groups(runtime, context, layers_, calls, sides_);
    for (int row = 0; row < call.batch && lengths != nullptr; ++row) {
      if (call.lengths[row] == 0) clear(call, row);
    }
  }

 protected:
  FloatKernel(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info, RunRows<Layer> run)
      : SequenceKernel<Layer>(runtime, op, run) {
    std::string direction;
    const bool given =
        runtime.attribute(info, "hidden_size", hidden_) && runtime.attribute(info, "direction", direction);
    const bool both = direction == "bidirectional";
    require(given && (both || direction == "forward" || direction == "reverse"), [&] {
      return op.name + ": the attributes hidden_size and direction must be there, the latter forward, reverse or " +
             "bidirectional";
    });
    sides_ = both ? 2 : 1;
    first_backward_ = direction == "reverse";
  }

  // The constants w [D, G · H, I], r [D, G · H, H] and b [D, 2 · G · H].
  struct Weights {
    const float *w, *r, *b;
    int inputs;
    size_t w_size, r_size, b_size;  // of one direction
  };
  Weights read(Constants& constants) const {
    require(hidden_ > 0 && hidden_ < (1 << 24) / Layer::kGates,
            [&] { return op.name + ": hidden_size is " + std::to_string(hidden_); });
    const int64_t rows = int64_t(Layer::kGates) * hidden_;
    Shape shape;
    Weights weights;
    weights.w = constants.template take<float>({sides_, rows, -1}, shape);
    weights.inputs = int(shape.dims[2]);
    weights.r = constants.template take<float>({sides_, rows, hidden_}, shape);
    weights.b = constants.template take<float>({sides_, 2 * rows}, shape);
    weights.w_size = size_t(rows) * weights.inputs;
    weights.r_size = size_t(rows) * hidden_;
    weights.b_size = size_t(rows) * 2;
    return weights;
  }

  using SequenceKernel<Layer>::op;

  Layer layers_[2];
  int64_t hidden_ = 0;
  int sides_ = 1;

 private:
  Lengths read_lengths(const Runtime& runtime, const OrtValue* value, const Call& call) const {
    const Lengths lengths = runtime.template data<int32_t>(value);
    for (int row = 0; row < call.batch; ++row) {
      require(lengths[row] >= 0 && lengths[row] <= call.steps, [&] {
        return op.name + ": lengths holds " + std::to_string(lengths[row]) + ", expected 0 to " +
               std::to_string(call.steps);
      });
    }
    return lengths;
  }

  // The part of a call that is one direction's.
  Call side_of(Call call, int side) const {
    const size_t state = size_t(side) * call.batch * layers_[0].hidden;
    if (call.h != nullptr) call.h += state;
    if (call.c != nullptr) call.c += state;
    call.y += state;
    call.h_out += state;
    if (Layer::kHasCell) call.c_out += state;
    call.backward = side == 1 || first_backward_;
    return call;
  }

  // onnxruntime's node gives zeros as the final state of a row without steps.
  void clear(const Call& call, int row) const {
    const size_t hidden = layers_[0].hidden;
    for (int side = 0; side < sides_; ++side) {
      const size_t at = (size_t(side) * call.batch + row) * hidden;
      std::memset(call.h_out + at, 0, sizeof(float) * hidden);
      if (Layer::kHasCell) std::memset(call.c_out + at, 0, sizeof(float) * hidden);
    }
  }

  bool first_backward_ = false;
};

class FloatLstmKernel final : public FloatKernel<Lstm> {
 public:
  FloatLstmKernel(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info)
      : FloatKernel(runtime, op, info, instruction_set().lstm[int(Precision::kFloat)][int(op.peephole)]) {
    Constants constants(runtime, info, op, op.ragged ? 4 : 3);
    const Weights given = read(constants);
    Shape shape;
    const bool diagonal = op.peephole == Peephole::kDiagonal;
    const float* p = diagonal ? constants.take<float>({sides_, 3 * hidden_}, shape) : nullptr;
    for (int side = 0; side < sides_; ++side) {
      layers_[side] =
          onnx_lstm(given.w + side * given.w_size, given.r + side * given.r_size, given.b + side * given.b_size,
                    diagonal ? p + side * 3 * hidden_ : nullptr, given.inputs, int(hidden_));
    }
  }
};

class FloatGruKernel final : public FloatKernel<Gru> {
 public:
  FloatGruKernel(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info)
      : FloatKernel(runtime, op, info, instruction_set().gru[int(Precision::kFloat)][op.reset_after]) {
    Constants constants(runtime, info, op, op.ragged ? 3 : 2);
    const Weights given = read(constants);
    for (int side = 0; side < sides_; ++side) {
      layers_[side] = onnx_gru(given.w + side * given.w_size, given.r + side * given.r_size,
                               given.b + side * given.b_size, given.inputs, int(hidden_), op.reset_after);
    }
  }
};

}  // namespace lstm_edge
