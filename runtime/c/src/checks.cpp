#include "checks.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "states.h"
#include "stepping.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

std::string expected_inputs(const Contract& contract) {
  std::vector<std::string> names;
  for (const TensorSpec& spec : contract.inputs) names.push_back(repr(spec.name));
  return "the model's inputs are " + (names.empty() ? "none" : joined(names));
}

const View* find(const std::vector<View>& given, std::string_view name) {
  const auto found = std::find_if(given.begin(), given.end(), [&](const View& view) { return view.name == name; });
  return found == given.end() ? nullptr : &*found;
}

void check_name(const Contract& contract, const View& view) {
  const std::string shown = repr(view.name);
  for (const StateSpec& state : contract.states) {
    if (state.input == view.name) fail(LSTM_EDGE_INPUT, shown + " is a state, not an input");
  }
  if (contract.lengths == view.name) {
    fail(LSTM_EDGE_INPUT, shown + " holds the valid lengths: pass it as lengths");
  }
  if (contract.end == view.name) {
    fail(LSTM_EDGE_INPUT, shown + " says whether the sequence ends with this call: pass it as end");
  }
  const auto same = [&](const TensorSpec& spec) { return spec.name == view.name; };
  if (std::none_of(contract.inputs.begin(), contract.inputs.end(), same)) {
    fail(LSTM_EDGE_INPUT, "unknown input " + shown + "; " + expected_inputs(contract));
  }
}

std::string number_text(double value) { return std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf"; }

// The index of an element as Python prints a list.
std::string index_text(const View& view, int64_t at) {
  Shape index(view.rank);
  for (size_t i = view.rank; i-- > 0; at /= view.shape[i]) index[i] = at % view.shape[i];
  return shape_text(index);
}

bool is_integer(lstm_edge_dtype dtype) { return !is_float(dtype) && dtype != LSTM_EDGE_BOOL; }

}  // namespace

int64_t AxisSizes::get(std::string_view axis, int64_t otherwise) const {
  for (const Seen& one : seen) {
    if (one.axis == axis) return one.size;
  }
  return otherwise;
}

std::vector<View> name_inputs(const Contract& contract, const std::vector<View>& given) {
  if (given.size() == 1 && given[0].name.empty()) {
    if (contract.inputs.size() != 1) {
      fail(LSTM_EDGE_INPUT, "got one array without a name, and " + expected_inputs(contract) + ": name each array");
    }
    return given;
  }
  for (size_t i = 0; i < given.size(); ++i) {
    check_name(contract, given[i]);
    if (find(given, given[i].name) != &given[i]) {
      fail(LSTM_EDGE_INPUT, "input " + repr(given[i].name) + " is given twice");
    }
  }
  std::vector<View> named;
  for (const TensorSpec& spec : contract.inputs) {
    const View* view = find(given, spec.name);
    if (view == nullptr) {
      fail(LSTM_EDGE_INPUT, "input " + repr(spec.name) + " is missing; " + expected_inputs(contract));
    }
    named.push_back(*view);
  }
  return named;
}

void check_array(const TensorSpec& spec, const View& view) {
  if (dtype_name(view.dtype) == spec.dtype) return;
  fail(LSTM_EDGE_INPUT, "input " + repr(spec.name) + " has dtype " + dtype_name(view.dtype) + ", expected " +
                            spec.dtype + ": convert it to " + spec.dtype);
}

AxisSizes check_shapes(const std::vector<TensorSpec>& specs, const std::vector<View>& views) {
  AxisSizes sizes;
  for (size_t k = 0; k < specs.size(); ++k) {
    const View& view = views[k];
    const Axes& axes = specs[k].axes;
    const std::string where = "input " + repr(specs[k].name) + " has shape " + shape_text(view.sizes());
    const std::string expected = "expected " + plain_axes(axes);
    if (view.rank != axes.size()) fail(LSTM_EDGE_INPUT, where + ", " + expected);
    for (size_t i = 0; i < axes.size(); ++i) {
      const int64_t* fixed = std::get_if<int64_t>(&axes[i]);
      if (fixed != nullptr && view.shape[i] != *fixed) {
        fail(LSTM_EDGE_INPUT,
             where + ", " + expected + ": axis " + std::to_string(i) + " must be " + std::to_string(*fixed));
      }
      if (view.shape[i] == 0) {
        const std::string axis = fixed != nullptr ? std::to_string(*fixed) : std::get<std::string>(axes[i]);
        fail(LSTM_EDGE_INPUT, where + ": axis " + std::to_string(i) + " (" + axis + ") is empty, at least 1 is needed");
      }
      if (fixed != nullptr) continue;
      const std::string& axis = std::get<std::string>(axes[i]);
      const auto seen = std::find_if(sizes.seen.begin(), sizes.seen.end(), [&](auto& one) { return one.axis == axis; });
      if (seen == sizes.seen.end()) {
        sizes.seen.push_back({axis, specs[k].name, view.shape[i]});
      } else if (seen->size != view.shape[i]) {
        fail(LSTM_EDGE_INPUT, where + ": its axis " + repr(axis) + " is " + std::to_string(view.shape[i]) + ", in " +
                                  repr(seen->input) + " it is " + std::to_string(seen->size));
      }
    }
  }
  return sizes;
}

