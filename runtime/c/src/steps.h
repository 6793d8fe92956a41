// Steps of arrays along their time axes: copy them, cut and join arrays, and a buffer that keeps some.
#pragma once

#include <vector>

#include "pieces.h"

namespace lstm_edge::device {

// How the steps of an array lie in memory: `count` runs of steps, each step of `bytes` bytes.
struct Runs {
  Runs(lstm_edge_dtype dtype, const int64_t* shape, size_t rank, size_t axis);
  size_t count = 1;
  size_t bytes;
};

// Steps of one array after each other in a larger one: `steps` is how many a run has.
struct StepsOf {
  const void* data;
  int64_t steps;
  int64_t start;
};
void copy_steps(const Runs& runs, const StepsOf& from, void* to, int64_t to_steps, int64_t at, int64_t count);

// A copy of the steps from `start` to before `stop`.
Array steps_of(const View& view, size_t axis, int64_t start, int64_t stop);
// A new array: the later steps after the earlier ones.
Array joined_steps(const View& early, const View& late, size_t axis);

// The same number of steps of several arrays. Nothing is allocated while there is room.
class StepBuffer {
 public:
  explicit StepBuffer(std::vector<Runs> runs) : runs_(std::move(runs)) {}

  int64_t steps() const { return steps_; }
  // Makes room for so many steps in all.
  void reserve(int64_t steps);
  void clear() { steps_ = 0; }
  // Appends `count` of the steps of an array for each of the buffer, from `start` on; there must be room.
  void append(const std::vector<const void*>& arrays, int64_t array_steps, int64_t start, int64_t count);
  // Writes all steps to the beginning of larger arrays.
  void copy_to(std::vector<Array>& arrays, int64_t array_steps) const;
  const Runs& runs(size_t index) const { return runs_[index]; }

 private:
  std::vector<Runs> runs_;
  std::vector<Array> memory_;  // bytes
  int64_t room_ = 0;
  int64_t steps_ = 0;
};

}  // namespace lstm_edge::device
