#include "steps.h"

#include <algorithm>
#include <cstring>

namespace lstm_edge::device {

Runs::Runs(lstm_edge_dtype dtype, const int64_t* shape, size_t rank, size_t axis) : bytes(item_size(dtype)) {
  for (size_t i = 0; i < axis; ++i) count *= size_t(shape[i]);
  for (size_t i = axis + 1; i < rank; ++i) bytes *= size_t(shape[i]);
}

void copy_steps(const Runs& runs, const StepsOf& from, void* to, int64_t to_steps, int64_t at, int64_t count) {
  if (count == 0 || runs.bytes == 0) return;
  for (size_t run = 0; run < runs.count; ++run) {
    std::memcpy(static_cast<char*>(to) + (run * size_t(to_steps) + size_t(at)) * runs.bytes,
                static_cast<const char*>(from.data) + (run * size_t(from.steps) + size_t(from.start)) * runs.bytes,
                size_t(count) * runs.bytes);
  }
}

Array steps_of(const View& view, size_t axis, int64_t start, int64_t stop) {
  Shape shape = view.sizes();
  shape[axis] = stop - start;
  Array array(view.dtype, shape);
  const Runs runs(view.dtype, view.shape, view.rank, axis);
  copy_steps(runs, {view.data, view.shape[axis], start}, array.data<void>(), stop - start, 0, stop - start);
  return array;
}

Array joined_steps(const View& early, const View& late, size_t axis) {
  Shape shape = early.sizes();
  const int64_t before = early.shape[axis], after = late.shape[axis];
  shape[axis] += after;
  Array array(early.dtype, shape);
  const Runs runs(early.dtype, early.shape, early.rank, axis);
  copy_steps(runs, {early.data, before, 0}, array.data<void>(), shape[axis], 0, before);
  copy_steps(runs, {late.data, after, 0}, array.data<void>(), shape[axis], before, after);
  return array;
}

void StepBuffer::reserve(int64_t steps) {
  if (steps <= room_) return;
  const int64_t room = std::max(steps, 2 * room_);
  std::vector<Array> memory;
  for (size_t k = 0; k < runs_.size(); ++k) {
    const Runs& runs = runs_[k];
    memory.emplace_back(LSTM_EDGE_UINT8, Shape{int64_t(runs.count), room, int64_t(runs.bytes)});
    if (steps_ > 0) copy_steps(runs, {memory_[k].data<void>(), room_, 0}, memory[k].data<void>(), room, 0, steps_);
  }
  memory_ = std::move(memory);
  room_ = room;
}

void StepBuffer::append(const std::vector<const void*>& arrays, int64_t array_steps, int64_t start, int64_t count) {
  for (size_t k = 0; k < runs_.size() && count > 0; ++k) {
    copy_steps(runs_[k], {arrays[k], array_steps, start}, memory_[k].data<void>(), room_, steps_, count);
  }
  steps_ += count;
}

void StepBuffer::copy_to(std::vector<Array>& arrays, int64_t array_steps) const {
  for (size_t k = 0; k < runs_.size() && steps_ > 0; ++k) {
    copy_steps(runs_[k], {memory_[k].data<void>(), room_, 0}, arrays[k].data<void>(), array_steps, 0, steps_);
  }
}

}  // namespace lstm_edge::device
