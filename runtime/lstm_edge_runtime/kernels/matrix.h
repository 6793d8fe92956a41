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

inline size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }
// The size of a row of floats that is padded to whole vectors.
inline size_t padded_floats(int count) { return padded(sizeof(float) * count) / sizeof(float); }

// Zeroed memory at a multiple of 64 bytes. (Huge pages for large weights were tried: no difference at 4 and 14 MB.)
template <typename T>
Aligned<T> allocate(size_t count) {
  const size_t bytes = padded(count * sizeof(T)) + 64;
  void* memory = std::aligned_alloc(64, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, bytes);
  return Aligned<T>(static_cast<T*>(memory));
}

// How a matrix is stored. Activations are rounded to int8 for all of them but kFloat.
enum class Precision { kFloat, kInt8, kInt4, kSparse };

struct Matrix {
  Precision precision = Precision::kFloat;
  int k = 0, n = 0;  // as in the operator: [K, N]
  int vectors = 4;   // 16-column vectors of a tile
  int tiles = 0;
  int groups = 0;  // steps along k that one 64-byte vector holds: K/4, K/8 (int4), K (float), rounded up
  int block = 0;   // int4: k of one scale; a multiple of 8 that divides the padded K
  bool zero_points = false;
  Aligned<uint8_t> bytes;  // int8 as w + weight_offset, int4 as nibbles
  Aligned<float> floats;   // float weights
  Aligned<float> scales;   // int8: [tiles][V][16]; int4: [tiles][blocks][V][16]
  Aligned<int32_t> zeros;  // int4 with zero points: [tiles][blocks][V][16]
  // Sparse, see sparse_matrix.h.
  Aligned<uint32_t> first;      // [tiles · V + 1]: where the blocks of each vector begin
  Aligned<uint16_t> groups_of;  // [blocks]: which four k a block multiplies
  Aligned<int32_t> starts;      // [tiles][V][16]: the value that a column's sum starts from

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

// A matrix [rows, columns] as the operator has it. `w`: float, int8, or nibbles [K, (N + 1) / 2] (column 2j in the low,
// 2j + 1 in the high half of byte j); `scale`: of int8 [1, N], of int4 [blocks, N]; `zero`: of int4 [blocks, N] or,
// where zero_stride is 0, one for all; null for 8 everywhere. Sparse: `w` int8 [blocks, 4, 16], `index` [blocks].
struct Raw {
  Precision precision;
  const void* w;
  int rows, columns;
  const float* scale = nullptr;
  int block = 0;
  const uint8_t* zero = nullptr;
  int zero_stride = 0;
  const int32_t* index = nullptr;
  int blocks = 0;

  template <typename T>
  const T* row(int number, int first) const {
    return static_cast<const T*>(w) + size_t(number) * columns + first;
  }
};

// Packs the columns from `first` on. `offset` is added to every int8 weight (128 where the dot product takes unsigned
// weights); what pads a matrix is only multiplied with zeros. The operator's matrix is read row by row, as it lies in
// memory: 14 MB of int8 take 8 ms.
inline Matrix pack(const Raw& raw, int first, Columns columns, int offset) {
  const int per_group = raw.precision == Precision::kFloat ? 1 : raw.precision == Precision::kInt8 ? 4 : 8;
  Matrix matrix;
  matrix.precision = raw.precision;
  matrix.k = raw.rows;
  matrix.n = columns.gates * columns.cells;
  matrix.vectors = columns.vectors();
  matrix.tiles = columns.tiles();
  matrix.groups = (raw.rows + per_group - 1) / per_group;
  matrix.block = raw.block;
  matrix.zero_points = raw.zero != nullptr;
  const size_t tile = size_t(matrix.vectors) * kLanes, blocks = matrix.blocks();
  if (raw.scale != nullptr) matrix.scales = allocate<float>(blocks * matrix.width());
  if (raw.zero != nullptr) matrix.zeros = allocate<int32_t>(blocks * matrix.width());
  const std::vector<size_t> scale_start = starts(matrix, columns, blocks, 1);
  for (size_t b = 0; raw.scale != nullptr && b < blocks; ++b) {
    for (int column = 0; column < matrix.n; ++column) {
      const size_t at = scale_start[column] + b * tile;
      matrix.scales[at] = raw.scale[b * raw.columns + first + column];
      if (raw.zero != nullptr) matrix.zeros[at] = raw.zero[raw.zero_stride ? b * raw.columns + first + column : 0];
    }
  }
  if (raw.precision == Precision::kFloat) {
    matrix.floats = allocate<float>(raw.rows * matrix.width());
    const std::vector<size_t> start = starts(matrix, columns, raw.rows, 1);
    for (int row = 0; row < raw.rows; ++row) {
      float* target = matrix.floats.get() + row * tile;
      const float* w = raw.row<float>(row, first);
      for (int column = 0; column < matrix.n; ++column) target[start[column]] = w[column];
    }
    return matrix;
  }
  const size_t depth = 4 * size_t(matrix.groups);
  matrix.bytes = allocate<uint8_t>(depth * matrix.width());
  const std::vector<size_t> start = starts(matrix, columns, depth, 4);
  for (int row = 0; row < raw.rows; ++row) {
    uint8_t* target = matrix.bytes.get() + row / per_group * tile * 4 + row % 4;
    if (raw.precision == Precision::kInt8) {
      const int8_t* w = raw.row<int8_t>(row, first);
      for (int column = 0; column < matrix.n; ++column) target[start[column]] = uint8_t(w[column] + offset);
    } else {
      const uint8_t* pairs = static_cast<const uint8_t*>(raw.w) + size_t(row) * ((raw.columns + 1) / 2);
      const int shift = row / 4 % 2 * 4;
      for (int column = 0; column < matrix.n; ++column) {
        const uint8_t pair = pairs[(first + column) / 2];
        target[start[column]] |= uint8_t(((first + column) % 2 ? pair >> 4 : pair & 15) << shift);
      }
    }
  }
  return matrix;
}

}  // namespace lstm_edge
