// The constants of ONNX's LSTM and GRU, as one direction's packed matrices: rows are the gates' cells, in ONNX's order.
#pragma once

#include "layers.h"

namespace lstm_edge {

// The gates of a layer in the operators' order, each as its number in ONNX's.
struct GateOrder {
  int count;
  int onnx[4];
};
constexpr GateOrder kLstmGates = {4, {0, 2, 3, 1}};  // i f g o among i o f c
constexpr GateOrder kGruGates = {3, {1, 0, 2}};      // r z n among z r h
constexpr int kPeepholes[3] = {0, 2, 1};             // i f o among i o f

// The rows of some gates of w [all gates · cells, k], transposed: `count` gates from `first` on in the operators'
// order.
inline Matrix pack_onnx(const float* w, int k, int cells, const GateOrder& order, int first, int count) {
  const Columns columns{count, cells};
  Matrix matrix;
  matrix.k = matrix.groups = k;
  matrix.n = count * cells;
  matrix.vectors = columns.vectors();
  matrix.tiles = columns.tiles();
  const size_t tile = size_t(matrix.vectors) * kLanes;
  matrix.floats = allocate<float>(k * matrix.width());
  for (int gate = 0; gate < count; ++gate) {
    const float* rows = w + size_t(order.onnx[first + gate]) * cells * k;
    // The cells of one vector together: what is written then lies side by side.
    for (int cell = 0; cell < cells; cell += kLanes) {
      const size_t column = columns.packed(gate * cells + cell);
      float* target = matrix.floats.get() + column / tile * tile * k + column % tile;
      const int lanes = cells - cell < kLanes ? cells - cell : kLanes;
      for (int i = 0; i < k; ++i) {
        for (int lane = 0; lane < lanes; ++lane) target[i * tile + lane] = rows[size_t(cell + lane) * k + i];
      }
    }
  }
  return matrix;
}

// b [2 · all gates · cells], the input's biases and then the recurrent ones, as w's columns: their sums, but of the
// last `apart` gates the input's alone.
inline Aligned<float> pack_onnx_bias(const float* b, const Matrix& w, int cells, const GateOrder& order, int apart) {
  const Columns columns{order.count, cells};
  Aligned<float> packed = allocate<float>(w.width());
  for (int gate = 0; gate < order.count; ++gate) {
    for (int cell = 0; cell < cells; ++cell) {
      const float* given = b + size_t(order.onnx[gate]) * cells + cell;
      const float recurrent = given[size_t(order.count) * cells];
      packed[columns.packed(gate * cells + cell)] = gate < order.count - apart ? *given + recurrent : *given;
    }
  }
  return packed;
}

// One direction of w [4H, I], r [4H, H], b [8H] and perhaps p [3H].
inline Lstm onnx_lstm(const float* w, const float* r, const float* b, const float* p, int inputs, int hidden) {
  Lstm lstm;
  lstm.inputs = inputs;
  lstm.hidden = lstm.outputs = hidden;
  lstm.w = pack_onnx(w, inputs, hidden, kLstmGates, 0, 4);
  lstm.r = pack_onnx(r, hidden, hidden, kLstmGates, 0, 4);
  lstm.bias = pack_onnx_bias(b, lstm.w, hidden, kLstmGates, 0);
  if (p == nullptr) return lstm;
  const size_t width = padded_floats(hidden);
  lstm.diagonal = allocate<float>(3 * width);
  for (int gate = 0; gate < 3; ++gate) {
    std::memcpy(lstm.diagonal.get() + gate * width, p + size_t(kPeepholes[gate]) * hidden, sizeof(float) * hidden);
  }
  return lstm;
}

// One direction of w [3H, I], r [3H, H] and b [6H].
inline Gru onnx_gru(const float* w, const float* r, const float* b, int inputs, int hidden, bool reset_after) {
  Gru gru;
  gru.inputs = inputs;
  gru.hidden = gru.outputs = hidden;
  gru.w = pack_onnx(w, inputs, hidden, kGruGates, 0, 3);
  gru.bias = pack_onnx_bias(b, gru.w, hidden, kGruGates, reset_after ? 1 : 0);
  gru.r = pack_onnx(r, hidden, hidden, kGruGates, 0, reset_after ? 3 : 2);
  if (!reset_after) {
    gru.rn = pack_onnx(r, hidden, hidden, kGruGates, 2, 1);
    return gru;
  }
  gru.recurrent_bias = allocate<float>(padded_floats(hidden));
  std::memcpy(gru.recurrent_bias.get(), b + size_t(5) * hidden, sizeof(float) * hidden);
  return gru;
}

}  // namespace lstm_edge
