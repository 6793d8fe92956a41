// Show that the rows of a call do not depend on each other, before streams share calls: pool_rows.py.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "checks.h"
#include "drawn_numbers.h"
#include "pieces.h"
#include "pool.h"
#include "row_slices.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

// As CLOSE of pool_rows.py, which has the reason; a test compares both.
constexpr double kClose = 2e-6;
constexpr int64_t kRows = 3;
constexpr char kAdvice[] = "; use one Stream for each of its streams (session.stream())";
constexpr size_t kLongestLine = 300;  // of another error's message

[[noreturn]] void refuse(const std::string& reason) {
  fail(LSTM_EDGE_STREAMING, "the model cannot be pooled: " + reason + kAdvice);
}

// The nearest half precision number, ties to even, of a number of a range that the format has.
uint16_t half_of(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(value);
  if (!(size < 65520)) return sign | 0x7c00;
  const int exponent = size == 0 ? -14 : std::max(-14, std::ilogb(size));
  const auto steps = uint32_t(std::nearbyint(std::ldexp(size, 10 - exponent)));  // of the last digit
  return uint16_t(sign | (uint32_t(exponent + 14) * 1024 + steps));
}

void set_element(Array& array, int64_t index, double real, int64_t integer) {
  const auto put = [&](auto value) {
    std::memcpy(array.data<char>() + size_t(index) * sizeof(value), &value, sizeof(value));
  };
  switch (array.dtype) {
    case LSTM_EDGE_FLOAT32: return put(float(real));
    case LSTM_EDGE_FLOAT64: return put(real);
    case LSTM_EDGE_FLOAT16: return put(half_of(real));
    case LSTM_EDGE_BOOL: return put(uint8_t(integer != 0));
    default: break;
  }
  if (item_size(array.dtype) == 1) put(uint8_t(integer));
  else if (item_size(array.dtype) == 2) put(uint16_t(integer));
  else if (item_size(array.dtype) == 4) put(uint32_t(integer));
  else put(uint64_t(integer));
}

std::vector<Array> made_inputs(const Session& session) {
  DrawnNumbers numbers;
  int64_t steps = session.card.streaming.first + 2 * session.card.streaming.every;
  if (session.card.front_end) {
    steps = std::max(steps, session.card.front_end->first + 2 * session.card.front_end->every);
  }
  std::vector<Array> made;
  for (const TensorSpec& spec : session.contract.inputs) {
    Array array(dtype_of(spec.dtype), shape_of(spec.axes, kRows, steps));
    const bool reals = is_float(array.dtype);
    const double least = spec.range ? (*spec.range)[0] : reals ? -1 : 0, most = spec.range ? (*spec.range)[1] : 1;
    const int64_t count = element_count(array.shape);
    for (int64_t i = 0; i < count; ++i) {
      if (reals) set_element(array, i, numbers.uniform(least, most), 0);
      else set_element(array, i, 0, numbers.integer(int64_t(least), int64_t(most)));
    }
    made.push_back(std::move(array));
  }
  return made;
}

std::vector<Array> row_of(const Session& session, const std::vector<Array>& arrays, int64_t row) {
  std::vector<Array> cut;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const Axes& axes = session.contract.inputs[i].axes;
    Shape shape = arrays[i].shape;
    const std::optional<BatchAxis> batch = batch_axis(axes);
    if (batch) shape[batch->axis] = 1;
    const RowSlices slices(axes, shape, arrays[i].dtype);
    cut.emplace_back(arrays[i].dtype, shape);
    const char* from = arrays[i].data<char>() + (batch ? size_t(row) * slices.bytes : 0);
    slices.copy(cut.back().data<char>(), 1, from, batch ? size_t(kRows) : 1);
  }
  return cut;
}

std::vector<NamedArray> run(const Session& session, const std::vector<Array>& arrays) {
  Call call;
  for (size_t i = 0; i < arrays.size(); ++i) {
    call.inputs.push_back(view_of(session.contract.inputs[i].name, arrays[i]));
  }
  return session.run(call);
}

