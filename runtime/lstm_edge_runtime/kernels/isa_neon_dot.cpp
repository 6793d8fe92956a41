// 64-bit ARM with the dot product instructions (Cortex-A76, Neoverse: Raspberry Pi 5 and newer).
#include <arm_neon.h>

#include "layers.h"

#define VECTOR_BYTES 16

namespace lstm_edge {
namespace neon_dot {

#include "arithmetic.h"
#include "dot128.h"

struct Multiply {
  static int32x4_t add(int32x4_t sums, int8x16_t w, int8x16_t a) { return vdotq_s32(sums, w, a); }
};

using Isa = Dot128<Multiply>;

#include "functions.h"

}  // namespace neon_dot

constexpr InstructionSet kNeonDot = neon_dot::functions("neon-dot");

}  // namespace lstm_edge
