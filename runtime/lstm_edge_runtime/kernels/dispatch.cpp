// Which instruction set this processor has.
#include <cstdlib>
#include <cstring>

#include "layers.h"
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace lstm_edge {
namespace {

struct Candidate {
  const InstructionSet* set;
  bool supported;
};

#if defined(__x86_64__)
struct Features {
  bool avx2 = false, avxvnni = false, avx512vnni = false, amx = false;
};

// Read by hand: zig's runtime library has no __cpu_model, so __builtin_cpu_supports answers no to everything there.
// Bit positions are those of Intel's manual, volume 2A, CPUID; the operating system must save the registers as well
// (XCR0: bits 1 and 2 for 256-bit vectors, 5 to 7 for 512-bit ones and masks).
Features read_features() {
  Features features;
  unsigned a = 0, b = 0, c = 0, d = 0;
  const auto has = [](unsigned word, int bit) { return (word >> bit & 1) != 0; };
  if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, 12) || !has(c, 27) || !has(c, 28)) {  // FMA, OSXSAVE, AVX
    return features;
  }
  unsigned saved, high;
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if ((saved & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
  const unsigned last = a;
  features.avx2 = has(b, 5);
  features.avx512vnni = features.avx2 && (saved & 0xe6) == 0xe6 && has(b, 16) && has(b, 17) && has(b, 30) &&
                        has(b, 31) && has(c, 11);                                            // F, DQ, BW, VL, VNNI
  features.amx = features.avx512vnni && (saved >> 17 & 3) == 3 && has(d, 24) && has(d, 25);  // tiles, int8
  if (last >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) features.avxvnni = features.avx2 && has(a, 4);
  return features;
}
#endif

#if defined(__x86_64__) && defined(LSTM_EDGE_AMX)
// Asks the kernel for the tile registers, which a process may not use unasked: ARCH_REQ_XCOMP_PERM of Linux's x86 ABI,
// state component 18. Refused by Linux before 5.16, and where a thread's signal stack is too small to save them.
bool may_use_tiles() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

const InstructionSet& amx() {
  static const InstructionSet set = [] {
    InstructionSet made = kAvx512Vnni;
    made.name = "amx";
    made.blocks = &kAmxProducts;
    return made;
  }();
  return set;
}
#endif

// The best one first.
const InstructionSet& choose() {
  const char* wanted = std::getenv("LSTM_EDGE_ISA");
  const auto is_wanted = [=](const char* name) {
    return wanted == nullptr || *wanted == 0 || std::strcmp(wanted, name) == 0;
  };
#if defined(__x86_64__)
  const Features features = read_features();
  const Candidate candidates[] = {
#if defined(LSTM_EDGE_AMX)
      {&amx(), features.amx && is_wanted("amx") && may_use_tiles()},
#endif
      {&kAvx512Vnni, features.avx512vnni},
#if defined(LSTM_EDGE_AVXVNNI)
      {&kAvxVnni, features.avxvnni},
#endif
      {&kAvx2, features.avx2},
      {&kPortable, true},
  };
#elif defined(__aarch64__)
  // HWCAP_ASIMDDP of Linux's arm64 ABI: the dot product instructions.
  const bool dot = (getauxval(AT_HWCAP) & (1ul << 20)) != 0;
  const Candidate candidates[] = {{&kNeonDot, dot}, {&kNeon, true}, {&kPortable, true}};
#else
  const Candidate candidates[] = {{&kPortable, true}};
#endif
  for (const Candidate& candidate : candidates) {
    if (candidate.supported && is_wanted(candidate.set->name)) return *candidate.set;
  }
  return kPortable;
}

}  // namespace

const InstructionSet& instruction_set() {
  static const InstructionSet& chosen = choose();
  return chosen;
}

}  // namespace lstm_edge
