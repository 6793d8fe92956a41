#include "pieces.h"

#include <algorithm>

#include "checks.h"
#include "error.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr Form kForms[] = {kChunk, kLacksTime, kRow};

bool lacks_axis(const std::string& axis, unsigned lacks) {
  return (axis == kTime && (lacks & kLacksTime)) || (axis == kBatch && (lacks & kLacksBatch));
}

}  // namespace

Shape shape_of(const Axes& axes, int64_t batch_size, int64_t steps, unsigned lacks) {
  Shape shape;
  for (const Axis& axis : axes) {
    const std::string* name = std::get_if<std::string>(&axis);
    if (name == nullptr) shape.push_back(std::get<int64_t>(axis));
    else if (!lacks_axis(*name, lacks)) shape.push_back(*name == kTime ? steps : batch_size);
  }
  return shape;
}

bool has_axis(const Axes& axes, std::string_view name) {
  return std::any_of(axes.begin(), axes.end(), [&](const Axis& axis) {
    const std::string* text = std::get_if<std::string>(&axis);
    return text != nullptr && *text == name;
  });
}

size_t time_axis(const Axes& axes) {
  size_t index = 0;
  while (axes[index] != Axis(std::string(kTime))) ++index;
  return index;
}

Shape answer_shape(const Axes& axes, int64_t steps, int64_t batch_size, bool lacks_batch, bool called) {
  if (has_axis(axes, kTime)) return shape_of(axes, batch_size, steps, lacks_batch ? kLacksBatch : kChunk);
  Shape shape = shape_of(axes, batch_size, steps);
  if (shape.empty()) shape.push_back(1);
  if (called) return shape;
  size_t rows = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] == Axis(std::string(kBatch))) {
      rows = i;
      break;
    }
  }
  shape[rows] = 0;
  return shape;
}

PieceReader::PieceReader(const Contract& contract, int64_t batch_size) : contract(contract), batch_size(batch_size) {
  for (const bool timed : {true, false}) {
    for (size_t i = 0; i < contract.inputs.size(); ++i) {
      if (has_axis(contract.inputs[i].axes, kTime) == timed) (timed ? moving : conditions).push_back(i);
    }
  }
  if (moving.empty()) std::swap(moving, conditions);
  for (size_t i : conditions) condition_shapes.push_back(shape_of(contract.inputs[i].axes, batch_size, 1));
}

std::vector<View> PieceReader::read(std::vector<View> given, const std::vector<Array>& held, int64_t step) const {
  if (!conditions.empty()) {
    if (given.size() == 1 && given[0].name.empty() && moving.size() == 1) {
      given[0].name = contract.inputs[moving[0]].name;
    }
    for (size_t k = 0; k < conditions.size(); ++k) {
      const std::string& name = contract.inputs[conditions[k]].name;
      if (std::any_of(given.begin(), given.end(), [&](const View& view) { return view.name == name; })) continue;
      if (held.empty()) {
        fail(LSTM_EDGE_INPUT, "input " + repr(name) +
                                  " is missing: it has no time axis, so give it with the first push, by its name; it "
                                  "is kept until reset");
      }
      given.push_back(view_of(name, held[k]));
    }
  }
  std::vector<View> views = name_inputs(contract, given);
  for (size_t i = 0; i < views.size(); ++i) {
    check_array(contract.inputs[i], views[i]);
    views[i].name = contract.inputs[i].name;
  }
  for (size_t k = 0; k < conditions.size(); ++k) complete_condition(k, views[conditions[k]], step);
  return views;
}

void PieceReader::complete_condition(size_t index, View& view, int64_t step) const {
  const TensorSpec& spec = contract.inputs[conditions[index]];
  for (const Form lacks : {kChunk, kRow}) {
    int64_t steps = -1;
    if ((lacks == kRow && batch_size != 1) || !fits(spec, view, steps, lacks)) continue;
    check_step_finite(spec.name, view, step);
    view.shape = condition_shapes[index].data();
    view.rank = condition_shapes[index].size();
    return;
  }
  fail(LSTM_EDGE_INPUT, "input " + repr(spec.name) + " has shape " + shape_text(view.sizes()) + ", expected " +
                            shape_text(condition_shapes[index]));
}

Form PieceReader::find_form(const std::vector<View>& views, int64_t& steps) const {
  for (const Form lacks : kForms) {
    if (lacks == kRow && batch_size != 1) break;
    steps = -1;
    const auto right = [&](size_t i) { return fits(contract.inputs[i], views[i], steps, lacks); };
    if (!std::all_of(moving.begin(), moving.end(), right)) continue;
    if (steps < 0) steps = 1;
    return lacks;
  }
  refuse_form(views);
}

void PieceReader::refuse_form(const std::vector<View>& views) const {
  const size_t forms = batch_size == 1 ? 3 : 2;
  size_t wrong = moving[0];
  for (size_t i : moving) {
    const auto fits_form = [&](Form lacks) {
      int64_t steps = -1;
      return fits(contract.inputs[i], views[i], steps, lacks);
    };
    if (std::none_of(kForms, kForms + forms, fits_form)) {
      wrong = i;
      break;
    }
  }
  std::vector<std::string> expected;
  for (size_t k = forms; k-- > 0;) {
    std::vector<std::string> texts;
    for (const Axis& axis : contract.inputs[wrong].axes) {
      const std::string* name = std::get_if<std::string>(&axis);
      if (name == nullptr) texts.push_back(std::to_string(std::get<int64_t>(axis)));
      else if (!lacks_axis(*name, kForms[k])) texts.push_back(*name == kBatch ? std::to_string(batch_size) : *name);
    }
    const std::string text = "[" + joined(texts) + "]";
    if (std::find(expected.begin(), expected.end(), text) == expected.end()) expected.push_back(text);
  }
  fail(LSTM_EDGE_INPUT, "input " + repr(contract.inputs[wrong].name) + " has shape " +
                            shape_text(views[wrong].sizes()) + ", expected " + joined(expected, " or ") +
                            ", with time at least 1" + (moving.size() > 1 ? ", all inputs in the same form" : ""));
}

bool PieceReader::fits(const TensorSpec& spec, const View& view, int64_t& steps, unsigned lacks) const {
  size_t at = 0;
  for (const Axis& axis : spec.axes) {
    const std::string* name = std::get_if<std::string>(&axis);
    if (name != nullptr && lacks_axis(*name, lacks)) continue;
    if (at == view.rank) return false;
    const int64_t size = view.shape[at++];
    if (name != nullptr && *name == kTime && steps < 0) steps = size;
    const int64_t expected = name == nullptr ? std::get<int64_t>(axis) : *name == kTime ? steps : batch_size;
    if (size <= 0 || size != expected) return false;
  }
  return at == view.rank;
}

}  // namespace lstm_edge::device
