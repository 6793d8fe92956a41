// Operators that move elements and compute none.
#include <algorithm>
#include <cstring>
#include <optional>

#include "direct_tensors.h"
#include "onnx_schema.h"

namespace lstm_edge::device {
namespace {

// The whole numbers of an attribute; nothing where the node lacks it.
std::optional<std::vector<int64_t>> whole_numbers(std::string_view data, const Message& node, std::string_view name) {
  for (const Message* attribute : node.messages("attribute")) {
    if (attribute->text("name") != name) continue;
    const Message again = read_again(data, *attribute, kWholeNumbersSchema);
    const Sizes sizes = read_sizes(again, again.has("i") ? "i" : "ints");
    if (sizes.count > Sizes::kShown) return std::nullopt;
    std::vector<int64_t> numbers(size_t(sizes.count));
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = int64_t(sizes.first[i]);
    return numbers;
  }
  return std::nullopt;
}

class Transpose final : public DirectOperator {
 public:
  explicit Transpose(std::vector<int64_t> order) : order_(std::move(order)) {}

  bool find_shape(const Inputs& inputs, Tensor& output) const override {
    const Tensor& x = *inputs[0];
    std::vector<int64_t> sorted = order_;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < sorted.size(); ++i) {
      if (sorted[i] != int64_t(i)) return false;
    }
    if (x.type != LSTM_EDGE_FLOAT32 || x.shape.size() != order_.size() || !has_few_axes(x)) return false;
    output.type = x.type;
    output.shape.clear();
    for (const int64_t axis : order_) output.shape.push_back(x.shape[size_t(axis)]);
    return true;
  }

  bool run(const Inputs& inputs, Tensor& output) const override {
    const Tensor& x = *inputs[0];
    const Strides from = strides_of(x.shape);
    Strides strides{};
    for (size_t axis = 0; axis < order_.size(); ++axis) strides[axis] = from[size_t(order_[axis])];
    const float* source = x.as<const float>();
    float* target = output.as<float>();
    walk(output.shape, strides, [&](int64_t place) { *target++ = source[place]; });
    return true;
  }

  bool only_renames(const Inputs& inputs) const override {
    int64_t last = -1;  // of the axes with more than one index
    for (const int64_t axis : order_) {
      if (inputs[0]->shape[size_t(axis)] == 1) continue;
      if (axis < last) return false;
      last = axis;
    }
    return true;
  }

 private:
  const std::vector<int64_t> order_;
};

// The numbers of a constant int64 input of at most LSTM_EDGE_MOST_AXES elements.
bool read_numbers(const Tensor& tensor, std::vector<int64_t>& numbers) {
  const int64_t count = element_count(tensor.shape);
  if (tensor.type != LSTM_EDGE_INT64 || tensor.data == nullptr || count > LSTM_EDGE_MOST_AXES) return false;
  numbers.assign(tensor.as<const int64_t>(), tensor.as<const int64_t>() + count);
  return true;
}

// Squeeze and Unsqueeze at constant axes: other axes, the same elements.
class Rename final : public DirectOperator {
 public:
  explicit Rename(bool squeezes) : squeezes_(squeezes) {}

  bool needs_constant(size_t input) const override { return input == 1; }

  bool find_shape(const Inputs& inputs, Tensor& output) const override {
    const Tensor& x = *inputs[0];
    std::vector<int64_t> axes;
    if (!has_few_axes(x) || !read_numbers(*inputs[1], axes)) return false;
    const auto rank = int64_t(x.shape.size()) + (squeezes_ ? 0 : int64_t(axes.size()));
    std::vector<bool> named(static_cast<size_t>(rank));
    for (int64_t axis : axes) {
      axis += axis < 0 ? rank : 0;
      if (axis < 0 || axis >= rank || named[size_t(axis)]) return false;
      named[size_t(axis)] = true;
    }
    output.type = x.type;
    output.shape.clear();
    size_t next = 0;
    for (size_t axis = 0; axis < named.size(); ++axis) {
      if (squeezes_ && named[axis] && x.shape[axis] != 1) return false;
      if (!squeezes_) output.shape.push_back(named[axis] ? 1 : x.shape[next++]);
      if (squeezes_ && !named[axis]) output.shape.push_back(x.shape[axis]);
    }
    return has_few_axes(output);
  }

