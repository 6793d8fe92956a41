#include "session.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "checks.h"
#include "error.h"
#include "full_names.h"
#include "model_file.h"
#include "states.h"
#include "text.h"

extern "C" const char* LstmEdgeInstructionSet();

namespace lstm_edge::device {
namespace {

constexpr char kUnverified[] = "unverified: the file has no integrity trailer, a damaged weight would go unnoticed";
constexpr char kNoCard[] =
    "no model card: inputs and outputs are read from the graph; states, lengths, the batch and time axes and whether "
    "it can be streamed are unknown";
constexpr char kFolded[] =
    "without the fused kernels onnxruntime folds int8 weights back to float32 in memory: int8 saves disk and "
    "transfer, not RAM or time";

// The numbers of a version, as _version of session.py reads them.
std::vector<int64_t> version_numbers(const std::string& text) {
  std::string rest = text.substr(0, text.find('+'));
  std::vector<int64_t> numbers;
  for (int part = 0; part < 3; ++part) {
    const size_t dot = rest.find('.');
    const std::string digits = rest.substr(0, dot);
    const bool plain =
        !digits.empty() && digits.size() < 10 && digits.find_first_not_of("0123456789") == std::string::npos;
    if (!plain && part < 2) {
      fail(LSTM_EDGE_CARD,
           "model card: card.minimum_onnxruntime must be \"major.minor\", got " + shortened(repr(text)));
    }
    if (plain) numbers.push_back(std::atoll(digits.c_str()));
    if (dot == std::string::npos) break;
    rest = rest.substr(dot + 1);
  }
  return numbers;
}

std::string dotted(const std::vector<int64_t>& numbers) {
  std::string text;
  for (const int64_t number : numbers) text += (text.empty() ? "" : ".") + std::to_string(number);
  return text;
}

// Why the kernels cannot be used, or an empty text: choose_library and find_library of library.py.
std::string choose_kernels(lstm_edge_kernels kernels) {
  if (kernels == LSTM_EDGE_KERNELS_OFF) return "";
  const char* wanted = std::getenv("LSTM_EDGE_ISA");
  const char* given = LstmEdgeInstructionSet();
  if (wanted == nullptr || *wanted == 0 || std::strcmp(wanted, given) == 0) return "";
  const std::string why = "LSTM_EDGE_ISA asks for the instruction set " + repr(wanted) +
                          ", which this processor or the kernels' library does not have (it gives " + repr(given) +
                          "); unset it";
  if (kernels == LSTM_EDGE_KERNELS_REQUIRED) fail(LSTM_EDGE_PROVIDER, "kernels=\"required\": " + why);
  return why;
}

void check_options(const Options& options) {
  if (options.threads < 1) {
    fail(LSTM_EDGE_INPUT, "threads must be a positive integer, got " + std::to_string(options.threads));
  }
  if (options.kernels < LSTM_EDGE_KERNELS_AUTO || options.kernels > LSTM_EDGE_KERNELS_OFF) {
    fail(LSTM_EDGE_INPUT,
         "kernels must be one of 'auto', 'required', 'off', got " + std::to_string(int(options.kernels)));
  }
}

}  // namespace

// What the graph gets, and the arrays that were made for it.
struct Session::Feeds {
  std::vector<Lent> lent;
  std::deque<Array> made;
  int64_t rows = 1, steps = 1;
  bool begun = false;

