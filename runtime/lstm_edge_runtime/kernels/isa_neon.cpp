// 64-bit ARM without the dot product instructions (Cortex-A53, A72: Raspberry Pi 3 and 4).
#include <arm_neon.h>

#include "layers.h"

#define VECTOR_BYTES 16

namespace lstm_edge {
namespace neon {

#include "arithmetic.h"
#include "dot128.h"

struct Multiply {
  // Products of two bytes in 16 bits, added pairwise into 32 bits; no sum can overflow before that.
  static int32x4_t add(int32x4_t sums, int8x16_t w, int8x16_t a) {
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(a)));
    const int32x4_t high = vpaddlq_s16(vmull_high_s8(w, a));
    return vaddq_s32(sums, vpaddq_s32(low, high));
  }
};

using Isa = Dot128<Multiply>;

#include "functions.h"

}  // namespace neon

constexpr InstructionSet kNeon = neon::functions("neon");

}  // namespace lstm_edge
