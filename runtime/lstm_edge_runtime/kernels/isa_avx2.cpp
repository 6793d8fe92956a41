// x86-64 with AVX2 and FMA.
#include <immintrin.h>

#include "layers.h"

#define VECTOR_BYTES 32

namespace lstm_edge {
namespace avx2 {

#include "arithmetic.h"
#include "dot256.h"

struct Multiply {
  static constexpr int weight_offset = 0;

  // vpmaddubsw adds two products in 16 bits, which saturates for unsigned weights; with the activation's magnitude as
  // the unsigned side they are at most 2 * 127 * 127 = 32,258, which fits.
  static __m256i int8(__m256i sums, __m256i w, __m256i a) {
    return add(sums, _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(w, a)));
  }
  static __m256i sparse(__m256i sums, __m256i w, __m256i a) { return int8(sums, w, a); }
  // Nibbles are unsigned and small: at most 2 * 15 * 127.
  static __m256i nibbles(__m256i sums, __m256i w, __m256i a) { return add(sums, _mm256_maddubs_epi16(w, a)); }

  static __m256i add(__m256i sums, __m256i pairs) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

using Isa = Dot256<Multiply>;

#include "functions.h"

}  // namespace avx2

constexpr InstructionSet kAvx2 = avx2::functions("avx2");

}  // namespace lstm_edge
