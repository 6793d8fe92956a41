// A node of the graph: the operator that it calls, and its constant inputs, checked and packed.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "layers.h"
#include "ort_runtime.h"

namespace lstm_edge {

class Kernel;
struct Operator;
using MakeKernel = std::unique_ptr<Kernel> (*)(const Runtime&, const Operator&, const OrtKernelInfo*);

// The most that the magnitudes of an int8 column may sum to (docs/operators.md): with activations in -127..127 every
// sum is then an integer below 2^24, which float32 holds, and which int32 holds whatever the order.
constexpr int kLargestColumnSum = ((1 << 24) - 1) / 127;

// An operator: its name, its inputs, in order (a matrix that is not float32 is followed by its scales, and by its zero
// points or by the numbers of its blocks and its rows), and what makes the kernel of a node that calls it.
struct Operator : OrtCustomOp {
  std::string name;
  MakeKernel make = nullptr;
  size_t outputs = 1;
  bool projected = false, ragged = false, reset_after = false, relu = false;
  Precision precision = Precision::kFloat, w_precision = Precision::kFloat;  // of the other matrices, and of w
  Peephole peephole = Peephole::kNone;
  std::vector<int> input_types;
  std::vector<std::string> input_names;
  std::vector<bool> optional;

  void add(const char* input, int type, bool may_be_absent = false) {
    input_names.push_back(input);
    input_types.push_back(type);
    optional.push_back(may_be_absent);
  }
  void add_matrix(const std::string& matrix, Precision stored) {
    const int types[] = {kFloat, kInt8, kUint8, kInt8};
    add(matrix.c_str(), types[int(stored)]);
    if (stored != Precision::kFloat) add((matrix + "_scale").c_str(), kFloat);
    if (stored == Precision::kInt4) add((matrix + "_zero").c_str(), kUint8);
    if (stored == Precision::kSparse) {
      add((matrix + "_index").c_str(), kInt32);
      add((matrix + "_rows").c_str(), kInt64);
    }
  }
  // The storage of an LSTM's p, po and v.
  Precision further() const { return precision == Precision::kSparse ? Precision::kInt8 : precision; }
};

// Reads the constant inputs of a node, one after the other.
class Constants {
 public:
  Constants(const Runtime& runtime, const OrtKernelInfo* info, const Operator& op, size_t first)
      : runtime_(runtime), info_(info), op_(op), next_(first) {}

  // The next constant, whose shape must be `dims` (-1: any) and whose type is the operator's.
  template <typename T>
  const T* take(std::initializer_list<int64_t> dims, Shape& shape) {
    const char* name = op_.input_names[next_].c_str();
    const OrtValue* value = runtime_.constant(info_, next_, name);
    runtime_.read_shape(value, shape);
    bool fits = shape.rank == dims.size() && shape.type == op_.input_types[next_];
    size_t axis = 0;
    for (int64_t wanted : dims) {
      fits = fits && shape.dims[axis] > 0 && shape.dims[axis] < (1 << 24) && (wanted < 0 || shape.dims[axis] == wanted);
      ++axis;
    }
    require(fits, [&] { return op_.name + ": input " + name + " has shape " + shape.text(); });
    ++next_;
    return runtime_.data<T>(value);
  }

  // The next matrix [k, n] (-1: any) of `gates` gates, with what follows it, packed.
  Matrix matrix(int64_t k, int64_t n, int gates, Precision stored) {
    const Raw raw = read(k, n, gates, stored);
    return pack(raw, 0, raw.columns, gates);
  }

  // The next matrix as two: the columns before `first` as `gates` gates, and the rest as one. `first` is even.
  std::pair<Matrix, Matrix> split_matrix(int64_t k, int64_t n, int first, int gates, Precision stored) {
    const Raw raw = read(k, n, gates + 1, stored);
    return {pack(raw, 0, first, gates), pack(raw, first, raw.columns - first, 1)};
  }

