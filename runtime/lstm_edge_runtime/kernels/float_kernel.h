// The kernels of the float32 operators whose body is one ONNX node: they take what it takes, one direction or two.
#pragma once

#include "onnx_layout.h"
#include "recurrent_kernel.h"

namespace lstm_edge {

// The rows of one call in groups, of one direction and then of the other, for the threads of onnxruntime.
template <typename Layer>
struct SideGroups {
  RunRows<Layer> run;
  const Layer* layers;
  const Call* calls;
  size_t groups;
  std::atomic<bool> out_of_memory{false};

  static void run_group(void* data, size_t index) {
    auto& self = *static_cast<SideGroups*>(data);
    const Call& call = self.calls[index / self.groups];
    const int first = int(index % self.groups) * kGroupRows;
    try {
      self.run(self.layers[index / self.groups], call, first, std::min(first + kGroupRows, call.batch));
    } catch (const std::bad_alloc&) {  // must not leave a thread of onnxruntime's
      self.out_of_memory = true;
    }
  }
};

template <typename Layer>
class FloatKernel : public Kernel {
 public:
  void compute(OrtKernelContext* context) const final {
    size_t next = 0;
    const OrtValue* x = runtime.input(context, next++);
    const auto [steps, batch] = read_sizes(x);
    Call call{int(steps), int(batch), runtime.data<float>(x), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
    call.h = read_state(runtime.optional_input(context, next++), "h", batch);
    if (Layer::kHasCell) call.c = read_state(runtime.optional_input(context, next++), "c", batch);
    std::vector<int64_t> lengths;
    if (op.ragged) {
      lengths = read_lengths(runtime.input(context, next++), batch, steps);
      call.lengths = lengths.data();
    }
    call.directions = sides_;
    const int hidden = layers_[0].hidden;
    const int64_t y_dims[4] = {steps, sides_, batch, hidden}, state_dims[3] = {sides_, batch, hidden};
    call.y = runtime.output(context, 0, y_dims, 4);
    call.h_out = runtime.output(context, 1, state_dims, 3);
    if (Layer::kHasCell) call.c_out = runtime.output(context, 2, state_dims, 3);
    require(call.y && call.h_out && (call.c_out || !Layer::kHasCell),
            [&] { return op.name + ": an output is missing"; });
    const Call calls[2] = {side_of(call, 0), side_of(call, sides_ - 1)};
    run_groups(context, calls);
    for (int64_t row = 0; row < batch && op.ragged; ++row) {
      if (lengths[row] == 0) clear(call, int(row));
    }
  }

 protected:
  FloatKernel(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info, RunRows<Layer> run)
      : Kernel(runtime, op), run_(run) {
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

  Layer layers_[2];
  int64_t hidden_ = 0;
  int sides_ = 1;

 private:
  // The steps and rows of x [T, B, inputs].
  std::pair<int64_t, int64_t> read_sizes(const OrtValue* x) const {
    Shape shape;
    runtime.read_shape(x, shape);
    const int inputs = layers_[0].inputs;
    require(shape.rank == 3 && shape.dims[2] == inputs && shape.dims[0] > 0 && shape.dims[1] > 0, [&] {
      return op.name + ": x has shape " + shape.text() + ", expected [time, batch, " + std::to_string(inputs) +
             "], both at least 1";
    });
    require(shape.dims[0] < (1 << 30) && shape.dims[1] < (1 << 24),
            [&] { return op.name + ": x has too many steps or rows"; });
    return {shape.dims[0], shape.dims[1]};
  }

  // A state [directions, batch, H]; null where it is absent.
  const float* read_state(const OrtValue* state, const char* name, int64_t batch) const {
    if (state == nullptr) return nullptr;
    Shape shape;
    runtime.read_shape(state, shape);
    const bool fits = shape.rank == 3 && shape.dims[0] == sides_ && shape.dims[1] == batch && shape.dims[2] == hidden_;
    require(fits && shape.type == kFloat, [&] {
      return op.name + ": " + name + " has shape " + shape.text() + ", expected [" + std::to_string(sides_) + ", " +
             std::to_string(batch) + ", " + std::to_string(hidden_) + "]";
    });
    return runtime.data<float>(state);
  }

  std::vector<int64_t> read_lengths(const OrtValue* lengths, int64_t batch, int64_t steps) const {
    Shape shape;
    runtime.read_shape(lengths, shape);
    require(shape.rank == 1 && shape.dims[0] == batch,
            [&] { return op.name + ": lengths has another shape than [batch]"; });
    const int32_t* given = runtime.data<int32_t>(lengths);
    std::vector<int64_t> found(batch);
    for (int64_t row = 0; row < batch; ++row) {
      int32_t length;
      std::memcpy(&length, given + row, sizeof length);
      require(length >= 0 && length <= steps, [&] {
        return op.name + ": lengths holds " + std::to_string(length) + ", expected 0 to " + std::to_string(steps);
      });
      found[row] = length;
    }
    return found;
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

  void run_groups(const OrtKernelContext* context, const Call* calls) const {
    const Call& call = calls[0];
    const Layer& layer = layers_[0];
    SideGroups<Layer> data{run_, layers_, calls, (size_t(call.batch) + kGroupRows - 1) / kGroupRows};
    const size_t count = data.groups * sides_;
    const double work = double(call.steps) * call.batch * (double(layer.inputs) + layer.outputs) * Layer::kGates *
                        layer.hidden * sides_;
    if (count > 1 && work > kParallelWork) {
      runtime.check(runtime.api.call(kContextParallelFor, context, &SideGroups<Layer>::run_group, count, size_t(0),
                                     static_cast<void*>(&data)));
    } else {
      for (size_t i = 0; i < count; ++i) SideGroups<Layer>::run_group(&data, i);
    }
    if (data.out_of_memory) throw std::bad_alloc();
  }

  RunRows<Layer> run_;
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
