// Counts memory requests and locks by who asks: this program (the library is linked into it), onnxruntime, or another
// library that neither of them called. Include it in one file of a program that is linked with -rdynamic.
#pragma once

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
}

namespace counted {

struct Region {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  bool holds(const void* address) const {
    const auto number = reinterpret_cast<uintptr_t>(address);
    return begin <= number && number < end;
  }
};

struct Counts {
  long ours = 0;
  long onnxruntime = 0;
  long others = 0;
};

inline Region program, onnxruntime;
inline bool counting = false;
inline bool inside = false;
inline Counts requests, locks;

// Finds both regions; onnxruntime must be open.
inline void find_regions() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        Region region{UINTPTR_MAX, 0};
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
          if (begin < region.begin) region.begin = begin;
          if (begin + header.p_memsz > region.end) region.end = begin + header.p_memsz;
        }
        if (info->dlpi_name[0] == '\0') program = region;
        if (std::strstr(info->dlpi_name, "libonnxruntime") != nullptr) onnxruntime = region;
        return 0;
      },
      nullptr);
  void* frames[4];
  backtrace(frames, 4);  // its first call allocates
}

// Counts one call by its return address; a call from the C or C++ library by who called that.
inline void count(Counts& counts, const void* caller) {
  if (!counting || inside) return;
  inside = true;
  if (onnxruntime.holds(caller)) {
    ++counts.onnxruntime;
  } else if (program.holds(caller)) {
    ++counts.ours;
  } else {
    void* frames[64];
    const int found = backtrace(frames, 64);
    int at = 0;
    while (at < found && frames[at] != caller) ++at;  // the frames of this header come first
    for (; at < found; ++at) {
      if (onnxruntime.holds(frames[at]) || program.holds(frames[at])) break;
    }
    ++(at >= found ? counts.others : onnxruntime.holds(frames[at]) ? counts.onnxruntime : counts.ours);
  }
  inside = false;
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace counted

#define COUNTED_REQUEST counted::count(counted::requests, __builtin_return_address(0))
#define COUNTED_LOCK counted::count(counted::locks, __builtin_return_address(0))

extern "C" {
void* malloc(size_t size) {
  COUNTED_REQUEST;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  COUNTED_REQUEST;
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  COUNTED_REQUEST;
  return __libc_realloc(memory, size);
}
void* memalign(size_t alignment, size_t size) {
  COUNTED_REQUEST;
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  COUNTED_REQUEST;
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  COUNTED_REQUEST;
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? 12 : 0;  // ENOMEM
}
void free(void* memory) {
  if (memory != nullptr) COUNTED_REQUEST;
  __libc_free(memory);
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto real = counted::next<int (*)(pthread_mutex_t*)>("pthread_mutex_lock");
  COUNTED_LOCK;
  return real(mutex);
}
int pthread_mutex_trylock(pthread_mutex_t* mutex) {
  static const auto real = counted::next<int (*)(pthread_mutex_t*)>("pthread_mutex_trylock");
  COUNTED_LOCK;
  return real(mutex);
}
int pthread_rwlock_rdlock(pthread_rwlock_t* lock) {
  static const auto real = counted::next<int (*)(pthread_rwlock_t*)>("pthread_rwlock_rdlock");
  COUNTED_LOCK;
  return real(lock);
}
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
  static const auto real = counted::next<int (*)(pthread_rwlock_t*)>("pthread_rwlock_wrlock");
  COUNTED_LOCK;
  return real(lock);
}
}

void* operator new(size_t size) {
  COUNTED_REQUEST;
  void* memory = __libc_malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new[](size_t size) {
  COUNTED_REQUEST;
  void* memory = __libc_malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new(size_t size, std::align_val_t alignment) {
  COUNTED_REQUEST;
  void* memory = __libc_memalign(static_cast<size_t>(alignment), size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept {
  if (memory != nullptr) COUNTED_REQUEST;
  __libc_free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  if (memory != nullptr) COUNTED_REQUEST;
  __libc_free(memory);
}
void operator delete[](void* memory) noexcept {
  if (memory != nullptr) COUNTED_REQUEST;
  __libc_free(memory);
}
void operator delete[](void* memory, size_t) noexcept {
  if (memory != nullptr) COUNTED_REQUEST;
  __libc_free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  if (memory != nullptr) COUNTED_REQUEST;
  __libc_free(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  if (memory != nullptr) COUNTED_REQUEST;
  __libc_free(memory);
}
