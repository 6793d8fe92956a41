// Dot products with NEON's 128-bit vectors, shared by plain NEON and NEON with the dot product, which differ in
// `Sums`, the sums of a quad (four columns, of each of which 16 bytes hold four k) for one row:
//   template <int G> struct Activations;             4 * G numbers of a row; load(row), or pick(row, groups) for G
//                                                    groups of four that do not lie side by side
//   void begin(int32x4_t start);
//   void add(const int8x16_t* w, const Activations<G>& a);   G quads of weights times the numbers of the row. A weight
//                                                            times a number is below 2^15 / G in magnitude.
//   int32x4_t total(int32x4_t start) const;          what begin(start) and all calls of add gave
//   static constexpr int most8, most4, most4_one_row;        sums that are computed at once; most4: of int4
//
// The sums of several rows and quads are computed at once: enough of them that none waits for its last addition, and
// few enough that the compiler keeps them, the weights and the numbers of the rows in 32 registers (`make kernel-model`
// shows both). Up to four rows share each load of a weight.

template <class Sums>
struct Dot128 {
  static constexpr int kWeightOffset = 0;
  static constexpr bool kBlocks = false;

  template <int N>
  struct Count {
    static constexpr int value = N;
  };

  // Calls part(rows, quads, first row, first quad) for parts of at most `OneRow` or `Most` sums, which cover M rows and
  // Q quads.
  template <int M, int Q, int OneRow, int Most, int m = 0, int q = 0, class Part>
  [[gnu::always_inline]] static void each_part(const Part& part) {
    constexpr int rows = M - m < 4 ? M - m : 4;
    constexpr int room = rows == 1 ? OneRow : Most / (rows == 3 ? 4 : rows), quads = Q - q < room ? Q - q : room;
    part(Count<rows>{}, Count<quads>{}, m, q);
    if constexpr (q + quads < Q) {
      each_part<M, Q, OneRow, Most, m, q + quads>(part);
    } else if constexpr (m + rows < M) {
      each_part<M, Q, OneRow, Most, m + rows>(part);
    }
  }

  template <int NV, int M>
  static void dot8(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    dot<NV, M, 1, Sums::most8, Sums::most8>(a, w, groups, start, sums);
  }

  template <int NV, int M>
  static void dot4(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    dot<NV, M, 2, Sums::most4_one_row, Sums::most4>(a, w, groups, start, sums);
  }

  // N: the weights of a byte.
  template <int NV, int M, int N, int OneRow, int Most>
  [[gnu::always_inline]] static void dot(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start,
                                         int32_t* sums) {
    each_part<M, NV * 4, OneRow, Most>([=](auto rows, auto quads, int m, int q) {
      part<N, NV * 4, rows.value, quads.value>(a + m, w + 16 * q, groups, start + m, sums + m * NV * 16 + 4 * q);
    });
  }

  template <int N, int Q, int R, int C>
  static void part(const int8_t* const* a, const uint8_t* w, int groups, const int32_t* start, int32_t* sums) {
    Sums s[R][C];
    begin<R, C>(s, start);
    int g = 0;
    for (; g + 2 <= groups; g += 2, w += 2 * Q * 16) step<N, Q, R, C, 2>(s, a, w, g);
    if (g < groups) step<N, Q, R, C, 1>(s, a, w, g);
    write<Q, R, C>(s, start, sums);
  }

  template <int N, int Q, int R, int C, int G>
  [[gnu::always_inline]] static void step(Sums (&s)[R][C], const int8_t* const* a, const uint8_t* w, int g) {
    typename Sums::template Activations<N * G> am[R];
#pragma GCC unroll 4
    for (int m = 0; m < R; ++m) am[m].load(a[m] + 4 * N * g);
#pragma GCC unroll 16
    for (int i = 0; i < C; ++i) {
      int8x16_t weights[N * G];
#pragma GCC unroll 2
      for (int j = 0; j < G; ++j) unpack<N>(vld1q_u8(w + 16 * (j * Q + i)), weights + N * j);
#pragma GCC unroll 4
      for (int m = 0; m < R; ++m) s[m][i].add(weights, am[m]);
    }
  }

  template <int N>
  [[gnu::always_inline]] static void unpack(uint8x16_t bytes, int8x16_t* weights) {
    weights[0] = vreinterpretq_s8_u8(N == 1 ? bytes : vandq_u8(bytes, vdupq_n_u8(15)));
    if constexpr (N == 2) weights[1] = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
  }

  template <int R, int C>
  [[gnu::always_inline]] static void begin(Sums (&s)[R][C], const int32_t* start) {
#pragma GCC unroll 4
    for (int m = 0; m < R; ++m) {
#pragma GCC unroll 16
      for (int i = 0; i < C; ++i) s[m][i].begin(vdupq_n_s32(start[m]));
    }
  }

