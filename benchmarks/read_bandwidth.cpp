// Measures how fast one thread reads memory that it has just read. That bounds a step, which reads each weight once.
// Usage: read_bandwidth BYTES...; prints bytes per second for each block size, with the fastest of several read loops.
#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

typedef uint64_t Lane __attribute__((vector_size(64)));
volatile uint64_t sink;

template <size_t kAhead>
double seconds(const char* memory, size_t bytes) {
  const auto start = std::chrono::steady_clock::now();
  Lane sums[8] = {};
  for (size_t i = 0; i < bytes; i += 512) {
    for (size_t j = 0; j < 8; ++j) {
      if (kAhead) __builtin_prefetch(memory + i + j * 64 + kAhead);
      sums[j] ^= *reinterpret_cast<const Lane*>(memory + i + j * 64);
    }
  }
  for (size_t j = 1; j < 8; ++j) sums[0] ^= sums[j];
  sink = sums[0][0];
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int count, char** arguments) {
  for (int i = 1; i < count; ++i) {
    const size_t bytes = std::strtoull(arguments[i], nullptr, 10) / 512 * 512;
    const size_t page = size_t(1) << 21;
    char* memory = static_cast<char*>(std::aligned_alloc(page, (bytes + 2 * page) / page * page));
    madvise(memory, bytes, MADV_HUGEPAGE);
    std::memset(memory, 1, bytes + 16384);
    double best = 1e9;
    for (size_t repeat = 0; repeat < 20 + 400000000 / bytes; ++repeat) {
      for (double time : {seconds<0>(memory, bytes), seconds<2048>(memory, bytes), seconds<8192>(memory, bytes)}) {
        if (time < best) best = time;
      }
    }
    std::printf("%.0f\n", double(bytes) / best);
    std::free(memory);
  }
}
