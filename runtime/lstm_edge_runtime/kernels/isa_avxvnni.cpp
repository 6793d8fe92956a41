// x86-64 with AVX-VNNI: the byte products of AVX-512 VNNI on 256-bit vectors, for processors without AVX-512.
#include <immintrin.h>

#include "layers.h"

#define VECTOR_BYTES 32

namespace lstm_edge {
namespace avxvnni {

#include "arithmetic.h"
#include "dot256.h"

struct Multiply {
  static constexpr int weight_offset = 128;  // vpdpbusd multiplies unsigned (weights) with signed (activations) bytes

  static __m256i int8(__m256i sums, __m256i w, __m256i a) { return _mm256_dpbusd_avx_epi32(sums, w, a); }
  static __m256i sparse(__m256i sums, __m256i w, __m256i a) { return _mm256_dpbusd_avx_epi32(sums, a, w); }
  static __m256i nibbles(__m256i sums, __m256i w, __m256i a) { return _mm256_dpbusd_avx_epi32(sums, w, a); }
};

using Isa = Dot256<Multiply>;

#include "functions.h"

}  // namespace avxvnni

constexpr InstructionSet kAvxVnni = avxvnni::functions("avxvnni");

}  // namespace lstm_edge