  template <int Q, int R, int C>
  [[gnu::always_inline]] static void write(const Sums (&s)[R][C], const int32_t* start, int32_t* sums) {
#pragma GCC unroll 4
    for (int m = 0; m < R; ++m) {
#pragma GCC unroll 16
      for (int i = 0; i < C; ++i) vst1q_s32(sums + 4 * (m * Q + i), s[m][i].total(vdupq_n_s32(start[m])));
    }
  }

  // A block is one vector: four quads.
  template <int M>
  static void sparse(const int8_t* const* a, const uint8_t* w, const uint16_t* groups_of, int count,
                     const int32_t* start, int32_t* sums, size_t stride) {
    each_part<M, 4, Sums::most8, Sums::most8>([=](auto rows, auto quads, int m, int q) {
      sparse_part<rows.value, quads.value>(a + m, w + 16 * q, groups_of, count, start + 4 * q,
                                           sums + m * stride + 4 * q, stride);
    });
  }

  template <int R, int C>
  static void sparse_part(const int8_t* const* a, const uint8_t* w, const uint16_t* groups_of, int count,
                          const int32_t* start, int32_t* sums, size_t stride) {
    Sums s[R][C];
#pragma GCC unroll 4
    for (int m = 0; m < R; ++m) {
#pragma GCC unroll 4
      for (int i = 0; i < C; ++i) s[m][i].begin(vld1q_s32(start + 4 * i));
    }
    int b = 0;
    for (; b + 2 <= count; b += 2, w += 128) sparse_step<R, C, 2>(s, a, w, groups_of + b);
    if (b < count) sparse_step<R, C, 1>(s, a, w, groups_of + b);
#pragma GCC unroll 4
    for (int m = 0; m < R; ++m) {
#pragma GCC unroll 4
      for (int i = 0; i < C; ++i) vst1q_s32(sums + m * stride + 4 * i, s[m][i].total(vld1q_s32(start + 4 * i)));
    }
  }

  template <int R, int C, int G>
  [[gnu::always_inline]] static void sparse_step(Sums (&s)[R][C], const int8_t* const* a, const uint8_t* w,
                                                 const uint16_t* groups_of) {
    typename Sums::template Activations<G> am[R];
#pragma GCC unroll 4
    for (int m = 0; m < R; ++m) am[m].pick(a[m], groups_of);
#pragma GCC unroll 4
    for (int i = 0; i < C; ++i) {
      int8x16_t weights[G];
#pragma GCC unroll 2
      for (int j = 0; j < G; ++j) weights[j] = vreinterpretq_s8_u8(vld1q_u8(w + 16 * (4 * j + i)));
#pragma GCC unroll 4
      for (int m = 0; m < R; ++m) s[m][i].add(weights, am[m]);
    }
  }

  // Each column's products are added in the order of k, one rounding each.
  template <int NV, int M>
  static void dotf(const float* const* a, const float* w, int k, float* sums) {
    each_part<M, NV * 4, 16, 16>([=](auto rows, auto quads, int m, int q) {
      partf<NV * 4, rows.value, quads.value>(a + m, w + 4 * q, k, sums + m * NV * 16 + 4 * q);
    });
  }

  template <int Q, int R, int C>
  static void partf(const float* const* a, const float* w, int k, float* sums) {
    float32x4_t s[R][C] = {};
    int j = 0;
    for (; j + 4 <= k; j += 4, w += 4 * Q * 4) stepf<Q, R, C, 4>(s, a, w, j);
    for (; j < k; ++j, w += Q * 4) stepf<Q, R, C, 1>(s, a, w, j);
#pragma GCC unroll 4
    for (int m = 0; m < R; ++m) {
#pragma GCC unroll 16
      for (int i = 0; i < C; ++i) vst1q_f32(sums + 4 * (m * Q + i), s[m][i]);
    }
  }

  template <int Q, int R, int C, int G>
  [[gnu::always_inline]] static void stepf(float32x4_t (&s)[R][C], const float* const* a, const float* w, int j) {
    float32x4_t am[R];
#pragma GCC unroll 4
    for (int m = 0; m < R; ++m) am[m] = G == 4 ? vld1q_f32(a[m] + j) : vdupq_n_f32(a[m][j]);
#pragma GCC unroll 4
    for (int t = 0; t < G; ++t) {
#pragma GCC unroll 16
      for (int i = 0; i < C; ++i) {
        const float32x4_t weights = vld1q_f32(w + 4 * (t * Q + i));
#pragma GCC unroll 4
        for (int m = 0; m < R; ++m) s[m][i] = vfmaq_n_f32(s[m][i], weights, am[m][t]);
      }
    }
  }
};
