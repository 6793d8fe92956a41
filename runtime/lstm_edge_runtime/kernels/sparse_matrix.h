// A block-sparse int8 matrix (docs/operators.md, "Sparse matrices"), packed once per session.
//
// A block is 16 columns of one gate by 4 k, which is the 64-byte vector of a dense int8 matrix. The blocks that exist
// lie vector by vector in the order of the tiles, and by k within a vector: [blocks][16][4] bytes.
#pragma once

#include "matrix.h"

namespace lstm_edge {

constexpr int kBlockRows = 4;                        // k of a block
constexpr int kBlockBytes = kBlockRows * kLanes;     // weights of a block
constexpr int kMostSparseRows = kBlockRows * 65536;  // the number of a block row is 16 bits

inline int block_rows(int k) { return (k + kBlockRows - 1) / kBlockRows; }
inline int block_columns(int cells) { return (cells + kLanes - 1) / kLanes; }

// Packs the gates from column `first` on. `shifted`: the product takes activations as q + 128, so that a column's sum
// starts from -128 times the sum of its weights.
inline Matrix pack_sparse(const Raw& raw, int first, Columns columns, bool shifted) {
  Matrix matrix;
  matrix.precision = Precision::kSparse;
  matrix.k = raw.rows;
  matrix.n = columns.gates * columns.cells;
  matrix.vectors = columns.vectors();
  matrix.tiles = columns.tiles();
  matrix.groups = block_rows(raw.rows);
  matrix.scales = allocate<float>(matrix.width());
  matrix.starts = allocate<int32_t>(matrix.width());
  matrix.first = allocate<uint32_t>(size_t(matrix.tiles) * matrix.vectors + 1);
  for (int column = 0; column < matrix.n; ++column) {
    matrix.scales[columns.packed(column)] = raw.scale[first + column];
  }
  const int per_gate = block_columns(columns.cells), first_gate = first / columns.cells;
  // The vector of a block, or -1 where it belongs to a gate of another matrix.
  const auto vector_of = [&](int block) {
    const int column = block / matrix.groups, gate = column / per_gate - first_gate;
    if (gate < 0 || gate >= columns.gates) return -1;
    return column % per_gate * columns.gates + gate;
  };
  size_t count = 0;
  for (int b = 0; b < raw.blocks; ++b) {
    const int vector = vector_of(raw.index[b]);
    if (vector >= 0) ++matrix.first[vector + 1], ++count;
  }
  for (int v = 0; v < matrix.tiles * matrix.vectors; ++v) matrix.first[v + 1] += matrix.first[v];
  matrix.bytes = allocate<uint8_t>(count * kBlockBytes);
  matrix.groups_of = allocate<uint16_t>(count);
  std::vector<uint32_t> next(matrix.first.get(), matrix.first.get() + size_t(matrix.tiles) * matrix.vectors);
  for (int b = 0; b < raw.blocks; ++b) {
    const int vector = vector_of(raw.index[b]);
    if (vector < 0) continue;
    const uint32_t at = next[vector]++;
    matrix.groups_of[at] = uint16_t(raw.index[b] % matrix.groups);
    const int8_t* values = static_cast<const int8_t*>(raw.w) + size_t(b) * kBlockBytes;
    uint8_t* target = matrix.bytes.get() + size_t(at) * kBlockBytes;
    for (int i = 0; i < kBlockBytes; ++i) {
      const int row = i / kLanes, lane = i % kLanes;
      target[lane * kBlockRows + row] = uint8_t(values[i]);
      if (shifted) matrix.starts[vector * kLanes + lane] -= 128 * values[i];
    }
  }
  return matrix;
}

}  // namespace lstm_edge
