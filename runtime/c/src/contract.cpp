#include "contract.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "error.h"
#include "row_bytes.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

// Limits for one row of an input or output, and for all states of one row together, because arrays of the sizes that a
// card or a graph declares are allocated.
constexpr int64_t kMostTensorBytes = int64_t(1) << 30;
constexpr int64_t kMostStateBytes = int64_t(1) << 28;
// Of a range in a card: random integers and float32 numbers are drawn within it.
constexpr double kLargestValue = 2147483647.0;
// Limit for each count of steps in card.streaming: a stream keeps so many input steps.
constexpr int64_t kMostSteps = 65536;
constexpr int64_t kFloatBytes = 4;
constexpr char kTime[] = "time";

// The tensors of a graph in its order, with the element types by NumPy's names.
using Graph = std::vector<TensorSpec>;

[[noreturn]] void fail_card(const std::string& message) { fail(LSTM_EDGE_CARD, "model card: " + message); }

// NumPy's name of an element type of onnxruntime; 0 where it is no number.
lstm_edge_dtype dtype_of_graph(std::string_view type) {
  constexpr std::string_view kStart = "tensor(";
  if (type.substr(0, kStart.size()) != kStart || type.back() != ')') return lstm_edge_dtype(0);
  const std::string_view name = type.substr(kStart.size(), type.size() - kStart.size() - 1);
  if (name == "float") return LSTM_EDGE_FLOAT32;
  if (name == "double") return LSTM_EDGE_FLOAT64;
  return name == "float32" || name == "float64" ? lstm_edge_dtype(0) : dtype_of(name);
}

void check_names(const std::string& role, const GraphTensor& node) {
  std::vector<std::string> names = {node.name};
  for (const Axis& axis : node.axes) {
    if (const auto* name = std::get_if<std::string>(&axis)) names.push_back(*name);
  }
  for (const std::string& name : names) {
    if (!is_printable_text(name)) {
      fail(LSTM_EDGE_ARTIFACT,
           role + " " + repr(node.name) + ": the name " + repr(name) + " holds a control character");
    }
  }
}

// The product in full, which may be larger than an int64_t.
std::string graph_bytes(const Axes& axes, lstm_edge_dtype dtype) {
  std::vector<std::string> factors = {std::to_string(item_size(dtype))};
  for (const Axis& axis : axes) factors.push_back(std::to_string(row_bytes({axis}, 1)));
  return with_commas(product(factors));
}

TensorSpec read_tensor(const std::string& role, const GraphTensor& node) {
  check_names(role, node);
  const lstm_edge_dtype dtype = dtype_of_graph(node.type);
  if (dtype == 0) {
    fail(LSTM_EDGE_ARTIFACT,
         role + " " + repr(node.name) + " is a " + node.type + "; only tensors of numbers are supported");
  }
  TensorSpec spec;
  spec.name = node.name;
  spec.dtype = dtype_name(dtype);
  spec.axes = node.axes;
  // A dimension without a name gets a unique one, so that it is independent of all others.
  for (size_t i = 0; i < spec.axes.size(); ++i) {
    auto* name = std::get_if<std::string>(&spec.axes[i]);
    if (name != nullptr && name->empty()) *name = node.name + "." + std::to_string(i);
  }
  if (row_bytes(spec.axes, int64_t(item_size(dtype))) > kMostTensorBytes) {
    fail(LSTM_EDGE_ARTIFACT, role + " " + repr(node.name) + ": the graph declares " + axes_text(spec.axes) + ", " +
                                 graph_bytes(spec.axes, dtype) + " bytes a row; at most " +
                                 with_commas(kMostTensorBytes) + " are allowed");
  }
  return spec;
}

Graph read_tensors(const std::string& role, const std::vector<GraphTensor>& nodes) {
  Graph graph;
  // A graph may list an output twice: it is one tensor.
  std::map<std::string, size_t> places;
  for (const GraphTensor& node : nodes) {
    TensorSpec spec = read_tensor(role, node);
    const auto [place, is_new] = places.emplace(spec.name, graph.size());
    if (is_new) {
      graph.push_back(std::move(spec));
    } else {
      graph[place->second] = std::move(spec);
    }
  }
  return graph;
}

