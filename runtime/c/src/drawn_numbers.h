// numpy.random.default_rng(0): the numbers that Python draws to try a model, so that both try it with the same.
#pragma once

#include <cstdint>

namespace lstm_edge::device {

// PCG64 (O'Neill, "PCG: A family of simple fast space-efficient statistically good algorithms", 2014; XSL-RR 128/64),
// as numpy.random.PCG64(0) begins.
class DrawnNumbers {
 public:
  // rng.uniform(low, high)
  double uniform(double low, double high) {
    return low + (high - low) * (double(next64() >> 11) * (1.0 / 9007199254740992.0));
  }
  // rng.integers(low, high + 1): Lemire, "Fast random integer generation in an interval", 2019.
  int64_t integer(int64_t low, int64_t high) {
    const uint64_t range = uint64_t(high) - uint64_t(low);
    if (range == 0) return low;
    if (range < UINT32_MAX) return int64_t(uint64_t(low) + below32(uint32_t(range)));
    if (range == UINT32_MAX) return int64_t(uint64_t(low) + next32());
    if (range == UINT64_MAX) return int64_t(next64());
    return int64_t(uint64_t(low) + below64(range));
  }

 private:
  struct Wide {
    uint64_t high, low;
  };
  static Wide product(uint64_t a, uint64_t b) {
    const uint64_t a0 = uint32_t(a), a1 = a >> 32, b0 = uint32_t(b), b1 = b >> 32;
    const uint64_t first = a0 * b0, left = a1 * b0 + (first >> 32), right = a0 * b1 + uint32_t(left);
    return {a1 * b1 + (left >> 32) + (right >> 32), (right << 32) | uint32_t(first)};
  }
  uint64_t next64() {
    // state = state * multiplier + increment
    Wide next = product(state_.low, kMultiplier.low);
    next.high += state_.high * kMultiplier.low + state_.low * kMultiplier.high;
    const uint64_t low = next.low + kIncrement.low;
    next.high += kIncrement.high + (low < next.low);
    state_ = {next.high, low};
    const uint64_t mixed = state_.high ^ state_.low;
    const unsigned turn = unsigned(state_.high >> 58);
    return mixed >> turn | mixed << (-turn & 63);
  }
  uint32_t next32() {
    if (has_half_) {
      has_half_ = false;
      return half_;
    }
    const uint64_t drawn = next64();
    has_half_ = true;
    half_ = uint32_t(drawn >> 32);
    return uint32_t(drawn);
  }
  // At most `range`, which is below 2**32 - 1.
  uint32_t below32(uint32_t range) {
    const uint32_t count = range + 1;
    uint64_t wide = uint64_t(next32()) * count;
    if (uint32_t(wide) < count) {
      const uint32_t least = (UINT32_MAX - range) % count;
      while (uint32_t(wide) < least) wide = uint64_t(next32()) * count;
    }
    return uint32_t(wide >> 32);
  }
  uint64_t below64(uint64_t range) {
    const uint64_t count = range + 1;
    Wide wide = product(next64(), count);
    if (wide.low < count) {
      const uint64_t least = (UINT64_MAX - range) % count;
      while (wide.low < least) wide = product(next64(), count);
    }
    return wide.high;
  }

  static constexpr Wide kMultiplier{0x2360ed051fc65da4, 0x4385df649fccf645};
  static constexpr Wide kIncrement{0x418ddadb3af71a82, 0x588133bc447873a9};
  Wide state_{0x1aa1b5345996452d, 0x09585eb7a69561e3};
  bool has_half_ = false;
  uint32_t half_ = 0;
};

}  // namespace lstm_edge::device
