#include "moment.h"

#include <algorithm>
#include <cstring>

#include "checks.h"
#include "error.h"
#include "states.h"
#include "stepping.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr char kCounts[] = "stream:counts";
constexpr int64_t kNoCall = -1;

void put(Arrays& arrays, const std::string& name, const Array& array) { arrays.emplace(name, clone(array)); }

class Reading {
 public:
  Reading(Arrays arrays, const PieceReader& reader, const Streaming& streaming)
      : arrays_(std::move(arrays)), reader_(reader), streaming_(streaming) {}

  Moment read() {
    Moment moment;
    read_counts(moment);
    moment.state = read_states("");
    moment.conditions = read_group("condition:", reader_.conditions, 0);
    // A stream that was given a state has begun without a step, and may have no conditions and no last call yet.
    if (moment.conditions.empty() && moment.steps > 0 && !reader_.conditions.empty()) {
      fail(LSTM_EDGE_INPUT, "the snapshot lacks " + repr("condition:" + name_of(reader_.conditions[0])));
    }
    moment.kept = read_timed("kept:", moment.kept_steps);
    if (gave_ != kNoCall) moment.call = read_call(moment.begun);
    if (ready_steps(streaming_, moment.kept_steps, moment.begun) > 0 || moment.kept_steps > moment.steps) {
      fail(LSTM_EDGE_INPUT, "the snapshot keeps " + std::to_string(moment.kept_steps) +
                                " steps, more than this model leaves after " + std::to_string(moment.steps));
    }
    if (!arrays_.empty()) {
      fail(LSTM_EDGE_INPUT, "the snapshot has " + repr(arrays_.begin()->first) + ", which this model's streams lack");
    }
    return moment;
  }

 private:
  const std::string& name_of(size_t input) const { return reader_.contract.inputs[input].name; }

  std::optional<Array> pop(const std::string& name) {
    const auto found = arrays_.find(name);
    if (found == arrays_.end()) return std::nullopt;
    Array array = std::move(found->second);
    arrays_.erase(found);
    return array;
  }

  void read_counts(Moment& moment) {
    const std::optional<Array> counts = pop(kCounts);
    if (!counts || counts->dtype != LSTM_EDGE_INT64 || counts->shape != Shape{6}) {
      fail(LSTM_EDGE_INPUT, "not a snapshot of a stream: expected " + repr(kCounts) + ", int64 [6]");
    }
    const int64_t* values = counts->data<int64_t>();
    const auto is_flag = [](int64_t value) { return value == 0 || value == 1; };
    if (values[0] < 0 || values[5] < kNoCall || !std::all_of(values + 1, values + 5, is_flag) ||
        (values[3] != 0 && reader_.batch_size != 1)) {
      fail(LSTM_EDGE_INPUT, "the snapshot's " + repr(kCounts) + " is " + shape_text(Shape(values, values + 6)) +
                                ", which no stream of this model writes");
    }
    moment.steps = values[0];
    moment.begun = values[1] != 0;
    moment.ended = values[2] != 0;
    moment.lacks_batch = values[3] != 0;
    early_ = values[4] != 0;
    gave_ = values[5];
  }

  std::vector<Array> read_states(const std::string& prefix) {
    const std::vector<StateSpec>& specs = reader_.contract.states;
    std::vector<Array> found;
    for (const StateSpec& spec : specs) {
      std::optional<Array> array = pop(prefix + spec.input);
      if (!array) fail(LSTM_EDGE_INPUT, "the snapshot lacks the state " + repr(prefix + spec.input));
      found.push_back(std::move(*array));
    }
    std::vector<std::optional<View>> views;
    for (size_t i = 0; i < specs.size(); ++i) views.emplace_back(view_of(specs[i].input, found[i]));
    const std::optional<int64_t> rows = check_states(specs, views);
    if (rows && *rows != reader_.batch_size) {
      fail(LSTM_EDGE_INPUT,
           "the snapshot has " + std::to_string(*rows) + " rows, the stream has " + std::to_string(reader_.batch_size));
    }
    return found;
  }

  // The inputs with a time axis under a prefix, and their number of steps; none at all are 0 steps.
  std::vector<Array> read_timed(const std::string& prefix, int64_t& steps) {
    steps = 0;
    const Axes& axes = reader_.contract.inputs[reader_.moving[0]].axes;
    const auto first = arrays_.find(prefix + name_of(reader_.moving[0]));
    if (first == arrays_.end() || !has_axis(axes, kTime)) return {};
    const size_t axis = time_axis(axes);
    if (first->second.shape.size() <= axis) return {};
    steps = first->second.shape[axis];
    return read_group(prefix, reader_.moving, steps);
  }

