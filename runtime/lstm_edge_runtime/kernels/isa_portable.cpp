// Any processor: plain C++ that a compiler may vectorize as it sees fit; the bits do not depend on that.
#include "layers.h"

#define VECTOR_BYTES 16

namespace lstm_edge {
namespace portable {

#include "arithmetic.h"

struct Isa {
  static constexpr int kWeightOffset = 0;
  static constexpr bool kBlocks = false;

  template <int NV, int M>
  static void dot8(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    for (int i = 0; i < M * NV * kLanes; ++i) sums[i] = start[i / (NV * kLanes)];
    for (int g = 0; g < groups; ++g, w += NV * kLanes * 4) {
      for (int m = 0; m < M; ++m) {
        for (int i = 0; i < NV * kLanes; ++i) {
          for (int j = 0; j < 4; ++j) sums[m * NV * kLanes + i] += int8_t(w[i * 4 + j]) * a[m][g * 4 + j];
        }
      }
    }
  }

  template <int NV, int M>
  static void dot4(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    for (int i = 0; i < M * NV * kLanes; ++i) sums[i] = start[i / (NV * kLanes)];
    for (int g = 0; g < groups; ++g, w += NV * kLanes * 4) {
      for (int m = 0; m < M; ++m) {
        for (int i = 0; i < NV * kLanes; ++i) {
          for (int j = 0; j < 4; ++j) {
            sums[m * NV * kLanes + i] +=
                (w[i * 4 + j] & 15) * a[m][g * 8 + j] + (w[i * 4 + j] >> 4) * a[m][g * 8 + 4 + j];
          }
        }
      }
    }
  }

  template <int M>
  static void sparse(const int8_t* const* a, const uint8_t* w, const uint16_t* groups_of, int count,
                     const int32_t* start, int32_t* sums, size_t stride) {
    for (int m = 0; m < M; ++m) std::memcpy(sums + m * stride, start, sizeof(int32_t) * kLanes);
    for (int b = 0; b < count; ++b, w += kBlockBytes) {
      for (int m = 0; m < M; ++m) {
        for (int i = 0; i < kBlockBytes; ++i) {
          sums[m * stride + i / 4] += int8_t(w[i]) * a[m][4 * size_t(groups_of[b]) + i % 4];
        }
      }
    }
  }

  template <int NV, int M>
  static void dotf(const float* const* a, const float* w, int k, float* sums) {
    const int half = first_half(k);
    float upper[M * NV * kLanes];
    partf<NV, M>(a, w, 0, half, sums);
    partf<NV, M>(a, w, half, k, upper);
    for (int i = 0; i < M * NV * kLanes; ++i) sums[i] += upper[i];
  }

  template <int NV, int M>
  static void partf(const float* const* a, const float* w, int first, int last, float* sums) {
    w += size_t(first) * NV * kLanes;
    for (int i = 0; i < M * NV * kLanes; ++i) sums[i] = 0.0f;
    for (int i = first; i < last; ++i, w += NV * kLanes) {
      for (int m = 0; m < M; ++m) {
        for (int v = 0; v < NV * kLanes; ++v) sums[m * NV * kLanes + v] += w[v] * a[m][i];
      }
    }
  }
};

#include "functions.h"

}  // namespace portable

constexpr InstructionSet kPortable = portable::functions("portable");

}  // namespace lstm_edge
