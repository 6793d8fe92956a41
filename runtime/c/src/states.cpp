#include "states.h"

#include <algorithm>

#include "error.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr size_t kLine = 64;  // bytes of a cache line

std::string expected_names(const std::vector<StateSpec>& specs) {
  std::vector<std::string> names;
  for (const StateSpec& spec : specs) names.push_back(spec.input);
  return "the model has " + (names.empty() ? "none" : joined(names));
}

std::optional<int64_t> check_state(const StateSpec& spec, const View& view) {
  const std::string which = "state " + repr(spec.input);
  if (dtype_name(view.dtype) != spec.dtype) {
    const char* article = spec.dtype.rfind("int", 0) == 0 ? " must be an " : " must be a ";
    fail(LSTM_EDGE_INPUT, which + article + spec.dtype + " array, got " + dtype_name(view.dtype));
  }
  const bool same_rank = view.rank == spec.axes.size();
  const std::optional<int64_t> rows = same_rank ? batch_of_shape(spec, view) : std::nullopt;
  if (!same_rank || !view.has_shape(state_shape(spec, rows && *rows > 0 ? *rows : 1))) {
    fail(LSTM_EDGE_INPUT, which + " has shape " + shape_text(view.sizes()) + ", expected " + plain_axes(spec.axes));
  }
  if (!all_finite(view)) fail(LSTM_EDGE_INPUT, which + " holds NaN or infinity");
  return rows;
}

}  // namespace

StateLayout::StateLayout(const std::vector<StateSpec>& specs, int64_t batch_size) : places(specs.size()) {
  for (const bool is_float32 : {true, false}) {
    for (size_t i = 0; i < specs.size(); ++i) {
      if ((specs[i].dtype == "float32") != is_float32) continue;
      Place& place = places[i];
      place.dtype = dtype_of(specs[i].dtype);
      place.shape = state_shape(specs[i], batch_size);
      place.offset = bytes;
      place.bytes = size_t(element_count(place.shape)) * item_size(place.dtype);
      if (__builtin_add_overflow(bytes, (place.bytes + kLine - 1) / kLine * kLine, &bytes)) {
        fail(LSTM_EDGE_INPUT, "the states of " + std::to_string(batch_size) + " rows cannot be made");
      }
    }
    if (is_float32) floats = bytes / sizeof(float);
  }
}

std::string plain_axes(const Axes& axes) {
  std::vector<std::string> texts;
  for (const Axis& axis : axes) {
    const int64_t* size = std::get_if<int64_t>(&axis);
    texts.push_back(size != nullptr ? std::to_string(*size) : std::get<std::string>(axis));
  }
  return "[" + joined(texts) + "]";
}

std::optional<int64_t> batch_of_shape(const StateSpec& spec, const View& view) {
  for (size_t i = 0; i < spec.axes.size() && i < view.rank; ++i) {
    const std::optional<int64_t> factor = batch_factor(spec.axes[i]);
    if (factor && *factor > 0) return view.shape[i] / *factor;
  }
  return std::nullopt;
}

std::optional<int64_t> check_states(const std::vector<StateSpec>& specs,
                                    const std::vector<std::optional<View>>& arrays) {
  for (size_t i = 0; i < specs.size(); ++i) {
    if (!arrays[i]) fail(LSTM_EDGE_INPUT, "state " + repr(specs[i].input) + " is missing; " + expected_names(specs));
  }
  std::vector<std::pair<int64_t, std::string>> sizes;
  for (size_t i = 0; i < specs.size(); ++i) {
    const std::optional<int64_t> rows = check_state(specs[i], *arrays[i]);
    const auto same = [&](const auto& seen) { return seen.first == *rows; };
    if (rows && std::none_of(sizes.begin(), sizes.end(), same)) sizes.emplace_back(*rows, specs[i].input);
  }
  if (sizes.size() > 1) {
    std::vector<std::string> found;
    for (const auto& [size, name] : sizes) found.push_back(std::to_string(size) + " in " + repr(name));
    fail(LSTM_EDGE_INPUT, "states have different batch sizes: " + joined(found));
  }
  return sizes.empty() ? std::nullopt : std::make_optional(sizes[0].first);
}

bool states_begun(const std::vector<StateSpec>& specs, const std::vector<std::optional<View>>& arrays) {
  const auto is_cache = [](const StateSpec& spec) { return spec.kind == "cache"; };
  const bool caches = std::any_of(specs.begin(), specs.end(), is_cache);
  for (size_t i = 0; i < specs.size(); ++i) {
    if (caches && !is_cache(specs[i])) continue;
    const int64_t count = arrays[i]->count();
    for (int64_t k = 0; k < count; ++k) {
      if (element(*arrays[i], k) != 0) return true;
    }
  }
  return false;
}

}  // namespace lstm_edge::device