  bool run(const Inputs& inputs, Tensor& output) const override {
    const size_t bytes = size_t(element_count(output.shape)) * item_size(lstm_edge_dtype(output.type));
    if (bytes > 0) std::memcpy(output.data, inputs[0]->data, bytes);
    return true;
  }

  bool only_renames(const Inputs&) const override { return true; }

 private:
  const bool squeezes_;
};

// Rows of x along an axis, by int64 indices, which may count from the end.
class Gather final : public DirectOperator {
 public:
  explicit Gather(int64_t axis) : axis_(axis) {}

  bool find_shape(const Inputs& inputs, Tensor& output) const override {
    const Tensor &x = *inputs[0], &index = *inputs[1];
    const auto rank = int64_t(x.shape.size());
    const int64_t axis = axis_ < 0 ? axis_ + rank : axis_;
    if (index.type != LSTM_EDGE_INT64 || !has_few_axes(x) || axis < 0 || axis >= rank) return false;
    output.type = x.type;
    output.shape.assign(x.shape.begin(), x.shape.begin() + axis);
    output.shape.insert(output.shape.end(), index.shape.begin(), index.shape.end());
    output.shape.insert(output.shape.end(), x.shape.begin() + axis + 1, x.shape.end());
    return has_few_axes(output);
  }

  bool run(const Inputs& inputs, Tensor& output) const override {
    const Tensor &x = *inputs[0], &index = *inputs[1];
    const size_t axis = size_t(axis_ < 0 ? axis_ + int64_t(x.shape.size()) : axis_);
    int64_t outer = 1, inner = int64_t(item_size(lstm_edge_dtype(x.type)));
    for (size_t i = 0; i < axis; ++i) outer *= x.shape[i];
    for (size_t i = axis + 1; i < x.shape.size(); ++i) inner *= x.shape[i];
    const int64_t rows = x.shape[axis], count = element_count(index.shape);
    const auto* from = x.as<const char>();
    auto* to = output.as<char>();
    for (int64_t i = 0; i < outer; ++i) {
      for (int64_t j = 0; j < count; ++j) {
        int64_t row = index.as<const int64_t>()[j];
        row += row < 0 ? rows : 0;
        if (row < 0 || row >= rows) return false;
        std::memcpy(to + (i * count + j) * inner, from + (i * rows + row) * inner, size_t(inner));
      }
    }
    return true;
  }

 private:
  const int64_t axis_;
};

// int8 to float32, which holds every int8.
class FromInt8 final : public DirectOperator {
 public:
  bool find_shape(const Inputs& inputs, Tensor& output) const override {
    output.type = LSTM_EDGE_FLOAT32;
    output.shape = inputs[0]->shape;
    return inputs[0]->type == LSTM_EDGE_INT8;
  }

  bool run(const Inputs& inputs, Tensor& output) const override {
    const int64_t count = element_count(output.shape);
    for (int64_t i = 0; i < count; ++i) output.as<float>()[i] = inputs[0]->as<const int8_t>()[i];
    return true;
  }
};

}  // namespace

std::unique_ptr<const DirectOperator> make_rearrangement(std::string_view data, const Message& node) {
  const std::string_view name = node.text("op_type");
  const size_t inputs = node.texts("input").size();
  if (name == "Transpose" && inputs == 1) {
    auto order = whole_numbers(data, node, "perm");
    return order.has_value() ? std::make_unique<Transpose>(std::move(*order)) : nullptr;
  }
  // Before opset 13 the axes were attributes: a node of one input is onnxruntime's.
  if (name == "Squeeze" && inputs == 2) return std::make_unique<Rename>(true);
  if (name == "Unsqueeze" && inputs == 2) return std::make_unique<Rename>(false);
  if (name == "Gather" && inputs == 2) {
    const auto axis = whole_numbers(data, node, "axis");
    return std::make_unique<Gather>(axis.has_value() && axis->size() == 1 ? (*axis)[0] : 0);
  }
  if (name == "Cast" && inputs == 1) {
    const auto to = whole_numbers(data, node, "to");
    const bool floats = to.has_value() && *to == std::vector<int64_t>{LSTM_EDGE_FLOAT32};
    return floats ? std::make_unique<FromInt8>() : nullptr;
  }
  return nullptr;
}

}  // namespace lstm_edge::device