  LastCall read_call(bool begun) {
    LastCall call;
    call.begun = early_;
    call.gave = gave_;
    int64_t steps = 0;
    call.inputs = read_timed("call:", steps);
    const bool agrees = completes(streaming_, steps, early_);
    if (!begun || !agrees || given_steps(streaming_, steps, early_) != gave_) {
      fail(LSTM_EDGE_INPUT, "the snapshot's last call has " + std::to_string(steps) + " steps, which do not give " +
                                std::to_string(gave_));
    }
    call.conditions = read_group("call.condition:", reader_.conditions, 0);
    if (call.conditions.empty() && !reader_.conditions.empty()) {
      fail(LSTM_EDGE_INPUT, "the snapshot lacks " + repr("call.condition:" + name_of(reader_.conditions[0])));
    }
    call.before = read_states("before:");
    return call;
  }

  // The arrays under a prefix, or none where it has none of them.
  std::vector<Array> read_group(const std::string& prefix, const std::vector<size_t>& inputs, int64_t steps) {
    const auto present = [&](size_t i) { return arrays_.count(prefix + name_of(i)) > 0; };
    if (std::none_of(inputs.begin(), inputs.end(), present)) return {};
    std::vector<Array> found;
    for (size_t i : inputs) {
      const TensorSpec& spec = reader_.contract.inputs[i];
      const std::string name = prefix + spec.name;
      std::optional<Array> array = pop(name);
      if (!array) fail(LSTM_EDGE_INPUT, "the snapshot lacks " + repr(name));
      const View view = view_of(spec.name, *array);
      check_array(spec, view);
      const Shape expected = shape_of(spec.axes, reader_.batch_size, steps);
      if (!view.has_shape(expected) || view.count() == 0) {
        fail(LSTM_EDGE_INPUT, "the snapshot's " + repr(name) + " has shape " + shape_text(array->shape) +
                                  ", expected " + shape_text(expected));
      }
      check_finite(spec.name, view);
      found.push_back(std::move(*array));
    }
    return found;
  }

  Arrays arrays_;
  const PieceReader& reader_;
  const Streaming& streaming_;
  bool early_ = false;
  int64_t gave_ = kNoCall;
};

}  // namespace

Array clone(const Array& array) { return copy_of(view_of("", array)); }

std::vector<Array> clone(const std::vector<Array>& arrays) {
  std::vector<Array> copies;
  copies.reserve(arrays.size());
  for (const Array& array : arrays) copies.push_back(clone(array));
  return copies;
}

Arrays moment_to_arrays(const Moment& moment, const PieceReader& reader) {
  Arrays arrays;
  const Contract& contract = reader.contract;
  const auto put_states = [&](const std::string& prefix, const std::vector<Array>& states) {
    for (size_t i = 0; i < states.size(); ++i) put(arrays, prefix + contract.states[i].input, states[i]);
  };
  const auto put_inputs = [&](const std::string& prefix, const std::vector<size_t>& inputs,
                              const std::vector<Array>& group) {
    for (size_t i = 0; i < group.size(); ++i) put(arrays, prefix + contract.inputs[inputs[i]].name, group[i]);
  };
  put_states("", moment.state);
  put_inputs("kept:", reader.moving, moment.kept);
  put_inputs("condition:", reader.conditions, moment.conditions);
  if (moment.call) {
    put_states("before:", moment.call->before);
    put_inputs("call:", reader.moving, moment.call->inputs);
    put_inputs("call.condition:", reader.conditions, moment.call->conditions);
  }
  Array counts(LSTM_EDGE_INT64, {6});
  const int64_t values[] = {moment.steps,
                            moment.begun,
                            moment.ended,
                            moment.lacks_batch,
                            moment.call ? moment.call->begun : false,
                            moment.call ? moment.call->gave : kNoCall};
  std::memcpy(counts.data<void>(), values, sizeof(values));
  arrays.emplace(kCounts, std::move(counts));
  return arrays;
}

Moment moment_from_arrays(Arrays arrays, const PieceReader& reader, const Streaming& streaming) {
  return Reading(std::move(arrays), reader, streaming).read();
}

}  // namespace lstm_edge::device
