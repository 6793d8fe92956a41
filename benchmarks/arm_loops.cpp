// The inner loops of the ARM kernels as functions that benchmarks/arm_model.py finds in the assembly by their names:
// <kind>_<vectors of a tile>_<rows>. LSTM_EDGE_NEON_DOT: with the dot product. Only compiled, never linked.
#ifdef LSTM_EDGE_NEON_DOT
#include "isa_neon_dot.cpp"
using Isa = lstm_edge::neon_dot::Isa;
#else
#include "isa_neon.cpp"
using Isa = lstm_edge::neon::Isa;
#endif

#define LOOPS(V, M)                                                                                               \
  extern "C" [[gnu::flatten]] void int8_##V##_##M(const int8_t* const* a, const uint8_t* w, int groups,           \
                                                  const int32_t* start, int32_t* sums) {                          \
    Isa::dot8<V, M>(a, w, groups, start, sums);                                                                   \
  }                                                                                                               \
  extern "C" [[gnu::flatten]] void int4_##V##_##M(const int8_t* const* a, const uint8_t* w, int groups,           \
                                                  const int32_t* start, int32_t* sums) {                          \
    Isa::dot4<V, M>(a, w, groups, start, sums);                                                                   \
  }                                                                                                               \
  extern "C" [[gnu::flatten]] void float32_##V##_##M(const float* const* a, const float* w, int k, float* sums) { \
    Isa::dotf<V, M>(a, w, k, sums);                                                                               \
  }

#define SPARSE(M)                                                                                                 \
  extern "C" [[gnu::flatten]] void sparse_1_##M(const int8_t* const* a, const uint8_t* w, const uint16_t* groups, \
                                                int count, const int32_t* start, int32_t* sums) {                 \
    Isa::sparse<M>(a, w, groups, count, start, sums, 64);                                                         \
  }

SPARSE(1)
SPARSE(4)
LOOPS(4, 1)
LOOPS(3, 1)
LOOPS(4, 4)
LOOPS(3, 4)
