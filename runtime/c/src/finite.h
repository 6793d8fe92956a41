// The kernels' question whether float32 arrays hold neither NaN nor infinity (kernels/finite.cpp).
#pragma once

#include <cstddef>

namespace lstm_edge::device {

struct Span {
  const float* data = nullptr;
  size_t count = 0;
};

}  // namespace lstm_edge::device

// The last span has no data. Returns 1 or 0.
extern "C" int LstmEdgeAllFinite(const lstm_edge::device::Span* spans);
