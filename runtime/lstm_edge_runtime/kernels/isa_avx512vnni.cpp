// x86-64 with AVX-512 VNNI: 64 products of a byte with a byte in one instruction.
#include <immintrin.h>

#include "layers.h"

#define VECTOR_BYTES 64

namespace lstm_edge {
namespace avx512vnni {

#include "arithmetic.h"

// How far ahead of the products int8 weights are fetched. Against none, 8 KiB took about a
// tenth off a step at hidden 1024, and a fifth off one with a full peephole, whose 23 MB come from memory. Four-bit and
// float32 weights are read no faster for it (float32 at hidden 512 takes 15 % longer), so they are left to the
// processor.
constexpr int kAhead = 8192;

struct Isa {
  static constexpr int kWeightOffset = 128;  // vpdpbusd multiplies unsigned (weights) with signed (activations) bytes
  static constexpr bool kBlocks = true;

  static __m512i broadcast(const int8_t* a) {
    int32_t four;
    std::memcpy(&four, a, 4);
    return _mm512_set1_epi32(four);
  }

  // One row has too few independent sums to fill the pipeline, so it takes two groups at a time; more rows share each
  // weight that was loaded. All loops over M and NV are unrolled: only then do the sums stay in registers.
  template <int NV, int M>
  static void dot8(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    constexpr int kParts = M == 1 ? 2 : 1;
    __m512i s[M * kParts][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M * kParts; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) s[m][v] = _mm512_set1_epi32(m < M ? start[m] : 0);
    }
    int g = 0;
    if constexpr (M == 1) {
      for (; g + 2 <= groups; g += 2, w += 2 * NV * 64) {
        const __m512i a0 = broadcast(a[0] + 4 * g), a1 = broadcast(a[0] + 4 * g + 4);
#pragma GCC unroll 16
        for (int v = 0; v < 2 * NV; ++v) {
          _mm_prefetch(reinterpret_cast<const char*>(w + v * 64 + kAhead), _MM_HINT_T0);
          __m512i& sum = s[v / NV * (kParts - 1)][v % NV];
          sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(w + v * 64), v < NV ? a0 : a1);
        }
      }
    }
    for (; g < groups; ++g, w += NV * 64) {
      __m512i weights[NV];
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) weights[v] = _mm512_load_si512(w + v * 64);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const __m512i am = broadcast(a[m] + 4 * g);
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) s[m][v] = _mm512_dpbusd_epi32(s[m][v], weights[v], am);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const __m512i sum = kParts == 1 ? s[m][v] : _mm512_add_epi32(s[m][v], s[m + kParts - 1][v]);
        _mm512_store_si512(sums + (m * NV + v) * 16, sum);
      }
    }
  }

  // Up to two rows sum the high nibbles apart, where they stand (16 times too large, exactly), and shift once at the
  // end; more rows have no registers for that and shift the weights.
  template <int NV, int M>
  static void dot4(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    constexpr int kParts = M <= 2 ? 2 : 1;
    __m512i s[M * kParts][NV];
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(char(0xf0));
#pragma GCC unroll 16
    for (int m = 0; m < M * kParts; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) s[m][v] = _mm512_set1_epi32(m < M ? start[m] : 0);
    }
    for (int g = 0; g < groups; ++g, w += NV * 64) {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const __m512i pairs = _mm512_load_si512(w + v * 64);
        const __m512i first = _mm512_and_si512(pairs, low);
        const __m512i second =
            kParts == 2 ? _mm512_and_si512(pairs, high) : _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          s[m][v] = _mm512_dpbusd_epi32(s[m][v], first, broadcast(a[m] + 8 * g));
          __m512i& other = s[m + M * (kParts - 1)][v];
          other = _mm512_dpbusd_epi32(other, second, broadcast(a[m] + 8 * g + 4));
        }
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const __m512i sum =
            kParts == 1 ? s[m][v] : _mm512_add_epi32(s[m][v], _mm512_srai_epi32(s[m + M * (kParts - 1)][v], 4));
        _mm512_store_si512(sums + (m * NV + v) * 16, sum);
      }
    }
  }

  // A block is one vector of weights and four activations. Blocks are independent, so few rows take several at a time,
  // each with sums of its own. Activations are q + 128 and weights are signed, which is why `start` needs no row.
  template <int M>
  static void sparse(const int8_t* const* a, const uint8_t* w, const uint16_t* groups_of, int count,
                     const int32_t* start, int32_t* sums, size_t stride) {
    constexpr int kParts = M == 1 ? 4 : M <= 4 ? 2 : 1;
    __m512i s[M][kParts];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      s[m][0] = _mm512_load_si512(start);
#pragma GCC unroll 16
      for (int p = 1; p < kParts; ++p) s[m][p] = _mm512_setzero_si512();
    }
    int i = 0;
    for (; i + kParts <= count; i += kParts, w += kParts * 64) {
#pragma GCC unroll 16
      for (int p = 0; p < kParts; ++p) {
        _mm_prefetch(reinterpret_cast<const char*>(w + p * 64 + kAhead), _MM_HINT_T0);
        const __m512i weights = _mm512_load_si512(w + p * 64);
        const size_t at = 4 * size_t(groups_of[i + p]);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) s[m][p] = _mm512_dpbusd_epi32(s[m][p], broadcast(a[m] + at), weights);
      }
    }
    for (; i < count; ++i, w += 64) {
      const __m512i weights = _mm512_load_si512(w);
      const size_t at = 4 * size_t(groups_of[i]);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) s[m][0] = _mm512_dpbusd_epi32(s[m][0], broadcast(a[m] + at), weights);
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      __m512i sum = s[m][0];
#pragma GCC unroll 16
      for (int p = 1; p < kParts; ++p) sum = _mm512_add_epi32(sum, s[m][p]);
      _mm512_store_si512(sums + m * stride, sum);
    }
  }

  // Two sums for each row and column, of the first and the second half of k: the same bits alone and in a batch. One
  // row alone reads both halves of the weights at once, which took a fifth off a step whose weights come from memory
  // (58 MB) and nothing off one whose weights fit the cache.
  template <int NV, int M>
  static void dotf(const float* const* a, const float* w, int k, float* sums) {
    const int half = first_half(k);
    if constexpr (M == 1) {
      halves<NV>(a[0], w, k, half, sums);
    } else {
      part<NV, M, false>(a, w, 0, half, sums);
      part<NV, M, true>(a, w, half, k, sums);
    }
  }

  // Writes the sums of the products from first to last, or adds them to what is there.
  template <int NV, int M, bool Add>
  static void part(const float* const* a, const float* w, int first, int last, float* sums) {
    w += size_t(first) * NV * 16;
    __m512 s[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) s[m][v] = _mm512_setzero_ps();
    }
    for (int i = first; i < last; ++i, w += NV * 16) {
      __m512 weights[NV];
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) weights[v] = _mm512_load_ps(w + v * 16);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const __m512 am = _mm512_set1_ps(a[m][i]);
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) s[m][v] = _mm512_fmadd_ps(weights[v], am, s[m][v]);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        float* sum = sums + (m * NV + v) * 16;
        _mm512_store_ps(sum, Add ? _mm512_add_ps(_mm512_load_ps(sum), s[m][v]) : s[m][v]);
      }
    }
  }

  template <int NV>
  static void halves(const float* a, const float* w, int k, int half, float* sums) {
    const float* upper = w + size_t(half) * NV * 16;
    __m512 s[2][NV];
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) s[0][v] = s[1][v] = _mm512_setzero_ps();
    for (int i = 0; i < k - half; ++i, w += NV * 16, upper += NV * 16) {
      const __m512 first = _mm512_set1_ps(a[i]), second = _mm512_set1_ps(a[half + i]);
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        s[0][v] = _mm512_fmadd_ps(_mm512_load_ps(w + v * 16), first, s[0][v]);
        s[1][v] = _mm512_fmadd_ps(_mm512_load_ps(upper + v * 16), second, s[1][v]);
      }
    }
    if (k % 2 == 1) {
      const __m512 last = _mm512_set1_ps(a[half - 1]);
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) s[0][v] = _mm512_fmadd_ps(_mm512_load_ps(w + v * 16), last, s[0][v]);
    }
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) _mm512_store_ps(sums + v * 16, _mm512_add_ps(s[0][v], s[1][v]));
  }
};

#include "functions.h"

}  // namespace avx512vnni

constexpr InstructionSet kAvx512Vnni = avx512vnni::functions("avx512vnni");

}  // namespace lstm_edge