  // The next array [n] in the order of a matrix' packed columns.
  Aligned<float> bias(const Matrix& matrix, Columns columns) {
    Shape shape;
    const float* values = take<float>({matrix.n}, shape);
    Aligned<float> packed = allocate<float>(matrix.width());
    for (int column = 0; column < matrix.n; ++column) packed[columns.packed(column)] = values[column];
    return packed;
  }

  // The next array, the rows of its last axis padded to whole vectors.
  Aligned<float> rows(std::initializer_list<int64_t> dims) {
    Shape shape;
    const float* values = take<float>(dims, shape);
    const int size = int(shape.dims[shape.rank - 1]), count = int(shape.count() / size);
    Aligned<float> result = allocate<float>(count * padded_floats(size));
    for (int row = 0; row < count; ++row) {
      std::memcpy(result.get() + row * padded_floats(size), values + row * size, sizeof(float) * size);
    }
    return result;
  }

 private:
  // Scales must be finite and positive.
  const float* take_scales(std::initializer_list<int64_t> dims, Shape& shape) {
    const size_t index = next_;
    const float* scale = take<float>(dims, shape);
    bool allowed = true;
    for (int64_t i = 0; i < shape.count(); ++i) allowed &= scale[i] > 0.0f && scale[i] <= 3.402823466e38f;
    require(allowed,
            [&] { return op_.name + ": input " + op_.input_names[index] + " holds a scale that is not positive"; });
    return scale;
  }

  Raw read(int64_t k, int64_t n, int gates, Precision stored) {
    Shape shape;
    if (stored == Precision::kInt4) return read_int4(k, n);
    if (stored == Precision::kSparse) return read_sparse(k, n, gates);
    if (stored == Precision::kFloat) {
      const float* w = take<float>({k, n}, shape);
      return {stored, w, int(shape.dims[0]), int(shape.dims[1])};
    }
    const char* name = op_.input_names[next_].c_str();
    const int8_t* w = take<int8_t>({k, n}, shape);
    const int rows = int(shape.dims[0]), columns = int(shape.dims[1]);
    const float* scale = take_scales({columns}, shape);
    bool allowed = true;
    for (int64_t i = 0; i < int64_t(rows) * columns; ++i) allowed &= w[i] != -128;
    require(allowed, [&] { return op_.name + ": a weight is -128, which the operator does not allow"; });
    check_column_sums(name, w, rows, columns);
    return {stored, w, rows, columns, scale};
  }

  // The shapes show the blocks and N; K is a constant of its own. What is read here is what pack_sparse relies on.
  Raw read_sparse(int64_t k, int64_t n, int gates) {
    Shape shape;
    const char* name = op_.input_names[next_].c_str();
    const int8_t* w = take<int8_t>({-1, kBlockRows, kLanes}, shape);
    const int blocks = int(shape.dims[0]);
    const float* scale = take_scales({n}, shape);
    const int columns = int(shape.dims[0]);
    const int32_t* index = take<int32_t>({blocks}, shape);
    const int64_t rows = *take<int64_t>({1}, shape);
    require(columns % gates == 0, [&] { return op_.name + ": the columns do not divide into gates"; });
    require(rows > 0 && rows <= kMostSparseRows && (k < 0 || rows == k),
            [&] { return op_.name + ": input " + name + "_rows is " + std::to_string(rows); });
    const int cells = columns / gates, height = block_rows(int(rows)), per_gate = block_columns(cells);
    const int64_t places = int64_t(height) * per_gate * gates;
    require(places <= INT32_MAX, [&] { return op_.name + ": input " + name + " has too many places for blocks"; });
    std::vector<int32_t> sums(columns);
    int64_t before = -1;
    for (int b = 0; b < blocks; ++b) {
      const int64_t number = index[b];
      require(number > before && number < places, [&] {
        return op_.name + ": input " + name + "_index has " + std::to_string(number) + " after " +
               std::to_string(before) + ": the numbers of blocks must increase and stay below " +
               std::to_string(places);
      });
      before = number;
      add_block(name, w + size_t(b) * kBlockBytes, int(rows) - int(number % height) * kBlockRows,
                int(number / height) / per_gate * cells, int(number / height) % per_gate * kLanes, cells, sums);
    }
    check_sums(name, sums);
    Raw raw{Precision::kSparse, w, int(rows), columns, scale};
    raw.index = index;
    raw.blocks = blocks;
    return raw;
  }

