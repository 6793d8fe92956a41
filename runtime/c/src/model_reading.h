// The facts about a model file that the checks need: calls, functions, metadata, and external weights; see
// model_reading.py. Texts are views of the file's bytes, which must outlive the reading.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protobuf.h"

namespace lstm_edge::device {

struct Operator {
  std::string_view domain;
  std::string_view name;
  std::string_view overload;

  friend bool operator==(const Operator& a, const Operator& b) {
    return a.domain == b.domain && a.name == b.name && a.overload == b.overload;
  }
};

struct OperatorHash {
  size_t operator()(const Operator& one) const;
};

// Each operator once, in the order of the first call, with the number of its calls.
using CallCounts = std::vector<std::pair<Operator, uint64_t>>;
CallCounts count_calls(const std::vector<Operator>& calls);

// A model-local function; `data` are its serialized bytes, `calls` those of its body, subgraphs included.
struct Function {
  Operator operation;
  std::string_view data;
  CallCounts calls;
};

struct ModelReading {
  std::vector<Operator> calls;  // of each node of the graph, subgraphs included
  std::vector<Function> functions;
  std::vector<std::string> external;  // paths of tensors whose values are in another file
  std::vector<std::pair<std::string_view, std::string_view>> metadata;
  uint64_t graphs = 0;  // with the subgraphs in nodes and functions; a function's body is not counted
  Message model;
};

// Errors (LSTM_EDGE_ARTIFACT) as Python's read_model.
ModelReading read_model(std::string_view data);

// onnxruntime's key of a function, in which ("a:b", "c") and ("a", "b:c") are equal.
std::string identifier(const Operator& operation);

}  // namespace lstm_edge::device
