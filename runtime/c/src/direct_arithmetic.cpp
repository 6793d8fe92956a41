// Sums, differences, products and quotients of float32 tensors: one rounding for each element.
#include <algorithm>

#include "direct_tensors.h"

namespace lstm_edge::device {
namespace {

enum class Sign { kAdd, kSubtract, kMultiply, kDivide };

// a, b float32, broadcast as NumPy does.
class Arithmetic final : public DirectOperator {
 public:
  explicit Arithmetic(Sign sign) : sign_(sign) {}

  bool find_shape(const Inputs& inputs, Tensor& output) const override {
    const Tensor &a = *inputs[0], &b = *inputs[1];
    if (a.type != LSTM_EDGE_FLOAT32 || b.type != LSTM_EDGE_FLOAT32 || !has_few_axes(a) || !has_few_axes(b))
      return false;
    output.type = a.type;
    output.shape.assign(std::max(a.shape.size(), b.shape.size()), 1);
    for (const Tensor* tensor : inputs) {
      const size_t lacks = output.shape.size() - tensor->shape.size();
      for (size_t axis = 0; axis < tensor->shape.size(); ++axis) {
        int64_t& size = output.shape[lacks + axis];
        const int64_t given = tensor->shape[axis];
        if (size != given && size != 1 && given != 1) return false;
        if (given != 1) size = given;
      }
    }
    return true;
  }

  bool run(const Inputs& inputs, Tensor& output) const override {
    switch (sign_) {
      case Sign::kAdd: apply(inputs, output, [](float a, float b) { return a + b; }); break;
      case Sign::kSubtract: apply(inputs, output, [](float a, float b) { return a - b; }); break;
      case Sign::kMultiply: apply(inputs, output, [](float a, float b) { return a * b; }); break;
      case Sign::kDivide: apply(inputs, output, [](float a, float b) { return a / b; }); break;
    }
    return true;
  }

 private:
  template <typename Operation>
  static void apply(const Inputs& inputs, Tensor& output, const Operation& operation) {
    float* target = output.as<float>();
    const auto *a = inputs[0]->as<const float>(), *b = inputs[1]->as<const float>();
    const int64_t count = element_count(output.shape);
    const int64_t a_count = element_count(inputs[0]->shape), b_count = element_count(inputs[1]->shape);
    // One of them is repeated over the leading axes, as a bias or a scale of the last axis is.
    if (a_count == count && repeats_whole(*inputs[1], output)) {
      for (int64_t i = 0; i < count; i += b_count) {
        for (int64_t j = 0; j < b_count; ++j) target[i + j] = operation(a[i + j], b[j]);
      }
      return;
    }
    const Strides a_strides = broadcast_strides(*inputs[0], output), b_strides = broadcast_strides(*inputs[1], output);
    walk(output.shape, a_strides, [&](int64_t place) { *target++ = a[place]; });
    target = output.as<float>();
    walk(output.shape, b_strides, [&](int64_t place) {
      *target = operation(*target, b[place]);
      ++target;
    });
  }

  // Whether the tensor's axes are the last ones of the output, in their full size.
  static bool repeats_whole(const Tensor& tensor, const Tensor& output) {
    size_t first = 0;
    while (first < tensor.shape.size() && tensor.shape[first] == 1) ++first;
    const size_t axes = tensor.shape.size() - first;
    return element_count(tensor.shape) > 0 && std::equal(tensor.shape.begin() + std::ptrdiff_t(first),
                                                         tensor.shape.end(), output.shape.end() - std::ptrdiff_t(axes));
  }

  static Strides broadcast_strides(const Tensor& tensor, const Tensor& output) {
    const Strides own = strides_of(tensor.shape);
    const size_t lacks = output.shape.size() - tensor.shape.size();
    Strides strides{};
    for (size_t axis = 0; axis < tensor.shape.size(); ++axis) {
      if (tensor.shape[axis] != 1) strides[lacks + axis] = own[axis];
    }
    return strides;
  }

  const Sign sign_;
};

}  // namespace

std::unique_ptr<const DirectOperator> make_arithmetic(std::string_view name) {
  if (name == "Add") return std::make_unique<Arithmetic>(Sign::kAdd);
  if (name == "Sub") return std::make_unique<Arithmetic>(Sign::kSubtract);
  if (name == "Mul") return std::make_unique<Arithmetic>(Sign::kMultiply);
  if (name == "Div") return std::make_unique<Arithmetic>(Sign::kDivide);
  return nullptr;
}

}  // namespace lstm_edge::device
