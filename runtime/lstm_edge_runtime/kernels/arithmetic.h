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

// Inlined always: left to itself, the compiler calls it in some of the cells.
[[gnu::always_inline]] inline V exponential(V y) {
  y = larger(all(-86.0f), y);  // the second where they do not compare: NaN stays NaN
  const V shifted = y * 0x1.715476p+0f + kRound;
  const V n = shifted - kRound;
  const V r = (y - n * 0.693359375f) - n * -0x1.bd0106p-13f;
  V p = (((0x1.6a2434p-10f * r + 0x1.1239e2p-7f) * r + 0x1.5558f2p-5f) * r + 0x1.555492p-3f) * r + 0x1.fffffcp-2f;
  p = (p * (r * r) + r) + 1.0f;
  // Unsigned: of NaN these are any bits.
  return p * from_bits(reinterpret_cast<VI>((reinterpret_cast<VU>(shifted) << 23) + (127u << 23)));
}

[[gnu::always_inline]] inline V sigmoid(V x) {
  const V e = exponential(-absolute(x));
  return (x >= 0.0f ? all(1.0f) : e) / (1.0f + e);
}

[[gnu::always_inline]] inline V hyperbolic_tangent(V x) {
  const V e = exponential(absolute(x) * -2.0f);
  const V magnitude = (1.0f - e) / (1.0f + e);
  return from_bits(bits(magnitude) | (bits(x) & int32_t(0x80000000)));
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

inline float largest_magnitude(const float* x, int k) {
  V largest = V{};
  int i = 0;
  for (; i + W <= k; i += W) largest = larger(absolute(load(x + i)), largest);
  float result = 0.0f;
  for (int lane = 0; lane < W; ++lane) result = largest[lane] > result ? largest[lane] : result;
  for (; i < k; ++i) {
    const float one = scalar(x + i), magnitude = one < 0 ? -one : one;
    result = magnitude > result ? magnitude : result;
  }
  return result;
}

inline void round_row(const float* x, int k, Rounded& row, int block) {
  const float largest = largest_magnitude(x, k);
  const float m = largest > 0x1p-100f ? largest : 0x1p-100f;
  const float inverse = 127.0f / m;
  row.scale = m / 127.0f;
  typedef int8_t Bytes __attribute__((vector_size(W)));
  VU sums = VU{};  // unsigned: a row with NaN, whose answer is free, wraps
  V values = V{};
  int i = 0;
  for (; i + W <= k; i += W) {
    const V shifted = load(x + i) * inverse + kRound;
    const VI integers = bits(shifted);
    values += shifted;
    const Bytes narrow = __builtin_convertvector(integers, Bytes);
    std::memcpy(row.q + i, &narrow, sizeof narrow);
    sums += reinterpret_cast<VU>(integers) - 0x4b400000u;
  }
  uint32_t sum = 0;
  float value = 0.0f;
  for (int lane = 0; lane < W; ++lane) {
    sum += sums[lane];
    value += values[lane];
  }
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
