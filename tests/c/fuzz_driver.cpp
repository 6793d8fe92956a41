// Drives LLVMFuzzerTestOneInput (fuzz_target.cpp) where there is no libFuzzer: inputs that reach new code are kept and
// changed further. g++'s -fsanitize-coverage=trace-pc says which code was reached.
//   fuzz_driver SEEDS SECONDS SEED CRASH      SEEDS: a folder; CRASH: where the input of a crash is written
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" void __sanitizer_set_death_callback(void (*callback)());

#define UNTRACED __attribute__((no_sanitize_coverage))

namespace {

constexpr size_t kMapBits = 18;
constexpr size_t kLongest = 64 * 1024;
constexpr unsigned kSecondsAnInput = 20;
unsigned char reached[size_t{1} << kMapBits];  // by this input
unsigned char known[size_t{1} << kMapBits];    // by all of them
// Plain memory: destructors at the end of the program are traced too.
size_t touched[size_t{1} << kMapBits];
size_t touched_count = 0;

std::string current;
const char* crash_path = nullptr;

UNTRACED void keep_crash() {
  const int file = open(crash_path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
  if (file >= 0 && write(file, current.data(), current.size()) >= 0) close(file);
}

UNTRACED void on_signal(int number) {
  keep_crash();
  constexpr char text[] = "fuzz_driver: an input took too long, or aborted\n";
  if (write(2, text, sizeof(text) - 1) < 0) _exit(3);
  _exit(128 + number);
}

}  // namespace

extern "C" UNTRACED void __sanitizer_cov_trace_pc() {
  const auto pc = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  const size_t at = (pc * 0x9E3779B97F4A7C15ULL) >> (64 - kMapBits);
  if (reached[at] == 0) {
    reached[at] = 1;
    touched[touched_count++] = at;
  }
}

namespace {

// Runs one input; returns whether it reached new code.
UNTRACED bool run(const std::string& input) {
  current = input;
  alarm(kSecondsAnInput);
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  bool found = false;
  for (size_t i = 0; i < touched_count; ++i) {
    const size_t at = touched[i];
    found = found || known[at] == 0;
    known[at] = 1;
    reached[at] = 0;
  }
  touched_count = 0;
  return found;
}

using Random = std::mt19937_64;

UNTRACED size_t below(Random& random, size_t limit) { return limit == 0 ? 0 : random() % limit; }

constexpr const char* kTokens[] = {"null",
                                   "true",
                                   "1e999",
                                   "-1",
                                   "9223372036854775808",
                                   "NaN",
                                   "\\ud800",
                                   "\\u0000",
                                   "[",
                                   "]",
                                   "{",
                                   "}",
                                   ",",
                                   ":",
                                   "\"\"",
                                   "batch",
                                   "time",
                                   "batch*3",
                                   "float32",
                                   "int64",
                                   "every-step",
                                   "none",
                                   "\"extra\":",
                                   "lstm_edge",
                                   "lstm_edge.golden",
                                   "PK\x03\x04",
                                   "PK\x01\x02",
                                   "PK\x05\x06",
                                   "\x93NUMPY",
                                   "'descr': '<f4'",
                                   "'fortran_order': True",
                                   "(1,)",
                                   "(-1,)",
                                   "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                                   "\x80\x80\x80\x80\x10",
                                   "\x72\x54\x0a\x10",
                                   "\xed\xa0\x80",
                                   "\xf4\x90\x80\x80"};
constexpr uint64_t kNumbers[] = {0,
                                 1,
                                 2,
                                 127,
                                 128,
                                 255,
                                 256,
                                 32767,
                                 65535,
                                 65536,
                                 0x7FFFFFFF,
                                 0x80000000,
                                 0xFFFFFFFF,
                                 0x7FFFFFFFFFFFFFFF,
                                 0x8000000000000000,
                                 0xFFFFFFFFFFFFFFFF};

UNTRACED void change(std::string& input, const std::vector<std::string>& corpus, Random& random) {
  // The first byte, the part of the library, stays.
  const size_t at = 1 + below(random, input.size());
  const auto here = [&](size_t most) {
    return at >= input.size() ? 0 : std::min(1 + below(random, most), input.size() - at);
  };
  switch (below(random, 10)) {
    case 0:
      if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << below(random, 8)));
      break;
    case 1:
      if (at < input.size()) input[at] = static_cast<char>(random());
      break;
    case 2: input.erase(std::min(at, input.size()), here(64)); break;
    case 3: {
      const size_t from = 1 + below(random, input.size() - 1 + (input.size() < 2));
      const std::string block = input.substr(std::min(from, input.size()), 1 + below(random, 64));
      input.insert(std::min(at, input.size()), block);
      break;
    }
    case 4: input.insert(std::min(at, input.size()), kTokens[below(random, std::size(kTokens))]); break;
    case 5: {
      const uint64_t number = kNumbers[below(random, std::size(kNumbers))];
      const size_t width = size_t{1} << below(random, 4);
      if (at + width <= input.size()) std::memcpy(input.data() + at, &number, width);
      break;
    }
    case 6: {  // another number in a text
      size_t digit = at;
      while (digit < input.size() && (input[digit] < '0' || input[digit] > '9')) ++digit;
      if (digit < input.size()) input.replace(digit, 1, std::to_string(kNumbers[below(random, std::size(kNumbers))]));
      break;
    }
    case 7: {  // the beginning of this and the end of another
      const std::string& other = corpus[below(random, corpus.size())];
      if (other.size() > 1) input = input.substr(0, at) + other.substr(1 + below(random, other.size() - 1));
      break;
    }
    case 8:
      if (at < input.size()) input[at] = static_cast<char>(input[at] + static_cast<int>(below(random, 9)) - 4);
      break;
    default: input.resize(std::min(at, input.size()));
  }
  if (input.size() > kLongest) input.resize(kLongest);
}

