// Memory for the intermediate values of one call: one block a thread, which grows and is never given back while the
// thread lives, so that a step allocates nothing.
//
// Under AddressSanitizer only the bytes that were taken may be touched: the block is poisoned, a gap follows each
// array, and what an earlier, larger call left behind the last one is out of reach.
#pragma once

#include "matrix.h"

extern "C" void __asan_poison_memory_region(const volatile void* memory, size_t bytes);
extern "C" void __asan_unpoison_memory_region(const volatile void* memory, size_t bytes);

namespace lstm_edge {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kGuarded = true;
#elif defined(__has_feature)
constexpr bool kGuarded = __has_feature(address_sanitizer);
#else
constexpr bool kGuarded = false;
#endif

class Scratch {
 public:
  // Runs `takes(scratch)` twice. The first time take() only counts and gives null, so that the block has room for
  // exactly what is taken; the second time it gives the memory, which holds whatever the last call left.
  template <typename Takes>
  static void lay_out(const Takes& takes) {
    Scratch scratch;
    takes(scratch);
    scratch.start();
    takes(scratch);
  }

  // Room for `count` values at a multiple of 64 bytes.
  template <typename T>
  T* take(size_t count) {
    const size_t at = used_, bytes = count * sizeof(T);
    used_ += padded(bytes) + (kGuarded ? 64 : 0);
    if (counts()) return nullptr;
    if constexpr (kGuarded) __asan_unpoison_memory_region(memory_ + at, bytes);
    return reinterpret_cast<T*>(memory_ + at);
  }

  bool counts() const { return memory_ == nullptr; }

 private:
  void start();

  char* memory_ = nullptr;
  size_t used_ = 0;
};

}  // namespace lstm_edge