std::vector<std::string> names_of(const std::vector<TensorSpec>& specs) {
  std::vector<std::string> names;
  for (const TensorSpec& spec : specs) names.push_back(spec.name);
  return names;
}

std::vector<std::string> inputs_of(const std::vector<StateSpec>& states) {
  std::vector<std::string> names;
  for (const StateSpec& state : states) names.push_back(state.input);
  return names;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool has_time(const std::vector<TensorSpec>& specs) {
  return std::any_of(specs.begin(), specs.end(), [](const TensorSpec& spec) {
    return std::find(spec.axes.begin(), spec.axes.end(), Axis(std::string(kTime))) != spec.axes.end();
  });
}

const TensorSpec& find(const std::string& path, const std::string& role, const std::string& name, const Graph& graph) {
  for (const TensorSpec& spec : graph) {
    if (spec.name == name) return spec;
  }
  fail_card(path + " is " + repr(name) + ", the graph has the " + role + "s " +
            (graph.empty() ? "none" : joined(names_of(graph))));
}

// A tensor or state of the card whose axes are compared.
struct Place {
  const Card& card;
  const char* field;
  size_t index;
  std::string path() const { return std::string("card.") + field + "[" + std::to_string(index) + "]"; }
  std::string axes() const { return shown_axes(card, field, index); }
};

void check_axes(const Place& place, const std::string& name, const Axes& card, const Axes& graph) {
  const std::string path = place.path() + ".axes is ";
  // A size in the card for a named axis of the graph is an additional promise and is allowed. A name in the card for a
  // size of the graph contradicts the graph, and so do two different sizes.
  bool agree = card.size() == graph.size();
  for (size_t i = 0; agree && i < card.size(); ++i) {
    agree = std::holds_alternative<std::string>(graph[i]) || card[i] == graph[i];
  }
  if (!agree) fail_card(path + place.axes() + ", the graph's " + repr(name) + " has " + axes_text(graph));
  for (const Axis& axis : card) {
    const auto* size = std::get_if<int64_t>(&axis);
    if (size != nullptr && *size < 1) fail_card(path + place.axes() + ", a fixed axis has at least 1 element");
  }
  if (row_bytes(card, kFloatBytes) > kMostTensorBytes) {
    fail_card(path + place.axes() + ", " + shown_row_bytes(place.card, place.field, place.index) +
              " bytes a row; at most " + with_commas(kMostTensorBytes) + " are allowed");
  }
}

std::string range_text(const std::vector<double>& range) {
  std::string text;
  for (size_t i = 0; i < range.size() && text.size() < 4 * 61; ++i) text += (i ? ", " : "") + float_text(range[i]);
  return shortened("[" + text + "]");
}

void check_tensors(const Card& card, const char* field, const Graph& graph) {
  const bool outputs = std::string_view(field) == "outputs";
  const std::vector<TensorSpec>& specs = outputs ? card.outputs : card.inputs;
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorSpec& spec = specs[i];
    const Place place{card, field, i};
    if (spec.range.has_value()) {
      const std::vector<double>& range = *spec.range;
      const bool fine =
          range.size() == 2 && -kLargestValue <= range[0] && range[0] <= range[1] && range[1] <= kLargestValue;
      if (!fine) {
        fail_card(place.path() + ".range is " + range_text(range) +
                  ", expected the least and the largest value, at most " + general(kLargestValue) + " in magnitude");
      }
    }
    const TensorSpec& found = find(place.path() + ".name", outputs ? "output" : "input", spec.name, graph);
    if (spec.dtype != found.dtype) {
      fail_card(place.path() + ".dtype is " + shortened(repr(spec.dtype)) + ", the graph's " + repr(spec.name) +
                " has " + repr(found.dtype));
    }
    for (const Axis& axis : spec.axes) {
      const auto* name = std::get_if<std::string>(&axis);
      if (name != nullptr && !is_printable_text(*name)) {
        fail_card(place.path() + ".axes is " + place.axes() + ": a name in it holds a control character");
      }
    }
    // onnxruntime reports an output of unknown rank without axes.
    if (!found.axes.empty() || !outputs) check_axes(place, spec.name, spec.axes, found.axes);
  }
}

