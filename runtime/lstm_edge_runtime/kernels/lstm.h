// What a kernel is made of, and the functions that each instruction set provides for it.
#pragma once

#include "matrix.h"

namespace lstm_edge {

enum class Peephole { kNone, kDiagonal, kFull };

// One LSTM operator with its packed weights; never changed after it was made.
struct Lstm {
  Precision precision = Precision::kInt8;
  Peephole peephole = Peephole::kNone;
  bool projected = false, ragged = false;
  int inputs = 0, hidden = 0, outputs = 0;  // I, H, P (= H without projection)
  Matrix w, r, p, po, v;
  Aligned<float> bias;      // [tiles][4][16], as w's columns
  Aligned<float> diagonal;  // [3][H padded to 16]
};

struct Linear {
  Precision precision = Precision::kInt8;
  Matrix w;
  Aligned<float> bias;  // padded to w's columns
};

// One GRU operator with its packed weights, int8 or int4. The columns of n stand apart where the reset gate comes before
// their product, since they then see other rows.
struct Gru {
  Precision precision = Precision::kInt8;
  bool reset_after = false, ragged = false;
  int inputs = 0, hidden = 0;
  Matrix w;                       // gates r z n
  Matrix r;                       // gates r z n, or r z
  Matrix rn;                      // n, where the reset gate comes before
  Aligned<float> bias;            // [tiles][3][16], as w's columns
  Aligned<float> recurrent_bias;  // [H padded to 16]: rb
};

// One call, dense float32: x [T, B, I], h [B, P], c [B, H], lengths [B] or null; y [T, B, P], h_out, c_out.
struct LstmCall {
  int steps, batch;
  const float *x, *h, *c;
  const int64_t* lengths;
  float *y, *h_out, *c_out;
};

// The same for a GRU: h and y have H features.
struct GruCall {
  int steps, batch;
  const float *x, *h;
  const int64_t* lengths;
  float *y, *h_out;
};

// The functions of one instruction set. Rows first..last of the batch are independent of all others.
struct InstructionSet {
  const char* name;
  int weight_offset;  // what pack_int8 adds
  void (*lstm)(const Lstm&, const LstmCall&, int first, int last);
  void (*gru)(const Gru&, const GruCall&, int first, int last);
  void (*linear)(const Linear&, const float* x, float* y, int64_t rows);
};

// The best one that this processor has, or the one that the environment variable LSTM_EDGE_ISA names.
const InstructionSet& instruction_set();

extern const InstructionSet kPortable;
#if defined(__x86_64__)
extern const InstructionSet kAvx2, kAvxVnni, kAvx512Vnni;
#elif defined(__aarch64__)
extern const InstructionSet kNeon, kNeonDot;
#endif

// Memory for the intermediate values of one call: one block a thread, which grows and is never given back while the
// thread lives, so that a step allocates nothing.
class Scratch {
 public:
  explicit Scratch(size_t bytes);
  template <typename T>
  T* take(size_t count) {
    T* result = reinterpret_cast<T*>(next_);
    next_ += (count * sizeof(T) + 63) / 64 * 64;
    return result;
  }

 private:
  char* next_;
};

inline size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace lstm_edge
