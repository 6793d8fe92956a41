// docs/operators.md, "The arithmetic": float32 operations in a fixed order, on vectors of W floats.
//
// Included once by each instruction set's file, inside a namespace of its own; compiled without contraction, so that
// every operation below rounds by itself and the same bits come out everywhere.

typedef float V __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t VI __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t VU __attribute__((vector_size(VECTOR_BYTES)));
constexpr int W = VECTOR_BYTES / 4;

inline V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline VI load(const int32_t* p) {
  VI v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
inline V all(float x) { return V{} + x; }
// A scalar of an array that a caller may have put at any address.
inline float scalar(const float* p) {
  float x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline V to_float(VI v) { return __builtin_convertvector(v, V); }
inline VI bits(V v) { return reinterpret_cast<VI>(v); }
inline V from_bits(VI v) { return reinterpret_cast<V>(v); }
inline V absolute(V v) { return from_bits(bits(v) & 0x7fffffff); }
inline V larger(V a, V b) { return a > b ? a : b; }

// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even, for magnitudes below 2^22; the
// integer then stands in the low bits of the sum.
constexpr float kRound = 12582912.0f;

// exp of N vectors of values up to zero. Each operation is done for all of them before the next one: one exponential is
// a chain in which each operation waits for the one before, and processors look ahead over three of them or so.
template <int N>
[[gnu::always_inline]] inline void exponentials(V (&y)[N]) {
  V n[N], r[N], p[N];
  VU scale[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) y[i] = larger(all(-86.0f), y[i]);  // the second if they do not compare: NaN stays NaN
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) n[i] = y[i] * 0x1.715476p+0f + kRound;
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    scale[i] = (reinterpret_cast<VU>(n[i]) << 23) + (127u << 23);  // unsigned: of NaN these are any bits
    n[i] = n[i] - kRound;
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) r[i] = y[i] - n[i] * 0.693359375f;
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) r[i] = r[i] - n[i] * -0x1.bd0106p-13f;
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) p[i] = 0x1.6a2434p-10f * r[i] + 0x1.1239e2p-7f;
  constexpr float kCoefficients[] = {0x1.5558f2p-5f, 0x1.555492p-3f, 0x1.fffffcp-2f};
#pragma GCC unroll 16
  for (int k = 0; k < 3; ++k) {
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) p[i] = p[i] * r[i] + kCoefficients[k];
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) p[i] = (p[i] * (r[i] * r[i]) + r[i]) + 1.0f;
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) y[i] = p[i] * from_bits(reinterpret_cast<VI>(scale[i]));
}

// A sigmoid or a hyperbolic tangent of x in two halves, between which exponentials() comes.
inline V sigmoid_exponent(V x) { return -absolute(x); }
inline V sigmoid_of(V x, V e) { return (x >= 0.0f ? all(1.0f) : e) / (1.0f + e); }
inline V tangent_exponent(V x) { return absolute(x) * -2.0f; }
inline V tangent_of(V x, V e) {
  const V magnitude = (1.0f - e) / (1.0f + e);
  return from_bits(bits(magnitude) | (bits(x) & int32_t(0x80000000)));
}

[[gnu::always_inline]] inline V sigmoid(V x) {
  V e[1] = {sigmoid_exponent(x)};
  exponentials(e);
  return sigmoid_of(x, e[0]);
}

[[gnu::always_inline]] inline V hyperbolic_tangent(V x) {
  V e[1] = {tangent_exponent(x)};
  exponentials(e);
  return tangent_of(x, e[0]);
}

// A float product sums the first half of its terms and the second half for themselves, each in order, and adds the two.
inline int first_half(int k) { return (k + 1) / 2; }

// Rounds a row of k floats to q (padded with zeros to a multiple of 64); gives its scale and the sum of q, in total
// and for each block of `block` (0: no blocks).
struct Rounded {
  int8_t* q;
  float scale;
  int32_t sum;
  int32_t* block_sums;
};

// Combines the lanes of a vector, half with half: in their order each operation would wait for the one before, which
// took longer than all else for a row of 128.
template <typename T, typename Vector, typename Combine>
[[gnu::always_inline]] inline T across(Vector vector, const Combine& combine) {
  T lanes[W];
  std::memcpy(lanes, &vector, sizeof lanes);
#pragma GCC unroll 4
  for (int half = W / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}

inline float largest_magnitude(const float* x, int k) {
  V largest = V{};
  int i = 0;
  for (; i + W <= k; i += W) largest = larger(absolute(load(x + i)), largest);
  float result = across<float>(largest, [](float a, float b) { return a > b ? a : b; });
  for (; i < k; ++i) {
    const float one = scalar(x + i), magnitude = one < 0 ? -one : one;
    result = magnitude > result ? magnitude : result;
  }
  return result;
}

// g++ 12 takes a conversion from 32 to 8 bits apart, lane by lane, which was half the time of a row's rounding.
inline void store_low_bytes(int8_t* p, VI v) {
  typedef int8_t Bytes __attribute__((vector_size(W)));
#if VECTOR_BYTES == 64
  const __m128i narrow = _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v));
#elif VECTOR_BYTES == 32
  typedef int16_t Words __attribute__((vector_size(2 * W)));
  const Bytes narrow = __builtin_convertvector(__builtin_convertvector(v, Words), Bytes);
#else
  const Bytes narrow = __builtin_convertvector(v, Bytes);
#endif
  static_assert(sizeof narrow == sizeof(Bytes), "one byte a lane");
  std::memcpy(p, &narrow, sizeof narrow);
}

inline void round_row(const float* x, int k, Rounded& row, int block) {
  const float largest = largest_magnitude(x, k);
  const float m = largest > 0x1p-100f ? largest : 0x1p-100f;
  const float inverse = 127.0f / m;
  row.scale = m / 127.0f;
  VU sums = VU{};  // unsigned: a row with NaN, whose answer is free, wraps
  V values = V{};
  int i = 0;
  for (; i + W <= k; i += W) {
    const V shifted = load(x + i) * inverse + kRound;
    const VI integers = bits(shifted);
    values += shifted;
    store_low_bytes(row.q + i, integers);
    sums += reinterpret_cast<VU>(integers) - 0x4b400000u;
  }
  uint32_t sum = across<uint32_t>(sums, [](uint32_t a, uint32_t b) { return a + b; });
  float value = across<float>(values, [](float a, float b) { return a + b; });  // any order: it only finds NaN
  for (; i < k; ++i) {
    const float shifted = scalar(x + i) * inverse + kRound;
    int32_t integer;
    std::memcpy(&integer, &shifted, 4);
    row.q[i] = int8_t(integer - 0x4b400000);
    sum += uint32_t(int32_t(row.q[i]));
    value += shifted;
  }
  row.sum = int32_t(sum);
  if (value != value) row.scale = value;  // NaN or infinity in the row: its products are NaN, and no plausible numbers
  if (block == 0) return;
  for (int start = 0, b = 0; start < k; start += block, ++b) {
    int32_t part = 0;
    for (int j = start; j < (start + block < k ? start + block : k); ++j) part += row.q[j];
    row.block_sums[b] = part;
  }
}