void check_state(const Card& card, size_t index, const Graph& inputs, const Graph& outputs) {
  const StateSpec& state = card.states[index];
  const Place place{card, "states", index};
  for (const bool output : {false, true}) {
    const std::string role = output ? "output" : "input";
    const std::string& name = output ? state.output : state.input;
    const TensorSpec& found = find(place.path() + "." + role, role, name, output ? outputs : inputs);
    if (found.dtype != state.dtype) {
      fail_card(place.path() + "." + role + " " + repr(name) + " has dtype " + found.dtype + ", the card says " +
                state.dtype);
    }
    if (!found.axes.empty() || !output) check_axes(place, name, state.axes, found.axes);
  }
  for (const Axis& axis : state.axes) {
    if (std::holds_alternative<std::string>(axis) && !batch_factor(axis).has_value()) {
      fail_card(place.path() + ".axes is " + axes_text(state.axes) +
                ", only 'batch' or a multiple of it, such as 'batch*3', may be dynamic in a state");
    }
  }
}

void check_state_bytes(const Card& card) {
  int64_t bytes = 0;
  for (size_t i = 0; i < card.states.size(); ++i) {
    const StateSpec& state = card.states[i];
    bytes += row_bytes(state.axes, int64_t(item_size(dtype_of(state.dtype))));  // at most 2 GiB each
    if (bytes > kMostStateBytes) {
      const Place place{card, "states", i};
      fail_card(place.path() + ".axes is " + place.axes() + ": the states of one row take " + std::to_string(bytes) +
                " bytes up to here, at most " + with_commas(kMostStateBytes) + " are allowed");
    }
  }
}

void check_unique(const Card& card) {
  const std::pair<const char*, std::vector<std::string>> all[] = {
      {"card.inputs", names_of(card.inputs)},
      {"card.outputs", names_of(card.outputs)},
      {"card.states", inputs_of(card.states)},
  };
  for (const auto& [path, names] : all) {
    std::set<std::string> seen;
    for (const std::string& name : names) {
      if (!seen.insert(name).second) {
        fail_card(std::string(path) + " names a tensor twice: " + shortened(repr(name)));
      }
    }
  }
}

void check_lengths(const Card& card, const Graph& inputs) {
  const TensorSpec& found = find("card.lengths", "input", *card.lengths, inputs);
  if (found.dtype != "int64" || found.axes.size() != 1) {
    fail_card("card.lengths " + repr(*card.lengths) + " is " + found.dtype + " " + axes_text(found.axes) +
              " in the graph, expected int64 [batch]");
  }
  if (!has_time(card.inputs)) {
    fail_card("card.lengths is " + repr(*card.lengths) + ", but no input has an axis called 'time'");
  }
}

void check_end(const Card& card, const Graph& inputs) {
  const std::string& end = *card.streaming.end;
  const TensorSpec& found = find("card.streaming.end", "input", end, inputs);
  if (found.dtype != "int64" || found.axes != Axes{Axis(int64_t(1))}) {
    fail_card("card.streaming.end " + repr(found.name) + " is " + found.dtype + " " + axes_text(found.axes) +
              " in the graph, expected int64 [1]");
  }
  const char* path = contains(names_of(card.inputs), end)    ? "card.inputs"
                     : contains(inputs_of(card.states), end) ? "card.states"
                     : card.lengths == end                   ? "card.lengths"
                                                             : nullptr;
  if (path != nullptr) fail_card("card.streaming.end is " + repr(end) + ", which " + path + " names too");
}

