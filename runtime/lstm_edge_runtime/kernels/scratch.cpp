#include "scratch.h"

namespace lstm_edge {
namespace {

struct Block {
  Aligned<char> memory;
  size_t bytes = 0;
};
thread_local Block block;

}  // namespace

void Scratch::start() {
  if (used_ > block.bytes) {
    block.memory = allocate<char>(used_);
    block.bytes = used_;
  }
  memory_ = block.memory.get();
  used_ = 0;
  if constexpr (kGuarded) __asan_poison_memory_region(memory_, block.bytes);
}

}  // namespace lstm_edge
