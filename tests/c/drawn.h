// Drawn inputs for a session of any model, for the test programs.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "lstm_edge.h"

namespace drawn {

inline size_t item_size(lstm_edge_dtype dtype) {
  switch (dtype) {
    case LSTM_EDGE_UINT8:
    case LSTM_EDGE_INT8:
    case LSTM_EDGE_BOOL: return 1;
    case LSTM_EDGE_UINT16:
    case LSTM_EDGE_INT16:
    case LSTM_EDGE_FLOAT16: return 2;
    case LSTM_EDGE_INT64:
    case LSTM_EDGE_FLOAT64:
    case LSTM_EDGE_UINT64: return 8;
    default: return 4;
  }
}

// The inputs of a session and their memory.
struct Inputs {
  std::vector<lstm_edge_array> arrays;
  std::vector<std::vector<char>> memory;
  bool possible = true;  // false where an axis is larger than a test takes
};

// `steps` 0 gives frames: arrays without the time axis.
inline Inputs draw(const lstm_edge_session* session, int64_t batch, int64_t steps) {
  Inputs found;
  lstm_edge_tensor tensor{};
  for (size_t i = 0; lstm_edge_tensor_at(session, LSTM_EDGE_INPUTS, i, &tensor) == LSTM_EDGE_OK; ++i) {
    lstm_edge_array array{};
    array.name = tensor.name;
    array.dtype = tensor.dtype;
    double elements = 1;
    for (int32_t axis = 0; axis < tensor.rank; ++axis) {
      const std::string name = tensor.axis_names[axis] == nullptr ? "" : tensor.axis_names[axis];
      if (name == "time" && steps == 0) continue;
      const int64_t size = name == "batch" ? batch : name == "time" ? steps : name.empty() ? tensor.shape[axis] : 1;
      array.shape[array.rank++] = size;
      elements *= static_cast<double>(size);
    }
    if (!(elements >= 1 && elements <= 200000)) {
      found.possible = false;
      return found;
    }
    const auto count = static_cast<size_t>(elements);
    std::vector<char> memory(count * item_size(tensor.dtype));
    for (size_t k = 0; k < count; ++k) {
      if (tensor.dtype == LSTM_EDGE_FLOAT32) {
        reinterpret_cast<float*>(memory.data())[k] = std::sin(0.7F * static_cast<float>(k + 1));
      } else if (tensor.dtype == LSTM_EDGE_INT64) {
        reinterpret_cast<int64_t*>(memory.data())[k] = static_cast<int64_t>(k % 3);
      } else if (tensor.dtype == LSTM_EDGE_INT32) {
        reinterpret_cast<int32_t*>(memory.data())[k] = static_cast<int32_t>(k % 3);
      }
    }
    found.memory.push_back(std::move(memory));
    array.data = found.memory.back().data();
    found.arrays.push_back(array);
  }
  return found;
}

}  // namespace drawn
