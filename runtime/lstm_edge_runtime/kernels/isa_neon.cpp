// 64-bit ARM without the dot product instructions (Cortex-A53, A72: Raspberry Pi 3 and 4).
#include <arm_neon.h>

#include "layers.h"

#define VECTOR_BYTES 16

namespace lstm_edge {
namespace neon {

#include "arithmetic.h"
#include "dot128.h"

// Of each column two sums of half of the products, which total() adds. A product of an int8 weight is at most
// 127 * 127, so 16 bits hold the sum of two; that of a nibble is at most 15 * 127. More than 8 sums would leave too few
// registers for what the compiler loads ahead.
struct Sums {
  static constexpr int most8 = 4, most4 = 4, most4_one_row = 4;

  // Four times G numbers of a row, each four in every lane. The compiler must not see that both halves are equal: it
  // would multiply copies of the upper halves of the weights instead of the upper halves.
  template <int G>
  struct Activations {
    int8x16_t a[G];

    void load(const int8_t* row) {
#pragma GCC unroll 4
      for (int j = 0; j < G; ++j) a[j] = everywhere(row + 4 * j);
    }
    void pick(const int8_t* row, const uint16_t* groups) {
#pragma GCC unroll 4
      for (int j = 0; j < G; ++j) a[j] = everywhere(row + 4 * size_t(groups[j]));
    }
    static int8x16_t everywhere(const int8_t* numbers) {
      int32_t four;
      std::memcpy(&four, numbers, 4);
      int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(four));
      asm("" : "+w"(all));
      return all;
    }
  };

  int32x4_t s[2];

  void begin(int32x4_t) { s[0] = s[1] = vdupq_n_s32(0); }

  template <int G>
  void add(const int8x16_t* w, const Activations<G>& row) {
    const int8x16_t* a = row.a;
    int16x8_t low = vmull_s8(vget_low_s8(w[0]), vget_low_s8(a[0])), high = vmull_high_s8(w[0], a[0]);
#pragma GCC unroll 4
    for (int j = 1; j < G; ++j) {
      low = vmlal_s8(low, vget_low_s8(w[j]), vget_low_s8(a[j]));
      high = vmlal_high_s8(high, w[j], a[j]);
    }
    s[0] = vpadalq_s16(s[0], low);
    s[1] = vpadalq_s16(s[1], high);
  }

  int32x4_t total(int32x4_t start) const { return vaddq_s32(vpaddq_s32(s[0], s[1]), start); }
};

using Isa = Dot128<Sums>;

#include "functions.h"

}  // namespace neon

constexpr InstructionSet kNeon = neon::functions("neon");

}  // namespace lstm_edge