  void add(std::string_view name, Array array) {
    made.push_back(std::move(array));
    lent.push_back(lent_of(name, made.back()));
  }
};

Session::Session(const std::string& bytes, const Options& options) {
  const CheckedModel model = check_model(bytes);
  verified = model.verified;
  const bool has_trailer = model.metadata.count(kTrailerKey) > 0;
  if (verified && !has_trailer) {
    fail(LSTM_EDGE_INTEGRITY,
         "the file's integrity trailer is not metadata of the model but lies inside another of its fields: make the "
         "file again with the tool that wrote it");
  }
  size_bytes = int64_t(bytes.size());
  operators = int64_t(model.operators.size());
  check_options(options);
  std::string why_bodies;
  bool use = operators > 0 && options.kernels != LSTM_EDGE_KERNELS_OFF;
  if (use || options.kernels == LSTM_EDGE_KERNELS_REQUIRED) {
    why_bodies = choose_kernels(options.kernels);
    use = use && why_bodies.empty();
  }
  if (use) kernels = LstmEdgeInstructionSet();
  if (!use && operators > 0) check_bodies(bytes, model);
  GraphOptions graph_options;
  graph_options.library = options.onnxruntime;
  graph_options.threads = options.threads;
  graph_options.kernels = use;
  graph_options.operators = model.operators;
  std::sort(graph_options.operators.begin(), graph_options.operators.end());
  const auto same = std::unique(graph_options.operators.begin(), graph_options.operators.end());
  graph_options.operators.erase(same, graph_options.operators.end());
  graph_options.reading = model.reading.get();
  graph = open_graph(bytes, graph_options);
  if (!verified && has_trailer) {
    fail(LSTM_EDGE_INTEGRITY,
         "the file's integrity trailer is not at its end: another tool rewrote the file after it was made; make it "
         "again, or remove the metadata entry " +
             repr(kTrailerKey) + " to use it unverified");
  }
  if (const auto found = model.metadata.find(kCardKey); found != model.metadata.end()) {
    card = parse_card(found->second);
    has_card = true;
  }
  std::vector<GraphTensor> inputs = graph->inputs, outputs = graph->outputs;
  restore_names(bytes, model, inputs, outputs);
  contract = read_contract(inputs, outputs, card_or_null());
  if (const auto found = model.metadata.find(kGoldenKey); found != model.metadata.end()) golden = found->second;
  collect_notes(why_bodies);
}

void Session::collect_notes(const std::string& why_bodies) {
  if (!verified) notes.emplace_back(kUnverified);
  if (!has_card) {
    notes.emplace_back(kNoCard);
  } else if (const auto needed = version_numbers(card.minimum_onnxruntime); needed > version_numbers(graph->version)) {
    notes.push_back("the model was made for onnxruntime " + dotted(needed) + " or later, this is " + graph->version +
                    ": update onnxruntime");
  }
  if (!why_bodies.empty()) notes.push_back("function bodies run in place of kernels: " + why_bodies);
  if (has_card && card.quantized && kernels.empty()) notes.emplace_back(kFolded);
}

int64_t Session::rows_of(const std::vector<View>& inputs) const {
  for (const TensorSpec& spec : contract.inputs) {
    for (const View& view : inputs) {
      const bool named = view.name == spec.name || (view.name.empty() && inputs.size() == 1);
      if (!named || view.rank != spec.axes.size()) continue;
      const auto found = std::find(spec.axes.begin(), spec.axes.end(), Axis(std::string(kBatch)));
      if (found != spec.axes.end()) return view.shape[found - spec.axes.begin()];
    }
  }
  return 1;
}

std::vector<NamedArray> Session::run(const Call& call) const {
  const Feeds fed = feeds(call);
  if (has_card) check_completes(card.streaming, fed.steps, fed.begun, call.end);
  return answer(fed.lent);
}

std::vector<NamedArray> Session::run_graph(const Arrays& arrays) const {
  Call call;
  std::optional<View> end;
  for (const auto& [name, array] : arrays) {
    const View view = view_of(name, array);
    if (contract.lengths == name) call.lengths = view;
    else if (contract.end == name) end = view;
    else call.inputs.push_back(view);
  }
  Feeds fed = feeds(call);
  if (end) {
    if (end->dtype != LSTM_EDGE_INT64 || !end->has_shape({1})) {
      fail(LSTM_EDGE_INPUT, "input " + repr(*contract.end) + " is " + dtype_name(end->dtype) + " " +
                                shape_text(end->sizes()) + ", expected int64 [1]");
    }
    for (Lent& lent : fed.lent) {
      if (lent.name == *contract.end) lent.data = const_cast<void*>(end->data);
    }
  }
  return answer(fed.lent);
}

Session::Feeds Session::feeds(const Call& call) const {
  std::vector<View> inputs;
  std::vector<std::optional<View>> states(contract.states.size());
  size_t given = 0;
  for (const View& view : call.inputs) {
    const auto same = [&](const StateSpec& spec) { return spec.input == view.name; };
    const auto found = std::find_if(contract.states.begin(), contract.states.end(), same);
    if (found == contract.states.end()) {
      inputs.push_back(view);
      continue;
    }
    std::optional<View>& place = states[size_t(found - contract.states.begin())];
    if (place) fail(LSTM_EDGE_INPUT, "input " + repr(view.name) + " is given twice");
    place = view;
    ++given;
  }
  if (given > 0 && given < states.size()) {
    const auto name = [&](bool present) {
      size_t i = 0;
      while (states[i].has_value() != present) ++i;
      return repr(contract.states[i].input);
    };
    fail(LSTM_EDGE_INPUT, name(true) + " is a state, not an input, and the state " + name(false) +
                              " is missing: give all states among the inputs");
  }
  const std::optional<int64_t> rows = given > 0 ? check_states(contract.states, states) : std::nullopt;
  const std::vector<View> named = name_inputs(contract, inputs);
  for (size_t i = 0; i < named.size(); ++i) check_array(contract.inputs[i], named[i]);
  const AxisSizes sizes = check_shapes(contract.inputs, named);
  Feeds fed;
  for (size_t i = 0; i < named.size(); ++i) {
    check_finite(contract.inputs[i].name, named[i]);
    fed.lent.push_back(lent_of(contract.inputs[i].name, named[i]));
  }
  std::optional<Array> lengths = check_lengths(contract, call.lengths, sizes);
  if (lengths) fed.add(*contract.lengths, std::move(*lengths));
  if (contract.end) {
    Array end(LSTM_EDGE_INT64, {1});
    *end.data<int64_t>() = call.end ? 1 : 0;
    fed.add(*contract.end, std::move(end));
  }
  fed.rows = sizes.get(kBatch, 1);
  fed.steps = sizes.get(kTime, 1);
  const int64_t state_rows = rows.value_or(fed.rows);
  if (state_rows != fed.rows) {
    fail(LSTM_EDGE_INPUT,
         "the state has " + std::to_string(state_rows) + " rows, the inputs have " + std::to_string(fed.rows));
  }
  feed_states(states, given > 0, fed);
  if (!fed.begun) check_frame(card_or_null(), fed.steps);
  return fed;
}

void Session::feed_states(const std::vector<std::optional<View>>& states, bool given, Feeds& fed) const {
  for (size_t i = 0; i < states.size(); ++i) {
    const StateSpec& spec = contract.states[i];
    if (given) fed.lent.push_back(lent_of(spec.input, *states[i]));
    else fed.add(spec.input, Array(dtype_of(spec.dtype), state_shape(spec, fed.rows)));
  }
  fed.begun = given && states_begun(contract.states, states);
}

std::vector<NamedArray> Session::answer(const std::vector<Lent>& inputs) const {
  std::vector<std::string> names;
  for (const TensorSpec& spec : contract.outputs) names.push_back(spec.name);
  for (const StateSpec& spec : contract.states) names.push_back(spec.output);
  std::vector<Array> arrays;
  try {
    arrays = graph->run(inputs, names);
  } catch (const Error& error) {
    fail(error.status,
         error.status == LSTM_EDGE_INPUT ? "onnxruntime refused these inputs: " + error.message : error.message);
  }
  std::vector<NamedArray> result;
  for (size_t i = 0; i < names.size(); ++i) result.push_back({names[i], std::move(arrays[i])});
  return result;
}

}  // namespace lstm_edge::device
