#include "pool_forms.h"

#include <algorithm>

#include "stream.h"

namespace lstm_edge::device {
namespace {

// Streams give frames and a few lengths of chunks. A form takes about 1 kB.
constexpr size_t kMostForms = 64;
constexpr size_t kAlignment = 64;  // of the arrays of an answer

}  // namespace

PoolForms::PoolForms(const PieceReader& reader) : reader_(reader), slots_(reader) { forms_.reserve(kMostForms); }

const SharedForm* PoolForms::find(const lstm_edge_array* inputs, size_t count, bool holds, const void** sources) {
  for (size_t i = 0; i < forms_.size(); ++i) {
    if (!slots_.agrees(forms_[i]->piece, inputs, count, holds)) continue;
    const auto found = forms_.begin() + std::ptrdiff_t(i);
    if (i > 0) std::rotate(forms_.begin(), found, found + 1);
    std::fill(sources, sources + forms_[0]->inputs.size(), nullptr);
    for (size_t k = 0; k < count; ++k) sources[slots_[k]] = inputs[k].data;
    return &forms_[0];
  }
  return nullptr;
}

void PoolForms::check_finite(const PoolForm& form, const lstm_edge_array* inputs, size_t count, int64_t step) {
  slots_.agrees(form.piece, inputs, count, true);  // finds the slots
  slots_.check_finite(inputs, count, step);
}

const SharedForm& PoolForms::make(const std::vector<View>& views) {
  auto form = std::make_shared<PoolForm>(PieceShape(reader_, views));
  const int64_t steps = form->piece.steps;
  const Contract& contract = reader_.contract;
  for (const TensorSpec& spec : contract.inputs) {
    form->inputs.emplace_back(spec.axes, shape_of(spec.axes, 1, steps), dtype_of(spec.dtype));
  }
  for (const TensorSpec& spec : contract.outputs) {
    form->outputs.emplace_back(spec.axes, shape_of(spec.axes, 1, steps), dtype_of(spec.dtype));
    form->answer.push_back(shown_output(spec, shape_of(spec.axes, 1, steps, form->piece.form)));
    form->offsets.push_back(form->answer_bytes);
    form->answer_bytes += (form->outputs.back().row_bytes() / kAlignment + 1) * kAlignment;
  }
  return *forms_.insert(forms_.begin(), std::move(form));
}

void PoolForms::tidy() {
  if (forms_.size() > kMostForms) forms_.resize(kMostForms);
}

}  // namespace lstm_edge::device
