// The states of a stream in a ring of memory blocks: the graph reads one and writes the next.
#pragma once

#include <vector>

#include "finite.h"
#include "states.h"

namespace lstm_edge::device {

class StateBlocks {
 public:
  // Zeros. `count`: 2, or 3 to keep the state before the current one through the next call.
  StateBlocks(const std::vector<StateSpec>& specs, int64_t batch_size, size_t count);

  size_t count() const { return blocks_.size(); }
  size_t now() const { return now_; }
  size_t next() const { return now_ + 1 == blocks_.size() ? 0 : now_ + 1; }
  size_t previous() const { return (now_ == 0 ? blocks_.size() : now_) - 1; }
  // Whether the float32 states of the next block hold neither NaN nor infinity.
  bool next_is_finite() const { return LstmEdgeAllFinite(finite_[next()].data()) != 0; }
  // From here on the next block holds the state.
  void advance() { now_ = next(); }
  void clear(size_t block);
  // Arrays for each spec, with its shape.
  void set(size_t block, const std::vector<Array>& states);
  std::vector<Array> copy(size_t block) const;
  // Adds what a call lends that reads one block and writes the one behind it.
  void lend(size_t block, std::vector<Lent>& given, std::vector<Lent>& taken);

 private:
  const std::vector<StateSpec>& specs_;
  const StateLayout layout_;
  std::vector<Array> blocks_;
  std::vector<std::vector<Span>> finite_;  // the float32 states of each block
  size_t now_ = 0;
};

}  // namespace lstm_edge::device
