// A constant matrix [K, N], packed once per session in the order in which a product reads it.
//
// Columns are grouped in tiles of V vectors of 16 columns; within a tile, four consecutive k of one column lie side by
// side, so that one 64-byte vector holds 4 k of 16 columns: [tile][K/4][V][16][4] bytes. Four-bit weights put the k
// groups 2j and 2j+1 in the low and high nibbles of one byte: [tile][K/8][V][16][4]. Float matrices are
// [tile][K][V][16].
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace lstm_edge {

constexpr int kLanes = 16;  // columns of a vector

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

template <typename T>
using Aligned = std::unique_ptr<T[], Free>;

// Zeroed memory at a multiple of 64 bytes. (Huge pages for large weights were tried: no difference at 4 and 14 MB.)
template <typename T>
Aligned<T> allocate(size_t count) {
  const size_t bytes = (count * sizeof(T) + 63) / 64 * 64 + 64;
  void* memory = std::aligned_alloc(64, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, bytes);
  return Aligned<T>(static_cast<T*>(memory));
}

enum class Precision { kFloat, kInt8, kInt4 };

struct Matrix {
  Precision precision = Precision::kFloat;
  int k = 0, n = 0;        // as in the operator: [K, N]
  int vectors = 4;         // 16-column vectors of a tile
  int tiles = 0;
  int groups = 0;          // steps along k that one 64-byte vector holds: K/4, K/8 (int4), K (float), rounded up
  int block = 0;           // int4: k of one scale; a multiple of 8 that divides the padded K
  bool zero_points = false;
  Aligned<uint8_t> bytes;  // int8 as w + weight_offset, int4 as nibbles
  Aligned<float> floats;   // float weights
  Aligned<float> scales;   // int8: [tiles][V][16]; int4: [tiles][blocks][V][16]
  Aligned<int32_t> zeros;  // int4 with zero points: [tiles][blocks][V][16]

  int blocks() const { return block == 0 ? 1 : (k + block - 1) / block; }
  size_t width() const { return size_t(tiles) * vectors * kLanes; }  // padded columns
};

// Where column n of the operator's matrix stands among the packed columns. `gates` > 1: the columns are `gates` blocks
// of H cells, and a tile holds 16 cells of every gate.
struct Columns {
  int gates, cells;
  int vectors() const { return gates > 1 ? gates : 4; }
  int tiles() const { return gates > 1 ? (cells + kLanes - 1) / kLanes : (cells + 4 * kLanes - 1) / (4 * kLanes); }
  size_t packed(int column) const {
    if (gates == 1) return column;
    const int gate = column / cells, cell = column % cells;
    return (size_t(cell / kLanes) * gates + gate) * kLanes + cell % kLanes;
  }
};

inline Matrix shaped(Precision precision, int k, int n, Columns columns, int per_group) {
  Matrix matrix;
  matrix.precision = precision;
  matrix.k = k;
  matrix.n = n;
  matrix.vectors = columns.vectors();
  matrix.tiles = columns.tiles();
  matrix.groups = (k + per_group - 1) / per_group;
  return matrix;
}

// Where the first k of each column lies among the packed elements, `depth` elements a column and tile.
inline std::vector<size_t> starts(const Matrix& matrix, Columns columns, size_t depth, size_t element) {
  const size_t tile = size_t(matrix.vectors) * kLanes;
  std::vector<size_t> result(matrix.n);
  for (int column = 0; column < matrix.n; ++column) {
    const size_t at = columns.packed(column);
    result[column] = at / tile * tile * depth + at % tile * element;
  }
  return result;
}

// All of these read the operator's matrix row by row, as it lies in memory: 14 MB of int8 take 8 ms.
inline Matrix pack_float(const float* w, int k, int n, Columns columns) {
  Matrix matrix = shaped(Precision::kFloat, k, n, columns, 1);
  const size_t tile = size_t(matrix.vectors) * kLanes;
  matrix.floats = allocate<float>(size_t(k) * matrix.width());
  const std::vector<size_t> start = starts(matrix, columns, k, 1);
  for (int row = 0; row < k; ++row) {
    float* target = matrix.floats.get() + row * tile;
    for (int column = 0; column < n; ++column) target[start[column]] = w[size_t(row) * n + column];
  }
  return matrix;
}

// `offset` is added to every weight (128 where the dot product takes unsigned weights); what pads a matrix is only
// multiplied with zeros.
inline Matrix pack_int8(const int8_t* w, const float* scale, int k, int n, Columns columns, int offset) {
  Matrix matrix = shaped(Precision::kInt8, k, n, columns, 4);
  const size_t tile = size_t(matrix.vectors) * kLanes, depth = 4 * size_t(matrix.groups);
  matrix.bytes = allocate<uint8_t>(depth * matrix.width());
  matrix.scales = allocate<float>(matrix.width());
  for (int column = 0; column < n; ++column) matrix.scales[columns.packed(column)] = scale[column];
  const std::vector<size_t> start = starts(matrix, columns, depth, 4);
  for (int row = 0; row < k; ++row) {
    uint8_t* target = matrix.bytes.get() + row / 4 * tile * 4 + row % 4;
    for (int column = 0; column < n; ++column) target[start[column]] = uint8_t(w[size_t(row) * n + column] + offset);
  }
  return matrix;
}

// w: nibbles [K, (N + 1) / 2] (column 2j in the low, 2j + 1 in the high half of byte j); scale [blocks, N]; zero_point
// [blocks, N] (zero_stride = N), one for all (zero_stride = 0), or null for 8 everywhere.
inline Matrix pack_int4(const uint8_t* w, const float* scale, const uint8_t* zero_point, int zero_stride, int k, int n,
                        int block, Columns columns) {
  Matrix matrix = shaped(Precision::kInt4, k, n, columns, 8);
  const size_t tile = size_t(matrix.vectors) * kLanes, depth = 4 * size_t(matrix.groups);
  matrix.block = block;
  matrix.zero_points = zero_point != nullptr;
  const int blocks = matrix.blocks();
  matrix.bytes = allocate<uint8_t>(depth * matrix.width());
  matrix.scales = allocate<float>(blocks * matrix.width());
  if (zero_point != nullptr) matrix.zeros = allocate<int32_t>(blocks * matrix.width());
  const std::vector<size_t> scale_start = starts(matrix, columns, blocks, 1);
  for (int b = 0; b < blocks; ++b) {
    for (int column = 0; column < n; ++column) {
      const size_t target = scale_start[column] + b * tile;
      matrix.scales[target] = scale[size_t(b) * n + column];
      if (zero_point != nullptr) matrix.zeros[target] = zero_point[zero_stride ? size_t(b) * n + column : 0];
    }
  }
  const std::vector<size_t> start = starts(matrix, columns, depth, 4);
  for (int row = 0; row < k; ++row) {
    uint8_t* target = matrix.bytes.get() + row / 8 * tile * 4 + row % 4;
    const int shift = row / 4 % 2 * 4;
    for (int column = 0; column < n; ++column) {
      const uint8_t pair = w[size_t(row) * ((n + 1) / 2) + column / 2];
      target[start[column]] |= uint8_t((column % 2 ? pair >> 4 : pair & 15) << shift);
    }
  }
  return matrix;
}

}  // namespace lstm_edge
