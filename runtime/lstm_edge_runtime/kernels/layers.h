// What a kernel is made of, and the functions that each instruction set provides for it.
#pragma once

#include <algorithm>

#include "scratch.h"
#include "sparse_matrix.h"

namespace lstm_edge {

enum class Peephole { kNone, kDiagonal, kFull };

// What LSTM, GRU and RNN have in common; a layer never changes after it was made.
struct Recurrent {
  int inputs = 0, hidden = 0, outputs = 0;  // I, H, P (= H without projection)
  Matrix w, r;  // an LSTM's gates i f g o; a GRU's r z n (r without n, see Gru). w may be stored otherwise than r.
  Aligned<float> bias;  // [tiles][gates][16], as w's columns
};

struct Lstm : Recurrent {
  static constexpr int kGates = 4;
  static constexpr bool kHasCell = true;
  bool projected = false;
  Matrix p, po, v;
  Aligned<float> diagonal;  // [3][H padded to 16]
};

// The columns of n are a matrix for themselves where the reset gate comes before their product, since
// they then see other rows.
struct Gru : Recurrent {
  static constexpr int kGates = 3;
  static constexpr bool kHasCell = false;
  Matrix rn;                      // n, where the reset gate comes before
  Aligned<float> recurrent_bias;  // [H padded to 16]: rb
};

struct Rnn : Recurrent {
  static constexpr int kGates = 1;
  static constexpr bool kHasCell = false;
};

// int8 or int4.
struct Linear {
  Matrix w;
  Aligned<float> bias;  // padded to w's columns
};

// The lengths of the rows of a batch, read where the caller has them: int64 or int32, at any address; none by default.
class Lengths {
 public:
  Lengths() = default;
  Lengths(std::nullptr_t) {}
  Lengths(const int64_t* values) : values_(values) {}
  Lengths(const int32_t* values) : values_(values), narrow_(true) {}

  bool exist() const { return values_ != nullptr; }
  int64_t operator[](int row) const { return narrow_ ? read<int32_t>(row) : read<int64_t>(row); }

 private:
  template <typename T>
  T read(int row) const {
    T length;
    std::memcpy(&length, static_cast<const char*>(values_) + row * sizeof(T), sizeof(T));
    return length;
  }

  const void* values_ = nullptr;
  bool narrow_ = false;
};

// One call, dense float32: x [T, B, I], h [B, P], c [B, H], perhaps lengths [B]; y [T, B, P], h_out, c_out. GRU and RNN
// have no c. An h or c that is null is zeros. A step of y follows the one before `directions` times B · P floats later:
// the directions of a layer stand side by side. A backward call takes x from each row's last step to its first, and y's
// steps stand where x's do.
struct Call {
  int steps, batch;
  const float *x, *h, *c;
  Lengths lengths;
  float *y, *h_out, *c_out;
  int directions = 1;
  bool backward = false;
};

// Runs the rows first..last of the batch, which are independent of all others.
template <typename Layer>
using RunRows = void (*)(const Layer&, const Call&, int first, int last);
using RunLinear = void (*)(const Linear&, const float* x, float* y, int64_t rows);

// int8 products where the processor multiplies blocks of a matrix: begin(rows, groups) for up to 16 rows, then a
// product for each tile of the matrix, then end(). Between begin and end a thread holds registers that each switch to
// another thread must save.
struct BlockProducts {
  static constexpr int kMostRows = 16;

  void (*begin)(int rows, int groups);
  // sums[row][vector][16]: a, int8 rows `stride` bytes apart, times one tile w of unsigned bytes.
  void (*product)(int vectors, const int8_t* a, size_t stride, const uint8_t* w, int groups, int32_t* sums);
  void (*end)();
};

struct InstructionSet {
  const char* name;
  int weight_offset;         // what pack adds to int8 weights; where it is not 0, sparse products shift activations
  RunRows<Lstm> lstm[4][3];  // [Precision of r][Peephole]
  RunRows<Gru> gru[4][2];    // [Precision of r][whether the reset gate comes after the product]
  RunRows<Rnn> rnn[4][2];    // [Precision of r][whether the activation is relu]
  RunLinear linear[4];       // [Precision]
  const BlockProducts* blocks = nullptr;
};

// The best one that this processor has, or the one that the environment variable LSTM_EDGE_ISA names.
const InstructionSet& instruction_set();

extern const InstructionSet kPortable;
#if defined(__x86_64__)
extern const InstructionSet kAvx2, kAvxVnni, kAvx512Vnni;
extern const BlockProducts kAmxProducts;
#elif defined(__aarch64__)
extern const InstructionSet kNeon, kNeonDot;
#endif

}  // namespace lstm_edge
