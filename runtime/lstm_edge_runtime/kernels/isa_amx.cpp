// x86-64 with AMX: int8 products of many rows with whole blocks of weights. All else runs as with AVX-512 VNNI.
#include <immintrin.h>

#include "layers.h"

namespace lstm_edge {
namespace {

// Tile registers, by number, since the intrinsics of g++ take nothing else: 0 to 3 hold the sums of up to four vectors,
// [row][16 columns] of int32; 4 holds activations, [row][64 bytes]; 5 holds weights, [16 groups][16 columns][4 bytes],
// as matrix.h packs them. The last groups of a matrix, fewer than 16, are in 6 and 7, which are smaller, so that
// nothing is read past its end.
constexpr int kGroups = 16;  // of one register

// Intel's manual, volume 1, "Tile configuration".
struct Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

void begin(int rows, int groups) {
  alignas(64) Configuration configuration;
  const int last = groups % kGroups == 0 ? kGroups : groups % kGroups;
  for (int tile = 0; tile < 8; ++tile) {
    configuration.row_bytes[tile] = uint16_t(tile == 6 ? 4 * last : 64);
    configuration.rows[tile] = uint8_t(tile == 5 ? kGroups : tile == 7 ? last : rows);
  }
  // The intrinsic of g++ 12 names eight bytes of the 64 as its operand; stores to the others were left out.
  __asm__ volatile("ldtilecfg %0" : : "m"(configuration));
}

void end() { _tile_release(); }

// Fetches the next 16 groups of one vector, `ahead` bytes further on: a tile load does not run ahead of the products,
// and waited for the second-level cache in half of the time.
template <int NV>
[[gnu::always_inline]] inline void fetch(const uint8_t* w) {
#pragma GCC unroll 16
  for (int group = 0; group < kGroups; ++group)
    _mm_prefetch(reinterpret_cast<const char*>(w + group * NV * 64), _MM_HINT_T0);
}

template <int NV>
void multiply(const int8_t* a, size_t stride, const uint8_t* w, int groups, int32_t* sums) {
  constexpr size_t width = NV * 64;  // bytes of all vectors of one group, and of a row of sums
  constexpr size_t ahead = kGroups * width;
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (NV > 2) _tile_zero(2);
  if constexpr (NV > 3) _tile_zero(3);
  for (; groups >= kGroups; groups -= kGroups, a += 64, w += kGroups * width) {
    _tile_loadd(4, a, stride);
    _tile_loadd(5, w, width);
    fetch<NV>(w + ahead);
    _tile_dpbsud(0, 4, 5);
    _tile_loadd(5, w + 64, width);
    fetch<NV>(w + ahead + 64);
    _tile_dpbsud(1, 4, 5);
    if constexpr (NV > 2) {
      _tile_loadd(5, w + 128, width);
      fetch<NV>(w + ahead + 128);
      _tile_dpbsud(2, 4, 5);
    }
    if constexpr (NV > 3) {
      _tile_loadd(5, w + 192, width);
      fetch<NV>(w + ahead + 192);
      _tile_dpbsud(3, 4, 5);
    }
  }
  if (groups > 0) {
    _tile_loadd(6, a, stride);
    _tile_loadd(7, w, width);
    _tile_dpbsud(0, 6, 7);
    _tile_loadd(7, w + 64, width);
    _tile_dpbsud(1, 6, 7);
    if constexpr (NV > 2) {
      _tile_loadd(7, w + 128, width);
      _tile_dpbsud(2, 6, 7);
    }
    if constexpr (NV > 3) {
      _tile_loadd(7, w + 192, width);
      _tile_dpbsud(3, 6, 7);
    }
  }
  _tile_stored(0, sums, width);
  _tile_stored(1, sums + 16, width);
  if constexpr (NV > 2) _tile_stored(2, sums + 32, width);
  if constexpr (NV > 3) _tile_stored(3, sums + 48, width);
}

void product(int vectors, const int8_t* a, size_t stride, const uint8_t* w, int groups, int32_t* sums) {
  switch (vectors) {
    case 2: return multiply<2>(a, stride, w, groups, sums);
    case 3: return multiply<3>(a, stride, w, groups, sums);
    default: return multiply<4>(a, stride, w, groups, sums);
  }
}

}  // namespace

constexpr BlockProducts kAmxProducts = {begin, product, end};

}  // namespace lstm_edge
