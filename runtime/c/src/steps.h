// Cut and join arrays along their time axis.
#pragma once

#include <vector>

#include "pieces.h"

namespace lstm_edge::device {

// A copy of the steps from `start` to before `stop`.
Array steps_of(const View& view, size_t axis, int64_t start, int64_t stop);
// A new array: the later steps after the earlier ones.
Array joined_steps(const View& early, const View& late, size_t axis);

}  // namespace lstm_edge::device
