// One input of a fuzzer, for the parts of the library that read a stranger's bytes: trailer, protobuf walker with the
// checks of functions and weights, card, golden vectors, archives. The first byte says which part gets the rest.
// Whatever but an Error of ours comes out ends the process. The entry is libFuzzer's; where there is clang,
//   clang++ -std=c++17 -fsanitize=fuzzer,address,undefined ... fuzz_target.cpp runtime/c/src/*.cpp (and the kernels)
// does; fuzz_driver.cpp drives it with g++ (tests/c/fuzz.sh).
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "card.h"
#include "error.h"
#include "golden.h"
#include "model_file.h"

namespace {

using namespace lstm_edge::device;

// The entry of metadata that append_trailer of artifact.py writes.
std::string signed_bytes(std::string_view body) {
  std::string found(body);
  found += std::string_view("\x72\x54\x0a\x10lstm_edge.sha256\x12\x40", 22);
  return found + sha256_hex(body);
}

void check_whole_model(std::string_view bytes) {
  const CheckedModel model = check_model(bytes);
  check_bodies(bytes, model);
  const auto card = model.metadata.find(kCardKey);
  if (card != model.metadata.end()) parse_card(card->second);
  const auto golden = model.metadata.find(kGoldenKey);
  if (golden != model.metadata.end()) decode_golden(golden->second);
}

// What was accepted and written is accepted again.
void check_card(std::string_view text) {
  const Card card = parse_card(text);
  try {
    parse_card(card.json);
  } catch (const Error&) {
    std::abort();
  }
}

void check_archive(std::string_view bytes) {
  const Arrays arrays = read_npz(bytes, 1 << 20);
  const std::string written = write_npz(arrays);
  try {
    if (read_npz(written, size_t{1} << 24).size() != arrays.size()) std::abort();
  } catch (const Error&) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // A block of its own size: one byte past the end is found.
  const std::string rest(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    switch (data[0] % 6) {
      case 0: check_integrity(rest); break;
      case 1: check_whole_model(rest); break;
      case 2: check_whole_model(signed_bytes(rest)); break;
      case 3: check_card(rest); break;
      case 4: decode_golden(rest); break;
      default: check_archive(rest);
    }
  } catch (const Error& error) {
    if (error.message.empty()) std::abort();
  }
  return 0;
}
