#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "error.h"
#include "model_limits.h"
#include "onnx_schema.h"
#include "stored_matrices.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

struct Type {
  uint64_t number;  // TensorProto.DataType
  const char* name;
  uint64_t bytes;
};
constexpr Type kTypes[] = {{1, "float32", 4}, {3, "int8", 1}, {6, "int32", 4}, {7, "int64", 8}};
constexpr const char* kMatrixTypes[] = {"int8", "float32", "int32", "int64"};  // blocks, scale, index, rows

// A tensor's values as raw bytes, which need not be aligned, and its axes.
struct Constant {
  const Type* type = nullptr;  // nullptr: a tensor that is not checked
  std::string_view raw;
  Sizes shape;

  uint64_t size() const { return raw.size() / type->bytes; }
  template <typename T>
  T at(uint64_t index) const {
    T value;
    std::memcpy(&value, raw.data() + index * sizeof(T), sizeof(T));
    return value;
  }
};

Constant read_constant(std::string_view data, const Message* stored) {
  Constant constant;
  if (stored == nullptr) return constant;
  const Message tensor = read_again(data, *stored, kRawContentSchema);
  const uint64_t number = tensor.number("data_type");
  const auto* type =
      std::find_if(std::begin(kTypes), std::end(kTypes), [=](const Type& one) { return one.number == number; });
  if (type == std::end(kTypes) || !tensor.has("raw_data")) return constant;
  constant.raw = tensor.bytes("raw_data");
  constant.shape = read_sizes(tensor, "dims");
  uint64_t bytes;
  if (__builtin_mul_overflow(constant.shape.product, type->bytes, &bytes) || bytes != constant.raw.size()) return {};
  constant.type = type;
  return constant;
}

int gates_of(std::string_view operation) {
  switch (operation.front()) {
    case 'L': return 4;
    case 'G': return 3;
    case 'R': return 1;
    default: return 0;  // none of ours
  }
}

std::string shown(const Sizes& shape) {
  std::string text = "[";
  for (uint64_t i = 0; i < std::min<uint64_t>(shape.count, Sizes::kShown); ++i) {
    text += (i ? ", " : "") + std::to_string(shape.first[i]);
  }
  return text + (shape.count > Sizes::kShown ? ", ...]" : "]");
}

uint64_t divided_up(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

// Checks numbers of blocks and sums of columns; `height` and `width` count the places.
void check_blocks(const std::string& where, const Constant& blocks, const Constant& index, uint64_t height,
                  uint64_t width) {
  const uint64_t count = index.size();
  bool sound = count > 0;
  int64_t last = -1;
  for (uint64_t i = 0; i < count && sound; ++i) {
    const int64_t number = index.at<int32_t>(i);
    sound = number > last && number < int64_t(width * height);
    last = number;
  }
  if (!sound) {
    fail(LSTM_EDGE_ARTIFACT, where + " has numbers of blocks that do not increase from 0 to at most " +
                                 std::to_string(width * height - 1) +
                                 ": the file is damaged or from a faulty tool; quantize the model again");
  }
  // The numbers increase, so the blocks of a column follow each other.
  uint64_t largest = 0, sums[kBlockColumns] = {};
  for (uint64_t i = 0; i < count; ++i) {
    if (i > 0 && uint64_t(index.at<int32_t>(i)) / height != uint64_t(index.at<int32_t>(i - 1)) / height) {
      std::fill(std::begin(sums), std::end(sums), 0);
    }
    for (uint64_t at = 0; at < kBlockRows * kBlockColumns; ++at) {
      uint64_t& sum = sums[at % kBlockColumns];
      sum += uint64_t(std::abs(int(blocks.at<int8_t>(i * kBlockRows * kBlockColumns + at))));
      largest = std::max(largest, sum);
    }
  }
  if (largest > kLargestColumnSum) {
    fail(LSTM_EDGE_ARTIFACT, where + " has a column whose magnitudes sum to " + std::to_string(largest) + ", at most " +
                                 std::to_string(kLargestColumnSum) + " is allowed: quantize the model again");
  }
}

// Checks the dtypes and shapes of blocks, scales, numbers of blocks and rows, and then the numbers.
void check_matrix(const std::string& where, uint64_t gates, const Constant* inputs) {
  const Constant &blocks = inputs[0], &scale = inputs[1], &index = inputs[2], &rows = inputs[3];
  bool alike = index.shape.count == 1 && scale.shape.count == 1;
  std::vector<std::string> found, expected, axes;
  for (int i = 0; i < 4; ++i) {
    found.push_back(repr(inputs[i].type->name));
    expected.push_back(repr(kMatrixTypes[i]));
    axes.push_back(std::to_string(inputs[i].shape.count));
    alike = alike && found.back() == expected.back();
  }
  if (!alike) {
    fail(LSTM_EDGE_ARTIFACT, where + " has blocks, scales, numbers of blocks and rows of dtypes [" + joined(found) +
                                 "] with [" + joined(axes) + "] axes, expected [" + joined(expected) +
                                 "] with [3, 1, 1, 1] axes: export the model again");
  }
  const uint64_t shape[3] = {index.size(), kBlockRows, kBlockColumns};
  if (blocks.shape.count != 3 || !std::equal(shape, shape + 3, blocks.shape.first)) {
    fail(LSTM_EDGE_ARTIFACT, where + " has blocks of shape " + shown(blocks.shape) + ", expected [" +
                                 std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + ", " +
                                 std::to_string(shape[2]) + "]");
  }
  const int64_t count = rows.size() == 1 ? rows.at<int64_t>(0) : 0;
  if (count < 1 || uint64_t(count) > kMostSparseRows || scale.size() < gates) {
    std::vector<std::string> first;
    for (uint64_t i = 0; i < std::min<uint64_t>(rows.size(), 3); ++i) {
      first.push_back(std::to_string(rows.at<int64_t>(i)));
    }
    fail(LSTM_EDGE_ARTIFACT, where + " has the numbers of rows [" + joined(first) + "] and " +
                                 std::to_string(scale.size()) + " scales, expected one number from 1 to " +
                                 std::to_string(kMostSparseRows) + " and at least " + std::to_string(gates) +
                                 " scales: export the model again");
  }
  const uint64_t width = gates * divided_up(scale.size() / gates, kBlockColumns);
  check_blocks(where, blocks, index, divided_up(uint64_t(count), kBlockRows), width);
}

// Checks each matrix of a node: only numbers of blocks are int32, and they follow the blocks and the scale.
void check_node(std::string_view data, const Message& node, const Tensors& tensors) {
  const std::string_view operation = node.text("op_type");
  if (operation.find("SparseInt8") == std::string_view::npos || gates_of(operation) == 0) return;
  const std::vector<std::string_view> names = node.texts("input");
  std::vector<Constant> constants;
  for (std::string_view name : names) constants.push_back(read_constant(data, tensors.find(name)));
  for (size_t at = 2; at + 1 < constants.size(); ++at) {
    const Constant* inputs = &constants[at - 2];
    if (inputs[0].type == nullptr || inputs[1].type == nullptr || inputs[3].type == nullptr) continue;
    if (inputs[2].type == nullptr || inputs[2].type->number != 6) continue;
    const std::string where = std::string(operation) + ": matrix " + repr(first_characters(names[at - 2], 80));
    check_matrix(where, uint64_t(gates_of(operation)), inputs);
  }
}

}  // namespace

void check_sparse_matrices(std::string_view data, const ModelReading& reading) {
  for_each_operator(reading, [&](const Message& node, const Tensors& tensors) { check_node(data, node, tensors); });
}

}  // namespace lstm_edge::device
