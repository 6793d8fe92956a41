#include "stored_matrices.h"

#include <cstdlib>

#include "error.h"
#include "model_limits.h"
#include "onnx_schema.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr uint64_t kInt8 = 3;  // TensorProto.DataType

void walk(const Message& graph, const Tensors* outer, const CheckNode& check) {
  const Tensors tensors(graph, outer);
  for (const Message* node : graph.messages("node")) {
    if (node->text("domain") == kDomain) check(*node, tensors);
    for (const Message* attribute : node->messages("attribute")) {
      for (const char* name : {"g", "graphs"}) {
        for (const Message* inner : attribute->messages(name)) walk(*inner, &tensors, check);
      }
    }
  }
}

void check_tensor(std::string_view data, std::string_view operation, std::string_view name, const Message& stored) {
  const Message tensor = read_again(data, stored, kRawContentSchema);
  const Sizes dims = read_sizes(tensor, "dims");
  if (tensor.number("data_type") != kInt8 || dims.count != 2 || !tensor.has("raw_data")) return;
  const uint64_t rows = dims.first[0], columns = dims.first[1];
  const std::string_view raw = tensor.bytes("raw_data");
  // An empty matrix, or one that onnxruntime refuses.
  if (rows <= kRowsWithinLimit || columns == 0 || dims.product != raw.size()) return;
  std::vector<uint64_t> sums(columns);
  const auto* weight = reinterpret_cast<const signed char*>(raw.data());
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint64_t column = 0; column < columns; ++column) sums[column] += uint64_t(std::abs(int(*weight++)));
  }
  for (uint64_t column = 0; column < columns; ++column) {
    if (sums[column] <= kLargestColumnSum) continue;
    fail(LSTM_EDGE_ARTIFACT, std::string(operation) + ": the magnitudes of column " + std::to_string(column) + " of " +
                                 repr(first_characters(name, 80)) + " sum to " + std::to_string(sums[column]) +
                                 ", at most " + std::to_string(kLargestColumnSum) +
                                 " is allowed: quantize the model again");
  }
}

}  // namespace

Tensors::Tensors(const Message& graph, const Tensors* outer) : outer_(outer) {
  for (const Message* tensor : graph.messages("initializer")) own_[tensor->text("name")] = tensor;
  for (const Message* node : graph.messages("node")) {
    if (node->text("op_type") != "Constant" || !node->has("output")) continue;
    for (const Message* attribute : node->messages("attribute")) {
      for (const Message* tensor : attribute->messages("t")) own_[node->text("output")] = tensor;
    }
  }
}

const Message* Tensors::find(std::string_view name) const {
  for (const Tensors* scope = this; scope != nullptr; scope = scope->outer_) {
    const auto found = scope->own_.find(name);
    if (found != scope->own_.end()) return found->second;
  }
  return nullptr;
}

void for_each_operator(const ModelReading& reading, const CheckNode& check) {
  for (const Message* graph : reading.model.messages("graph")) walk(*graph, nullptr, check);
}

void check_column_sums(std::string_view data, const ModelReading& reading) {
  for_each_operator(reading, [&](const Message& node, const Tensors& tensors) {
    const std::string_view operation = node.text("op_type");
    if (operation.find("Int8") == std::string_view::npos) return;
    for (std::string_view name : node.texts("input")) {
      if (const Message* stored = tensors.find(name)) check_tensor(data, operation, name, *stored);
    }
  });
}

}  // namespace lstm_edge::device