// The rows of each call after one another, along the batch axis.
Array joined_rows(const Axes& axes, const std::vector<const Array*>& alone) {
  const size_t axis = batch_axis(axes)->axis;
  Shape shape = alone[0]->shape;
  for (size_t i = 1; i < alone.size(); ++i) shape[axis] += alone[i]->shape[axis];
  Array all(alone[0]->dtype, shape);
  const RowSlices slices(axes, alone[0]->shape, all.dtype);
  for (size_t i = 0; i < alone.size(); ++i) {
    slices.copy(all.data<char>() + i * slices.bytes, alone.size(), alone[i]->data<char>(), 1);
  }
  return all;
}

double difference_of(lstm_edge_dtype dtype, double a, double b) {
  return dtype == LSTM_EDGE_FLOAT32 ? double(std::fabs(float(a) - float(b))) : std::fabs(a - b);
}

void compare(const Session& session, const std::string& name, const Axes& axes, const Array& together,
             const std::vector<const Array*>& alone) {
  const auto same_shape = [&](const Array* one) { return one->shape == alone[0]->shape; };
  const size_t axis = batch_axis(axes)->axis;
  if (!std::all_of(alone.begin(), alone.end(), same_shape) || alone[0]->shape.size() <= axis) {
    refuse(repr(name) + " has other shapes for the same rows alone");
  }
  const Array joined = joined_rows(axes, alone);
  if (joined.shape != together.shape) {
    refuse(repr(name) + " has shape " + shape_text(together.shape) + " for " + std::to_string(kRows) +
           " rows in a call, and " + shape_text(joined.shape) + " for the same rows alone");
  }
  if (joined.bytes() == 0 || std::memcmp(joined.data<void>(), together.data<void>(), joined.bytes()) == 0) return;
  const std::vector<std::string>& inexact = session.card.inexact;
  const bool exact = session.card.inexact_known && std::find(inexact.begin(), inexact.end(), name) == inexact.end();
  const View mine = view_of("", joined), other = view_of("", together);
  double largest = 0, difference = 0;
  bool same_nans = true;
  for (int64_t i = 0; i < mine.count(); ++i) {
    const double a = element(mine, i), b = element(other, i);
    same_nans = same_nans && std::isnan(a) == std::isnan(b);
    if (!std::isnan(a)) largest = std::max(largest, std::fabs(a));
    const double apart = difference_of(joined.dtype, a, b);
    if (!std::isnan(apart)) difference = std::max(difference, apart);
  }
  const double bound = exact ? 0 : kClose * std::max(1.0, largest);
  if (!exact && difference <= bound && same_nans) return;
  refuse(repr(name) + " of " + std::to_string(kRows) + " rows in a call differs by up to " + general(difference, 2) +
         " from that of each row alone, " +
         (exact ? "the card says that they have the same bits" : "at most " + general(bound, 2) + " is allowed"));
}

}  // namespace

void check_rows(const Session& session) {
  const Contract& contract = session.contract;
  const auto has_rows = [](const TensorSpec& spec) { return has_axis(spec.axes, kBatch); };
  if (std::none_of(contract.inputs.begin(), contract.inputs.end(), has_rows)) {
    refuse("no input has a dynamic batch axis");
  }
  for (const TensorSpec& spec : contract.outputs) {
    if (!has_rows(spec)) refuse("output " + repr(spec.name) + " has no batch axis");
  }
  for (const StateSpec& spec : contract.states) {
    if (batch_axis(spec.axes) || spec.kind == "cache" || spec.counts) continue;
    refuse("state " + repr(spec.input) + " has no batch axis");
  }
  const std::vector<Array> inputs = made_inputs(session);
  std::vector<std::vector<NamedArray>> alone;
  std::vector<NamedArray> together;
  try {
    for (int64_t row = 0; row < kRows; ++row) alone.push_back(run(session, row_of(session, inputs, row)));
    together = run(session, inputs);
  } catch (const Error& error) {
    if (error.status != LSTM_EDGE_INPUT) throw;
    refuse("whether its rows depend on each other could not be seen, because " + std::to_string(kRows) +
           " rows of made input were refused (" + std::string(first_characters(error.message, kLongestLine)) + ")");
  }
  for (size_t k = 0; k < together.size(); ++k) {
    const size_t outputs = contract.outputs.size();
    const Axes& axes = k < outputs ? contract.outputs[k].axes : contract.states[k - outputs].axes;
    if (!batch_axis(axes)) continue;
    compare(session, together[k].name, axes, together[k].array,
            {&alone[0][k].array, &alone[1][k].array, &alone[2][k].array});
  }
}

}  // namespace lstm_edge::device
