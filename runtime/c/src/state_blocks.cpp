#include "state_blocks.h"

#include <cstring>

namespace lstm_edge::device {

StateBlocks::StateBlocks(const std::vector<StateSpec>& specs, int64_t batch_size, size_t count)
    : specs_(specs), layout_(specs, batch_size) {
  for (size_t i = 0; i < count; ++i) {
    blocks_.emplace_back(LSTM_EDGE_UINT8, Shape{int64_t(layout_.bytes)});
    finite_.emplace_back();
    if (layout_.floats > 0) finite_.back().push_back({blocks_.back().data<float>(), layout_.floats});
    finite_.back().push_back({});
  }
}

void StateBlocks::clear(size_t block) { std::memset(blocks_[block].data<void>(), 0, blocks_[block].bytes()); }

void StateBlocks::set(size_t block, const std::vector<Array>& states) {
  for (size_t i = 0; i < states.size(); ++i) {
    const StateLayout::Place& place = layout_.places[i];
    std::memcpy(blocks_[block].data<char>() + place.offset, states[i].data<void>(), place.bytes);
  }
}

std::vector<Array> StateBlocks::copy(size_t block) const {
  std::vector<Array> states;
  for (const StateLayout::Place& place : layout_.places) {
    states.emplace_back(place.dtype, place.shape);
    std::memcpy(states.back().data<void>(), blocks_[block].data<char>() + place.offset, place.bytes);
  }
  return states;
}

void StateBlocks::lend(size_t block, std::vector<Lent>& given, std::vector<Lent>& taken) {
  const size_t behind = block + 1 == blocks_.size() ? 0 : block + 1;
  for (size_t i = 0; i < layout_.places.size(); ++i) {
    const StateLayout::Place& place = layout_.places[i];
    given.push_back({specs_[i].input, place.dtype, place.shape, blocks_[block].data<char>() + place.offset});
    taken.push_back({specs_[i].output, place.dtype, place.shape, blocks_[behind].data<char>() + place.offset});
  }
}

}  // namespace lstm_edge::device
