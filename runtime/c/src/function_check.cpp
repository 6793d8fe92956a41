#include "function_check.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "error.h"
#include "function_digests.h"
#include "model_file.h"
#include "model_limits.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr uint64_t kEndless = UINT64_MAX;  // a number of nodes that no limit allows

uint64_t times(uint64_t a, uint64_t b) {
  uint64_t product;
  return __builtin_mul_overflow(a, b, &product) ? kEndless : product;
}

uint64_t plus(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? kEndless : sum;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// The SHA-256 of a function as a file of opset 18 has it. A function imports the opset of its file, and the bodies mean
// the same from 18 on. The version stands right before the function's domain, which ends a serialized function.
std::string digest_at_opset_18(std::string_view function) {
  if (ends_with(function, kFunctionEnd) && function.size() > kFunctionEnd.size()) {
    const size_t version = function.size() - kFunctionEnd.size() - 1;
    const unsigned char given = static_cast<unsigned char>(function[version]);
    if (ends_with(function.substr(0, version), kFunctionImport) && given >= 18 && given < 128) {
      std::string copy(function);
      copy[version] = 18;
      return sha256_hex(copy);
    }
  }
  return sha256_hex(function);
}

const FunctionDigest* find_digest(std::string_view name) {
  const auto* end = std::end(kFunctionDigests);
  const auto* found = std::lower_bound(std::begin(kFunctionDigests), end, name,
                                       [](const FunctionDigest& one, std::string_view key) { return one.name < key; });
  return found != end && found->name == name ? found : nullptr;
}

// Refuses a second meaning of one of our names: an overload has its own body, and the name's kernel.
void check_overload(const Operator& operation) {
  if (operation.domain != kDomain || operation.overload.empty()) return;
  fail(LSTM_EDGE_ARTIFACT, "the file uses the overload " + repr(first_characters(operation.overload, 40)) +
                               " of lstm_edge::" + std::string(first_characters(operation.name, 80)) +
                               ", and these operators have none: export the model again");
}

std::string spelled(const Operator& operation) {
  std::string text;
  for (std::string_view part : {operation.domain, operation.name, operation.overload}) {
    if (part.empty()) continue;
    if (!text.empty()) text += "::";
    text += part;
  }
  return text;
}

// The nodes of each function once every call in it is replaced by its body; Python's check_calls.
class Inlining {
 public:
  explicit Inlining(const std::vector<Function>& functions) : functions_(functions), nodes_(functions.size()) {
    for (size_t i = 0; i < functions.size(); ++i) indices_.emplace(functions[i].operation, i);
    for (size_t start = 0; start < functions.size(); ++start) count_from(start);
  }

  uint64_t nodes(const CallCounts& calls) const {
    uint64_t total = 0;
    for (const auto& [callee, count] : calls) {
      const auto found = indices_.find(callee);
      total = plus(total, times(count, found == indices_.end() ? 1 : nodes_[found->second].count));
    }
    return total;
  }

 private:
  struct Nodes {
    uint64_t count = 1;
    bool known = false;
    bool open = false;  // on the path
  };
  struct Step {
    size_t function;
    size_t next = 0;  // the next call to look at: all before it are known
  };

  void count_from(size_t start) {
    std::vector<Step> path{{start}};
    nodes_[start].open = true;
    while (!path.empty()) {
      Step& step = path.back();
      const CallCounts& calls = functions_[step.function].calls;
      size_t callee = functions_.size();
      for (; step.next < calls.size(); ++step.next) {
        const auto found = indices_.find(calls[step.next].first);
        if (found == indices_.end() || nodes_[found->second].known) continue;
        callee = found->second;
        break;
      }
      if (callee == functions_.size()) {
        nodes_[step.function] = {nodes(calls), true, false};
        path.pop_back();
        continue;
      }
      if (nodes_[callee].open) {
        const std::string name = spelled(functions_[callee].operation);
        fail(LSTM_EDGE_ARTIFACT,
             "function " + repr(first_characters(name, 80)) + " calls itself, directly or through others");
      }
      nodes_[callee].open = true;
      path.push_back({callee});
      if (path.size() > kDeepestCalls) {
        fail(LSTM_EDGE_ARTIFACT, "functions call each other more than " + std::to_string(kDeepestCalls) + " deep");
      }
    }
  }

  const std::vector<Function>& functions_;
  std::vector<Nodes> nodes_;
  std::unordered_map<Operator, size_t, OperatorHash> indices_;
};

void check_inlining(const ModelReading& reading) {
  const uint64_t total = Inlining(reading.functions).nodes(count_calls(reading.calls));
  if (total > kMostInlinedNodes) {
    fail(LSTM_EDGE_ARTIFACT,
         "with its functions inlined the model has over " + std::to_string(kMostInlinedNodes) + " nodes");
  }
  uint64_t written = reading.calls.size();
  for (const Function& function : reading.functions) {
    for (const auto& call : function.calls) written += call.second;
  }
  if (total > std::max(kMostGrownNodes, kMostGrowth * written)) {
    fail(LSTM_EDGE_ARTIFACT, "with its functions inlined the model has " + std::to_string(total) +
                                 " nodes, and the file has " + std::to_string(written) + ": expected at most " +
                                 std::to_string(kMostGrowth) + " times as many above " +
                                 std::to_string(kMostGrownNodes) + "; inline the functions when you export it");
  }
}

}  // namespace

void check_functions(const ModelReading& reading) {
  check_inlining(reading);
  const std::string prefix = std::string(kDomain) + ":";
  for (const Function& function : reading.functions) {
    check_overload(function.operation);
    for (const auto& call : function.calls) check_overload(call.first);
    std::string name = identifier(function.operation);
    if (name.compare(0, prefix.size(), prefix) != 0) continue;
    name.erase(0, prefix.size());
    const FunctionDigest* known = find_digest(name);
    if (known == nullptr) {
      fail(LSTM_EDGE_ARTIFACT, "the file uses lstm_edge::" + std::string(first_characters(name, 80)) +
                                   ", which this version does not know: update lstm-edge");
    }
    if (digest_at_opset_18(function.data) != known->sha256) {
      fail(LSTM_EDGE_ARTIFACT,
           "the file's body of lstm_edge::" + name + " differs from docs/operators.md: export the model again");
    }
  }
  for (const Operator& call : reading.calls) check_overload(call);
}

void check_whole(const ModelReading& reading) {
  if (reading.external.empty()) return;
  fail(LSTM_EDGE_ARTIFACT,
       "its weights lie in another file: make it one file first, on a machine that has onnx, with "
       R"(onnx.save(onnx.load("model.onnx"), "whole.onnx"))");
}

std::vector<std::string> called_operators(const ModelReading& reading) {
  std::vector<std::string> names;
  for (const Operator& call : reading.calls) {
    if (call.domain == kDomain) names.emplace_back(call.name);
  }
  for (const Function& function : reading.functions) {
    if (function.operation.domain == kDomain) continue;
    for (const auto& [call, count] : function.calls) {
      if (call.domain == kDomain) names.insert(names.end(), count, std::string(call.name));
    }
  }
  return names;
}

}  // namespace lstm_edge::device
