#include "steps.h"

#include <cstring>

namespace lstm_edge::device {
namespace {

// Of an array along an axis: how many runs of steps there are, and the bytes of one step of one run.
struct Runs {
  Runs(const View& view, size_t axis) : bytes(item_size(view.dtype)), steps(size_t(view.shape[axis])) {
    for (size_t i = 0; i < axis; ++i) count *= size_t(view.shape[i]);
    for (size_t i = axis + 1; i < view.rank; ++i) bytes *= size_t(view.shape[i]);
  }
  size_t count = 1, bytes, steps;
};

void copy_steps(const View& view, size_t axis, size_t start, size_t count, Array& target, size_t at) {
  const Runs from(view, axis), to(view_of("", target), axis);
  if (count == 0 || from.bytes == 0) return;
  for (size_t run = 0; run < from.count; ++run) {
    std::memcpy(target.data<char>() + (run * to.steps + at) * to.bytes,
                static_cast<const char*>(view.data) + (run * from.steps + start) * from.bytes, count * from.bytes);
  }
}

}  // namespace

Array steps_of(const View& view, size_t axis, int64_t start, int64_t stop) {
  Shape shape = view.sizes();
  shape[axis] = stop - start;
  Array array(view.dtype, shape);
  copy_steps(view, axis, size_t(start), size_t(stop - start), array, 0);
  return array;
}

Array joined_steps(const View& early, const View& late, size_t axis) {
  Shape shape = early.sizes();
  shape[axis] += late.shape[axis];
  Array array(early.dtype, shape);
  copy_steps(early, axis, 0, size_t(early.shape[axis]), array, 0);
  copy_steps(late, axis, 0, size_t(late.shape[axis]), array, size_t(early.shape[axis]));
  return array;
}

}  // namespace lstm_edge::device
