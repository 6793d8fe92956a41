// Dot products with NEON's 128-bit vectors, shared by plain NEON and NEON with the dot product, which differ in
// `Multiply::add(sums, w, a)`: sums [4] += the products of 16 bytes with 16 bytes, four by four.

template <class Multiply>
struct Dot128 {
  static constexpr int kWeightOffset = 0;

  static int8x16_t broadcast(const int8_t* a) {
    int32_t four;
    std::memcpy(&four, a, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }

  // One 16-column vector, up to four rows at a time: each weight is loaded once for all of them.
  template <int NV, int M>
  static void dot8(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    for (int m = 0; m < M; m += 4) {
      switch (M - m < 4 ? M - m : 4) {
        case 1: rows8<NV, 1>(a + m, w, groups, start + m, sums + m * NV * 16); break;
        case 2: rows8<NV, 2>(a + m, w, groups, start + m, sums + m * NV * 16); break;
        case 3: rows8<NV, 3>(a + m, w, groups, start + m, sums + m * NV * 16); break;
        default: rows8<NV, 4>(a + m, w, groups, start + m, sums + m * NV * 16); break;
      }
    }
  }

  template <int NV, int R>
  static void rows8(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    for (int v = 0; v < NV; ++v) {
      int32x4_t s[R][4];
      for (int m = 0; m < R; ++m) {
        for (int i = 0; i < 4; ++i) s[m][i] = vdupq_n_s32(start[m]);
      }
      const uint8_t* at = w + v * 64;
      for (int g = 0; g < groups; ++g, at += NV * 64) {
        int8x16_t weights[4];
        for (int i = 0; i < 4; ++i) weights[i] = vreinterpretq_s8_u8(vld1q_u8(at + 16 * i));
        for (int m = 0; m < R; ++m) {
          const int8x16_t am = broadcast(a[m] + 4 * g);
          for (int i = 0; i < 4; ++i) s[m][i] = Multiply::add(s[m][i], weights[i], am);
        }
      }
      for (int m = 0; m < R; ++m) {
        for (int i = 0; i < 4; ++i) vst1q_s32(sums + (m * NV + v) * 16 + 4 * i, s[m][i]);
      }
    }
  }

  template <int NV, int M>
  static void dot4(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    for (int m = 0; m < M; ++m) {
      for (int v = 0; v < NV; ++v) {
        int32x4_t s[4];
        for (int i = 0; i < 4; ++i) s[i] = vdupq_n_s32(start[m]);
        const uint8_t* at = w + v * 64;
        for (int g = 0; g < groups; ++g, at += NV * 64) {
          const int8x16_t a0 = broadcast(a[m] + 8 * g), a1 = broadcast(a[m] + 8 * g + 4);
          for (int i = 0; i < 4; ++i) {
            const uint8x16_t pairs = vld1q_u8(at + 16 * i);
            s[i] = Multiply::add(s[i], vreinterpretq_s8_u8(vandq_u8(pairs, vdupq_n_u8(15))), a0);
            s[i] = Multiply::add(s[i], vreinterpretq_s8_u8(vshrq_n_u8(pairs, 4)), a1);
          }
        }
        for (int i = 0; i < 4; ++i) vst1q_s32(sums + (m * NV + v) * 16 + 4 * i, s[i]);
      }
    }
  }

  template <int M>
  static void sparse(const int8_t* const* a, const uint8_t* w, const uint16_t* groups_of, int count,
                     const int32_t* start, int32_t* sums, size_t stride) {
    for (int m = 0; m < M; m += 4) {
      switch (M - m < 4 ? M - m : 4) {
        case 1: sparse_rows<1>(a + m, w, groups_of, count, start, sums + m * stride, stride); break;
        case 2: sparse_rows<2>(a + m, w, groups_of, count, start, sums + m * stride, stride); break;
        case 3: sparse_rows<3>(a + m, w, groups_of, count, start, sums + m * stride, stride); break;
        default: sparse_rows<4>(a + m, w, groups_of, count, start, sums + m * stride, stride); break;
      }
    }
  }

  template <int R>
  static void sparse_rows(const int8_t* const* a, const uint8_t* w, const uint16_t* groups_of, int count,
                          const int32_t* start, int32_t* sums, size_t stride) {
    int32x4_t s[R][4];
    for (int m = 0; m < R; ++m) {
      for (int i = 0; i < 4; ++i) s[m][i] = vld1q_s32(start + 4 * i);
    }
    for (int b = 0; b < count; ++b, w += 64) {
      int8x16_t weights[4];
      for (int i = 0; i < 4; ++i) weights[i] = vreinterpretq_s8_u8(vld1q_u8(w + 16 * i));
      for (int m = 0; m < R; ++m) {
        const int8x16_t am = broadcast(a[m] + 4 * size_t(groups_of[b]));
        for (int i = 0; i < 4; ++i) s[m][i] = Multiply::add(s[m][i], weights[i], am);
      }
    }
    for (int m = 0; m < R; ++m) {
      for (int i = 0; i < 4; ++i) vst1q_s32(sums + m * stride + 4 * i, s[m][i]);
    }
  }

  template <int NV, int M>
  static void dotf(const float* const* a, const float* w, int k, float* sums) {
    for (int m = 0; m < M; ++m) {
      for (int v = 0; v < NV; ++v) {
        float32x4_t s[4];
        for (int i = 0; i < 4; ++i) s[i] = vdupq_n_f32(0.0f);
        const float* at = w + v * 16;
        for (int j = 0; j < k; ++j, at += NV * 16) {
          for (int i = 0; i < 4; ++i) s[i] = vfmaq_n_f32(s[i], vld1q_f32(at + 4 * i), a[m][j]);
        }
        for (int i = 0; i < 4; ++i) vst1q_f32(sums + (m * NV + v) * 16 + 4 * i, s[i]);
      }
    }
  }
};
