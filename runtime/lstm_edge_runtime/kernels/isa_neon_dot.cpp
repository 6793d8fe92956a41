// 64-bit ARM with the dot product instructions (Cortex-A76, Neoverse: Raspberry Pi 5 and newer).
#include <arm_neon.h>

#include "layers.h"

#define VECTOR_BYTES 16

namespace lstm_edge {
namespace neon_dot {

#include "arithmetic.h"
#include "dot128.h"

struct Sums {
  static constexpr int most8 = 16, most4 = 16, most4_one_row = 8;

  // Four times G numbers of a row, as they lie in memory: the dot product takes four of them for all lanes.
  template <int G>
  struct Activations {
    int8x8_t a[(G + 1) / 2];

    void load(const int8_t* row) {
      if constexpr (G == 1) {
        a[0] = vreinterpret_s8_s32(vdup_n_s32(four(row)));
      } else {
#pragma GCC unroll 2
        for (int j = 0; j < G / 2; ++j) a[j] = vld1_s8(row + 8 * j);
      }
    }
    void pick(const int8_t* row, const uint16_t* groups) {
      static_assert(G <= 2, "one register");
      int32x2_t numbers = vdup_n_s32(four(row + 4 * size_t(groups[0])));
      if constexpr (G == 2) numbers = vset_lane_s32(four(row + 4 * size_t(groups[1])), numbers, 1);
      a[0] = vreinterpret_s8_s32(numbers);
    }
    static int32_t four(const int8_t* numbers) {
      int32_t value;
      std::memcpy(&value, numbers, 4);
      return value;
    }
  };

  int32x4_t s;

  void begin(int32x4_t start) { s = start; }

  template <int G>
  void add(const int8x16_t* w, const Activations<G>& row) {
    s = vdotq_lane_s32(s, w[0], row.a[0], 0);
    if constexpr (G > 1) s = vdotq_lane_s32(s, w[1], row.a[0], 1);
    if constexpr (G > 2) s = vdotq_lane_s32(s, w[2], row.a[1], 0);
    if constexpr (G > 2) s = vdotq_lane_s32(s, w[3], row.a[1], 1);
  }

  int32x4_t total(int32x4_t) const { return s; }
};

using Isa = Dot128<Sums>;

#include "functions.h"

}  // namespace neon_dot

constexpr InstructionSet kNeonDot = neon_dot::functions("neon-dot");

}  // namespace lstm_edge