void check_finite(std::string_view name, const View& view) {
  if (all_finite(view)) return;
  const int64_t count = view.count();
  for (int64_t i = 0; i < count; ++i) {
    const double value = element(view, i);
    if (std::isfinite(value)) continue;
    fail(LSTM_EDGE_INPUT, "input " + repr(name) + " holds " + number_text(value) + " at index " + index_text(view, i) +
                              "; every value must be finite");
  }
}

void check_step_finite(std::string_view name, const View& view, int64_t step) {
  try {
    check_finite(name, view);
  } catch (const Error& error) {
    fail(error.status, "step " + std::to_string(step) + ": " + error.message + "; the state is unchanged");
  }
}

std::optional<Array> check_lengths(const Contract& contract, const std::optional<View>& lengths,
                                   const AxisSizes& sizes) {
  if (!contract.lengths) {
    if (lengths) {
      fail(LSTM_EDGE_INPUT, "the model takes no lengths: export it with --lengths, or pass rows of equal length");
    }
    return std::nullopt;
  }
  const int64_t rows = sizes.get(kBatch, 1), steps = sizes.get(kTime, 1);
  Array array(LSTM_EDGE_INT64, {rows});
  int64_t* values = array.data<int64_t>();
  if (!lengths) {
    std::fill(values, values + rows, steps);
    return array;
  }
  if (!lengths->has_shape({rows})) {
    fail(LSTM_EDGE_INPUT, "lengths has shape " + shape_text(lengths->sizes()) + ", expected [" + std::to_string(rows) +
                              "]: one for each row");
  }
  if (!is_integer(lengths->dtype)) {
    fail(LSTM_EDGE_INPUT, std::string("lengths has dtype ") + dtype_name(lengths->dtype) + ", expected integers");
  }
  for (int64_t row = 0; row < rows; ++row) {
    const double value = element(*lengths, row);
    if (!(value >= 0 && value <= double(steps))) {
      fail(LSTM_EDGE_INPUT, "lengths[" + std::to_string(row) + "] is " + std::to_string(int64_t(value)) +
                                ", expected 0 to " + std::to_string(steps) + " (the number of time steps)");
    }
    values[row] = int64_t(value);
  }
  return array;
}

void check_frame(const Card* card, int64_t steps) {
  if (card == nullptr || !card->front_end || steps >= card->front_end->first) return;
  const FrontEnd& front = *card->front_end;
  fail(LSTM_EDGE_INPUT, "input " + repr(front.input) + " has " + std::to_string(steps) +
                            " samples, expected at least " + std::to_string(front.first) +
                            ": a frame of the model's features takes that many (" +
                            general(double(front.first) / double(front.rate_hz) * 1000, 3) + " ms at " +
                            std::to_string(front.rate_hz) + " Hz)");
}

void check_completes(const Streaming& streaming, int64_t steps, bool begun, bool end) {
  if (end || is_one_to_one(streaming) || completes(streaming, steps, begun)) return;
  const std::string every = std::to_string(streaming.every);
  const std::string rule = begun ? "k * " + every : std::to_string(streaming.first) + " + k * " + every;
  fail(LSTM_EDGE_INPUT, std::string("with end=False ") + (begun ? "a later" : "the first") + " call needs " + rule +
                            " steps to complete its outputs, got " + std::to_string(steps) +
                            ": cut the sequence there, or use stream(), which keeps the steps between");
}

}  // namespace lstm_edge::device