void check_streaming(const Card& card, const Graph& inputs) {
  const Streaming& streaming = card.streaming;
  struct Count {
    const char* field;
    int64_t value;
    int64_t least;
  };
  const Count counts[] = {{"latency_steps", streaming.latency_steps, 0},
                          {"first", streaming.first, 1},
                          {"first_gives", streaming.first_gives, 1},
                          {"every", streaming.every, 1},
                          {"gives", streaming.gives, 1}};
  const char* counted = nullptr;
  for (const Count& count : counts) {
    if (count.value < count.least || count.value > kMostSteps) {
      fail_card(std::string("card.streaming.") + count.field + " is " + shown_streaming(card, count.field) +
                ", expected " + std::to_string(count.least) + " to " + with_commas(kMostSteps));
    }
    if (counted == nullptr && count.value != count.least) counted = count.field;
  }
  if ((counted != nullptr || streaming.end.has_value()) && !has_time(card.inputs)) {
    const char* field = counted == nullptr ? "end" : counted;
    fail_card(std::string("card.streaming.") + field + " is " + shown_streaming(card, field) +
              ", but no input has an axis called 'time'");
  }
  if (streaming.end.has_value()) check_end(card, inputs);
}

void check_all_mentioned(const std::string& role, const Graph& graph, const std::set<std::string>& mentioned) {
  for (const TensorSpec& spec : graph) {
    if (mentioned.count(spec.name) == 0) {
      fail_card("card." + role + "s does not mention the graph's " + role + " " + repr(spec.name));
    }
  }
}

void check_mentions(const Card& card, const Graph& inputs, const Graph& outputs) {
  std::set<std::string> in, out;
  for (const TensorSpec& spec : card.inputs) in.insert(spec.name);
  for (const TensorSpec& spec : card.outputs) out.insert(spec.name);
  for (const StateSpec& state : card.states) {
    in.insert(state.input);
    out.insert(state.output);
  }
  if (card.lengths.has_value()) in.insert(*card.lengths);
  if (card.streaming.end.has_value()) in.insert(*card.streaming.end);
  check_all_mentioned("input", inputs, in);
  check_all_mentioned("output", outputs, out);
}

}  // namespace

Contract read_contract(const std::vector<GraphTensor>& input_nodes, const std::vector<GraphTensor>& output_nodes,
                       const Card* card) {
  Contract contract;
  const Graph inputs = read_tensors("input", input_nodes);
  const Graph outputs = read_tensors("output", output_nodes);
  if (card == nullptr) {
    contract.inputs = inputs;
    contract.outputs = outputs;
    return contract;
  }
  check_unique(*card);
  check_tensors(*card, "inputs", inputs);
  check_tensors(*card, "outputs", outputs);
  for (size_t i = 0; i < card->states.size(); ++i) check_state(*card, i, inputs, outputs);
  check_state_bytes(*card);
  if (card->lengths.has_value()) check_lengths(*card, inputs);
  check_streaming(*card, inputs);
  check_mentions(*card, inputs, outputs);
  std::vector<std::string> state_outputs;
  for (const StateSpec& state : card->states) state_outputs.push_back(state.output);
  for (const TensorSpec& spec : card->inputs) {
    if (!contains(inputs_of(card->states), spec.name) && spec.name != card->lengths) contract.inputs.push_back(spec);
  }
  for (const TensorSpec& spec : card->outputs) {
    if (!contains(state_outputs, spec.name)) contract.outputs.push_back(spec);
  }
  contract.states = card->states;
  contract.lengths = card->lengths;
  contract.end = card->streaming.end;
  return contract;
}

Shape state_shape(const StateSpec& spec, int64_t batch_size) {
  Shape shape;
  for (const Axis& axis : spec.axes) {
    const auto* size = std::get_if<int64_t>(&axis);
    shape.push_back(size != nullptr ? *size : batch_size * batch_factor(axis).value_or(0));
  }
  return shape;
}

}  // namespace lstm_edge::device
