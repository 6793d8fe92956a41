// The model card: the description that a model file holds of itself. The fields are those of card.py, under the same
// names; what the C library never looks at is kept as JSON only (`document`).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "array.h"

namespace lstm_edge::device {

// The size of a fixed axis, or the name of a dynamic one: "batch" and "time" have a fixed meaning. JSON's integers have
// any size: what int64_t does not hold is its nearest value here, as in all integers of a card.
using Axis = std::variant<int64_t, std::string>;
using Axes = std::vector<Axis>;

struct TensorSpec {
  std::string name;
  std::string dtype;  // NumPy's name
  Axes axes;
  std::optional<std::vector<double>> range;  // the least and the largest value, which read_contract checks
};

struct StateSpec {
  std::string input;
  std::string output;
  std::string kind;  // "h", "c", "packed" or "cache"
  std::string module;
  int64_t layer = 0;
  Axes axes;
  bool nonnegative = false;
  bool counts = false;
  std::string dtype = "float32";
};

struct Streaming {
  std::string verdict = "every-step";
  std::string reason;
  int64_t latency_steps = 0;
  int64_t first = 1;
  int64_t first_gives = 1;
  int64_t every = 1;
  int64_t gives = 1;
  std::optional<std::string> end;
};

struct FrontEnd {
  std::string input;
  std::string text;
  int64_t rate_hz = 0;
  int64_t first = 0;
  int64_t every = 0;
};

struct Card {
  std::string task;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  std::vector<StateSpec> states;
  std::optional<std::string> lengths;
  Streaming streaming;
  std::vector<std::string> vocabulary;  // empty if null
  std::optional<FrontEnd> front_end;
  bool quantized = false;
  std::vector<std::string> inexact;  // outputs that quantization.inexact names
  bool inexact_known = false;
  std::string minimum_onnxruntime;
  std::string json;  // the whole card as Python's serialize_card writes it
};

constexpr char kCardKey[] = "lstm_edge";

// Reads a card from JSON text: what Python's parse_card accepts, with its defaults for older minor versions, or an
// Error (LSTM_EDGE_CARD) with the same sentence.
Card parse_card(std::string_view text);

// How many rows of a state's axis belong to one row of the batch: 1 for "batch", 3 for "batch*3", else none.
std::optional<int64_t> batch_factor(const Axis& axis);

}  // namespace lstm_edge::device