UNTRACED std::vector<std::string> read_seeds(const std::string& folder) {
  std::vector<std::string> names, seeds;
  if (DIR* listing = opendir(folder.c_str())) {
    while (const dirent* entry = readdir(listing)) {
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    closedir(listing);
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    std::ifstream file(folder + "/" + name, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return seeds;
}

}  // namespace

UNTRACED int main(int count, char** arguments) {
  if (count == 2) {  // one input again
    std::ifstream file(arguments[1], std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    return LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  }
  if (count != 5) {
    std::fprintf(stderr, "usage: fuzz_driver SEEDS SECONDS SEED CRASH | fuzz_driver INPUT\n");
    return 2;
  }
  const double seconds = std::atof(arguments[2]);
  Random random(static_cast<uint64_t>(std::atoll(arguments[3])));
  crash_path = arguments[4];
  __sanitizer_set_death_callback(keep_crash);
  signal(SIGALRM, on_signal);
  signal(SIGABRT, on_signal);
  std::vector<std::string> corpus = read_seeds(arguments[1]);
  if (corpus.empty()) return 2;
  long runs = 0;
  for (const std::string& seed : corpus) {
    run(seed);
    ++runs;
  }
  const size_t seeds = corpus.size();
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds) {
    // Half of the inputs come from the last ones that reached something new.
    const size_t recent = std::min<size_t>(corpus.size(), 200);
    const size_t from =
        below(random, 2) == 0 ? below(random, corpus.size()) : corpus.size() - 1 - below(random, recent);
    std::string input = corpus[from];
    for (size_t changes = size_t{1} << below(random, 4); changes > 0; --changes) change(input, corpus, random);
    if (run(input)) corpus.push_back(std::move(input));
    ++runs;
  }
  const auto edges = std::count(std::begin(known), std::end(known), 1);
  std::printf("%ld inputs, %zu of them kept beside %zu seeds, %ld places of the code reached, no fault\n", runs,
              corpus.size() - seeds, seeds, static_cast<long>(edges));
  return 0;
}
