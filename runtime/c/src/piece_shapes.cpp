#include "piece_shapes.h"

#include <algorithm>
#include <cstring>

#include "checks.h"

namespace lstm_edge::device {

void FixedShape::set(const Shape& shape) {
  if (shape.size() > LSTM_EDGE_MOST_AXES) return;
  rank = int32_t(shape.size());
  std::copy(shape.begin(), shape.end(), sizes);
}

bool FixedShape::agrees(const lstm_edge_array& array) const {
  return rank >= 0 && array.rank == rank && std::memcmp(array.shape, sizes, size_t(rank) * sizeof(sizes[0])) == 0;
}

PieceShape::PieceShape(const PieceReader& reader, const std::vector<View>& views)
    : form(reader.find_form(views, steps)), expected(views.size()) {
  for (size_t i = 0; i < views.size(); ++i) {
    const TensorSpec& spec = reader.contract.inputs[i];
    ExpectedArray& array = expected[i];
    array.dtype = views[i].dtype;
    array.shape.set(views[i].sizes());
    array.bytes = size_t(views[i].count()) * item_size(array.dtype);
    array.moves = std::find(reader.moving.begin(), reader.moving.end(), i) != reader.moving.end();
    if (!array.moves && reader.batch_size == 1) array.row.set(shape_of(spec.axes, 1, 1, kRow));
  }
}

PieceSlots::PieceSlots(const PieceReader& reader) : reader_(reader), slots_(reader.contract.inputs.size()) {
  for (size_t i = 0; i < slots_.size(); ++i) slots_[i] = i;
}

bool PieceSlots::agrees(const PieceShape& piece, const lstm_edge_array* inputs, size_t count, bool holds) {
  const size_t moving_count = reader_.moving.size();
  if (count < moving_count || count > slots_.size()) return false;
  size_t moving = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t slot = slot_of(inputs[i], i, count);
    if (slot >= slots_.size()) return false;
    // A slot that came before is swapped forward, so a second array of one name finds no place.
    const auto place = std::find(slots_.begin() + std::ptrdiff_t(i), slots_.end(), slot);
    if (place == slots_.end() || !piece.expected[slot].agrees(inputs[i])) return false;
    std::swap(slots_[i], *place);
    moving += piece.expected[slot].moves;
  }
  // What is not given is a condition that is held.
  return moving == moving_count && (holds || count == slots_.size());
}

// The index of the input that an array of a push is; too large if there is none.
size_t PieceSlots::slot_of(const lstm_edge_array& array, size_t position, size_t count) const {
  const size_t none = slots_.size();
  if (array.name == nullptr || *array.name == 0) {
    return count == 1 && reader_.moving.size() == 1 ? reader_.moving[0] : none;
  }
  const size_t likely = slots_[position];
  const std::vector<TensorSpec>& specs = reader_.contract.inputs;
  if (specs[likely].name == array.name) return likely;
  for (size_t i = 0; i < none; ++i) {
    if (specs[i].name == array.name) return i;
  }
  return none;
}

const lstm_edge_array* PieceSlots::find(size_t slot, const lstm_edge_array* inputs, size_t count) const {
  for (size_t i = 0; i < count; ++i) {
    if (slots_[i] == slot) return &inputs[i];
  }
  return nullptr;
}

void PieceSlots::check_finite(const lstm_edge_array* inputs, size_t count, int64_t step) const {
  for (const std::vector<size_t>* group : {&reader_.conditions, &reader_.moving}) {
    for (size_t slot : *group) {
      const lstm_edge_array* array = find(slot, inputs, count);
      if (array != nullptr) check_step_finite(reader_.contract.inputs[slot].name, view_of(*array), step);
    }
  }
}

}  // namespace lstm_edge::device
