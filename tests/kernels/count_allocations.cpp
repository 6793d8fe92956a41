// Counts the allocations of one library, whatever else its process allocates; preloaded by test_allocations.py.
#include <atomic>
#include <cstddef>
#include <cstdint>

// glibc's own functions behind the names below.
extern "C" void* __libc_malloc(size_t size);
extern "C" void* __libc_memalign(size_t alignment, size_t size);

namespace {

std::atomic<uintptr_t> first, last;
std::atomic<long> count;

// Counts if the caller's next instruction is in the library.
void note(void* caller) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(caller);
  if (at >= first && at < last) ++count;
}

}  // namespace

extern "C" {

// Where the library's instructions are.
void watch(uintptr_t from, uintptr_t to) {
  first = from;
  last = to;
}
long counted() { return count; }

void* malloc(size_t size) {
  note(__builtin_return_address(0));
  return __libc_malloc(size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  note(__builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  note(__builtin_return_address(0));
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? 12 : 0;
}
// operator new, where the library shares it with its process.
void* _Znwm(size_t size) {
  note(__builtin_return_address(0));
  return __libc_malloc(size);
}
}
