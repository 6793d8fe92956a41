// Dot products with 256-bit vectors, shared by AVX2 and AVX-VNNI, which differ in how four bytes are multiplied and
// added: `Multiply` has `weight_offset`, `int8(sums, w, a)`, `nibbles(sums, w, a)` and `sparse(sums, w, a)` (signed
// weights, and activations that are shifted where weight_offset is not 0) for 32 bytes each.

template <class Multiply>
struct Dot256 {
  static constexpr int kWeightOffset = Multiply::weight_offset;
  static constexpr bool kBlocks = false;

  static __m256i broadcast(const int8_t* a) {
    int32_t four;
    std::memcpy(&four, a, 4);
    return _mm256_set1_epi32(four);
  }

  // Two 16-column vectors at a time for up to two rows: 8 sums and what they need fit into 16 registers.
  template <int NV, int M>
  static void dot8(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    for (int m = 0; m < M; m += 2) {
      for (int v = 0; v < NV; v += 2) {
        if (m + 1 < M && v + 1 < NV) part8<NV, 2, 2>(a, w, groups, start, sums, m, v);
        else if (m + 1 < M) part8<NV, 2, 1>(a, w, groups, start, sums, m, v);
        else if (v + 1 < NV) part8<NV, 1, 2>(a, w, groups, start, sums, m, v);
        else part8<NV, 1, 1>(a, w, groups, start, sums, m, v);
      }
    }
  }

  template <int NV, int R, int C>
  static void part8(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums, int m0,
                    int v0) {
    __m256i s[R][2 * C];
    for (int m = 0; m < R; ++m) {
      for (int i = 0; i < 2 * C; ++i) s[m][i] = _mm256_set1_epi32(start[m0 + m]);
    }
    w += v0 * 64;
    for (int g = 0; g < groups; ++g, w += NV * 64) {
      __m256i am[R];
      for (int m = 0; m < R; ++m) am[m] = broadcast(a[m0 + m] + 4 * g);
      for (int i = 0; i < 2 * C; ++i) {
        const __m256i weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32 * i));
        for (int m = 0; m < R; ++m) s[m][i] = Multiply::int8(s[m][i], weights, am[m]);
      }
    }
    write<NV, R, C>(s, sums, m0, v0);
  }

  template <int NV, int M>
  static void dot4(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    for (int m = 0; m < M; ++m) {
      for (int v = 0; v < NV; ++v) part4<NV>(a, w, groups, start, sums, m, v);
    }
  }

  template <int NV>
  static void part4(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums, int m,
                    int v) {
    __m256i s[1][2];
    const __m256i low = _mm256_set1_epi8(15);
    for (int i = 0; i < 2; ++i) s[0][i] = _mm256_set1_epi32(start[m]);
    w += v * 64;
    for (int g = 0; g < groups; ++g, w += NV * 64) {
      const __m256i a0 = broadcast(a[m] + 8 * g), a1 = broadcast(a[m] + 8 * g + 4);
      for (int i = 0; i < 2; ++i) {
        const __m256i pairs = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32 * i));
        s[0][i] = Multiply::nibbles(s[0][i], _mm256_and_si256(pairs, low), a0);
        s[0][i] = Multiply::nibbles(s[0][i], _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low), a1);
      }
    }
    write<NV, 1, 1>(s, sums, m, v);
  }

  template <int NV, int R, int C>
  static void write(const __m256i (&s)[R][2 * C], int32_t* sums, int m0, int v0) {
    for (int m = 0; m < R; ++m) {
      for (int i = 0; i < 2 * C; ++i) {
        int32_t* target = sums + ((m0 + m) * NV + v0) * 16 + 8 * i;
        _mm256_store_si256(reinterpret_cast<__m256i*>(target), s[m][i]);
      }
    }
  }

  template <int M>
  static void sparse(const int8_t* const* a, const uint8_t* w, const uint16_t* groups_of, int count,
                     const int32_t* start, int32_t* sums, size_t stride) {
    __m256i s[M][2];
    for (int m = 0; m < M; ++m) {
      for (int i = 0; i < 2; ++i) s[m][i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(start + 8 * i));
    }
    for (int b = 0; b < count; ++b, w += 64) {
      const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
      const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32));
      for (int m = 0; m < M; ++m) {
        const __m256i am = broadcast(a[m] + 4 * size_t(groups_of[b]));
        s[m][0] = Multiply::sparse(s[m][0], low, am);
        s[m][1] = Multiply::sparse(s[m][1], high, am);
      }
    }
    for (int m = 0; m < M; ++m) {
      for (int i = 0; i < 2; ++i) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(sums + m * stride + 8 * i), s[m][i]);
      }
    }
  }

  // The sums of the two halves of k one after the other: the same bits in any batch.
  template <int NV, int M>
  static void dotf(const float* const* a, const float* w, int k, float* sums) {
    const int half = first_half(k);
    for (int m = 0; m < M; ++m) {
      partf<NV, false>(a[m], w, 0, half, sums + m * NV * 16);
      partf<NV, true>(a[m], w, half, k, sums + m * NV * 16);
    }
  }

  // Writes the sums of the products from first to last, or adds them to what is there.
  template <int NV, bool Add>
  static void partf(const float* a, const float* w, int first, int last, float* sums) {
    w += size_t(first) * NV * 16;
    __m256 s[2 * NV];
    for (int i = 0; i < 2 * NV; ++i) s[i] = _mm256_setzero_ps();
    for (int j = first; j < last; ++j, w += NV * 16) {
      const __m256 am = _mm256_set1_ps(a[j]);
      for (int i = 0; i < 2 * NV; ++i) s[i] = _mm256_fmadd_ps(_mm256_load_ps(w + 8 * i), am, s[i]);
    }
    for (int i = 0; i < 2 * NV; ++i) {
      _mm256_store_ps(sums + 8 * i, Add ? _mm256_add_ps(_mm256_load_ps(sums + 8 * i), s[i]) : s[i]);
    }
  }
};
