// Whether float32 arrays hold neither NaN nor infinity. The Python runtime asks before and after each small step; the
// dot product in NumPy that answers the same takes a tenth of such a step.
#include "layers.h"

namespace lstm_edge {
namespace {

struct Span {
  const float* data;
  size_t count;
};

// Without a branch in the loop, which compilers then vectorize for any processor.
[[gnu::always_inline]] inline bool look(const Span& span) {
  constexpr uint32_t kExponent = 0x7f800000;  // all bits set: NaN or infinity
  uint32_t found = 0;
  for (size_t i = 0; i < span.count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, span.data + i, sizeof(bits));
    found |= (bits & kExponent) == kExponent ? 1u : 0u;
  }
  return found == 0;
}

bool all_finite(const Span& span) { return look(span); }

#if defined(__x86_64__)
// Half the time for the states of many streams.
__attribute__((target("avx2"))) bool all_finite_avx2(const Span& span) { return look(span); }
#endif

using AllFinite = bool (*)(const Span&);

AllFinite choose() {
#if defined(__x86_64__)
  if (&instruction_set() != &kPortable) return all_finite_avx2;  // all others have AVX2
#endif
  return all_finite;
}

}  // namespace
}  // namespace lstm_edge

// The last span has no data. Returns 1 or 0.
extern "C" __attribute__((visibility("default"))) int LstmEdgeAllFinite(const lstm_edge::Span* spans) {
  static const lstm_edge::AllFinite all_finite = lstm_edge::choose();
  for (; spans->data != nullptr; ++spans) {
    if (!all_finite(*spans)) return 0;
  }
  return 1;
}