  // Checks one block, of whose rows `height` are inside of the matrix and whose columns begin at cell `cell` of the
  // gate that begins at column `gate`, and adds its magnitudes to the sums of its columns.
  void add_block(const char* name, const int8_t* values, int height, int gate, int cell, int cells,
                 std::vector<int32_t>& sums) const {
    for (int i = 0; i < kBlockBytes; ++i) {
      const int row = i / kLanes, lane = i % kLanes;
      require(values[i] != -128, [&] { return op_.name + ": a weight is -128, which the operator does not allow"; });
      const bool inside = row < height && cell + lane < cells;
      require(inside || values[i] == 0,
              [&] { return op_.name + ": input " + name + " has a weight outside of the matrix"; });
      if (inside) sums[gate + cell + lane] += std::abs(values[i]);
    }
  }

  // No weight is -128, and there are fewer than 2^24 rows, so a column's sum fits.
  void check_column_sums(const char* name, const int8_t* w, int rows, int columns) const {
    if (rows <= kLargestColumnSum / 127) return;
    std::vector<int32_t> sums(columns);
    for (int row = 0; row < rows; ++row) {
      const int8_t* values = w + size_t(row) * columns;
      for (int column = 0; column < columns; ++column) sums[column] += std::abs(values[column]);
    }
    check_sums(name, sums);
  }

  void check_sums(const char* name, const std::vector<int32_t>& sums) const {
    for (size_t column = 0; column < sums.size(); ++column) {
      require(sums[column] <= kLargestColumnSum, [&] {
        return op_.name + ": the magnitudes of column " + std::to_string(column) + " of input " + name + " sum to " +
               std::to_string(sums[column]) + ", at most " + std::to_string(kLargestColumnSum) +
               " is allowed: quantize the model again";
      });
    }
  }

  // Four bits are packed along the columns, so the bytes show K, and the scales show N.
  Raw read_int4(int64_t k, int64_t n) {
    Shape shape;
    const uint8_t* w = take<uint8_t>({k, n < 0 ? -1 : (n + 1) / 2}, shape);
    const int rows = int(shape.dims[0]), bytes = int(shape.dims[1]);
    const float* scale = take_scales({-1, n}, shape);
    const int blocks = int(shape.dims[0]), columns = int(shape.dims[1]);
    require((columns + 1) / 2 == bytes, [&] { return op_.name + ": a scale has other columns than its weight"; });
    const int block = blocks == (rows + 31) / 32 ? 32 : 128;
    require(blocks == (rows + block - 1) / block,
            [&] { return op_.name + ": the scales are for blocks of neither 32 nor 128"; });
    const uint8_t* zero = take<uint8_t>({-1, -1}, shape);
    const bool one = shape.dims[0] == 1 && shape.dims[1] == 1;
    require(one || (shape.dims[0] == blocks && shape.dims[1] == columns),
            [&] { return op_.name + ": zero points must be one, or one for each scale"; });
    const bool symmetric = one && zero[0] == 8;
    return {Precision::kInt4, w, rows, columns, scale, block, symmetric ? nullptr : zero, one ? 0 : columns};
  }

  Matrix pack(const Raw& raw, int first, int count, int gates) const {
    require(count % gates == 0, [&] { return op_.name + ": the columns do not divide into gates"; });
    const Columns columns{gates, count / gates};
    const int offset = instruction_set().weight_offset;
    if (raw.precision == Precision::kSparse) return pack_sparse(raw, first, columns, offset != 0);
    return lstm_edge::pack(raw, first, columns, offset);
  }

  const Runtime& runtime_;
  const OrtKernelInfo* info_;
  const Operator& op_;
  size_t next_;
};

}  // namespace lstm_edge
