// The products of one instruction set with a tile against plain loops: every number of rows and vectors, whole and
// remaining groups, with the largest weights and activations, exact in integers and by fused multiplications in the
// order of k in float32. Prints what differs; exit code 1 if anything does.
//   -DSOURCE='"isa_neon.cpp"' -DNAMESPACE=neon
#include SOURCE

#include <cmath>
#include <cstdio>
#include <random>

namespace {

using Isa = lstm_edge::NAMESPACE::Isa;

int compared = 0, wrong = 0;

template <typename T>
void compare(const char* what, int vectors, int rows, int k, const std::vector<T>& got,
             const std::vector<T>& expected) {
  ++compared;
  if (std::memcmp(got.data(), expected.data(), got.size() * sizeof(T)) == 0) return;
  ++wrong;
  std::printf("%s: %d vectors, %d rows, k %d differ\n", what, vectors, rows, k);
}

// At every third call the largest magnitudes of one or both signs: the sums that 16 bits must hold.
struct Numbers {
  std::mt19937 random{1};
  int calls = 0;

  template <typename T>
  std::vector<T> make(size_t count, int low, int high, int kind) {
    std::vector<T> values(count);
    for (T& value : values) {
      value = T(kind == 0 ? low + int(random() % (high - low + 1)) : kind == 1 ? high : (random() % 2 ? high : low));
    }
    return values;
  }
};

template <int NV, int M>
void check(Numbers& numbers, int groups) {
  const int width = NV * 16, kind = numbers.calls++ % 3;
  auto start = numbers.make<int32_t>(M, -70000, 70000, 0);
  std::vector<std::vector<int8_t>> rows;
  const int8_t* a[M];
  // A row is padded to whole vectors, with zeros.
  for (int m = 0; m < M; ++m) {
    rows.push_back(numbers.make<int8_t>(8 * groups, -127, 127, kind));
    rows.back().resize(8 * groups + 64);
    a[m] = rows.back().data();
  }
  const auto w8 = numbers.make<int8_t>(size_t(groups) * width * 4, -127, 127, kind);
  const auto w4 = numbers.make<uint8_t>(size_t(groups) * width * 4, 0, 255, kind);
  std::vector<int32_t> sums(M * width), expected(M * width);
  Isa::dot8<NV, M>(a, reinterpret_cast<const uint8_t*>(w8.data()), groups, start.data(), sums.data());
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < width; ++c) {
      int32_t sum = start[m];
      for (int i = 0; i < 4 * groups; ++i) sum += w8[(size_t(i / 4) * width + c) * 4 + i % 4] * a[m][i];
      expected[m * width + c] = sum;
    }
  }
  compare("int8", NV, M, 4 * groups, sums, expected);
  Isa::dot4<NV, M>(a, w4.data(), groups, start.data(), sums.data());
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < width; ++c) {
      int32_t sum = start[m];
      for (int i = 0; i < 8 * groups; ++i) {
        const int pair = w4[(size_t(i / 8) * width + c) * 4 + i % 4];
        sum += (i % 8 < 4 ? pair & 15 : pair >> 4) * a[m][i];
      }
      expected[m * width + c] = sum;
    }
  }
  compare("int4", NV, M, 8 * groups, sums, expected);
  std::vector<std::vector<float>> floats;
  const float* x[M];
  std::normal_distribution<float> normal;
  for (int m = 0; m < M; ++m) {
    floats.emplace_back(groups);
    for (float& value : floats.back()) value = normal(numbers.random);
    x[m] = floats.back().data();
  }
  std::vector<float> wf(size_t(groups) * width), products(M * width), fused(M * width);
  for (float& value : wf) value = normal(numbers.random);
  Isa::dotf<NV, M>(x, wf.data(), groups, products.data());
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < width; ++c) {
      float sum = 0.0f;
      for (int i = 0; i < groups; ++i) sum = std::fma(wf[size_t(i) * width + c], x[m][i], sum);
      fused[m * width + c] = sum;
    }
  }
  compare("float32", NV, M, groups, products, fused);
}

// Blocks of one vector that lie at random groups of the rows, in rising order.
template <int M>
void check_sparse(Numbers& numbers, int count) {
  constexpr int width = 16, stride = 32;
  const int kind = numbers.calls % 3, groups = 2 * count + 1;
  auto start = numbers.make<int32_t>(width, -70000, 70000, 0);
  std::vector<std::vector<int8_t>> rows;
  const int8_t* a[M];
  for (int m = 0; m < M; ++m) {
    rows.push_back(numbers.make<int8_t>(4 * groups, -127, 127, kind));
    a[m] = rows.back().data();
  }
  std::vector<uint16_t> groups_of;
  for (int b = 0; b < count; ++b) groups_of.push_back(uint16_t(2 * b + numbers.random() % 2));
  const auto w = numbers.make<int8_t>(size_t(count) * width * 4, -127, 127, kind);
  std::vector<int32_t> sums(M * stride), expected(M * stride);
  Isa::sparse<M>(a, reinterpret_cast<const uint8_t*>(w.data()), groups_of.data(), count, start.data(), sums.data(),
                 stride);
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < width; ++c) {
      int32_t sum = start[c];
      for (int i = 0; i < 4 * count; ++i) {
        sum += w[(size_t(i / 4) * width + c) * 4 + i % 4] * a[m][4 * groups_of[i / 4] + i % 4];
      }
      expected[m * stride + c] = sum;
    }
  }
  compare("sparse", 1, M, 4 * count, sums, expected);
}

template <int NV>
void check_rows(Numbers& numbers, int groups) {
  for (int repeat = 0; repeat < 3; ++repeat) {
    check<NV, 1>(numbers, groups);
    check<NV, 2>(numbers, groups);
    check<NV, 3>(numbers, groups);
    check<NV, 4>(numbers, groups);
    check<NV, 5>(numbers, groups);
    check<NV, 6>(numbers, groups);
    check_sparse<1>(numbers, groups);
    check_sparse<2>(numbers, groups);
    check_sparse<3>(numbers, groups);
    check_sparse<4>(numbers, groups);
    check_sparse<5>(numbers, groups);
    check_sparse<6>(numbers, groups);
    ++numbers.calls;  // so that each number of rows meets every kind of numbers
  }
}

}  // namespace

int main() {
  Numbers numbers;
  for (const int groups : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33}) {
    check_rows<2>(numbers, groups);
    check_rows<3>(numbers, groups);
    check_rows<4>(numbers, groups);
  }
  std::printf("%d products, %d differ\n", compared, wrong);
  return wrong != 0;
}
