// Structs of the C interface that begin with their size, as the header has them that the caller was compiled with.
//
// A later version of the header appends fields. A caller of an older version lacks the last ones; one of a newer
// version has some that this library does not know.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "error.h"

namespace lstm_edge::device {

// No version is larger: a greater size was never set.
constexpr size_t kMostStructBytes = 1024;

// Throws Error (LSTM_EDGE_MISUSE) for a size that no version has; `first`: the bytes of the first version's fields.
inline void check_struct_size(size_t size, size_t first, const char* name) {
  if (size >= first && size <= kMostStructBytes) return;
  fail(LSTM_EDGE_MISUSE, std::string(name) + ".size is " + std::to_string(size) + ", expected " +
                             std::to_string(first) + " to " + std::to_string(kMostStructBytes) + ": set it to sizeof(" +
                             name + ")");
}

// The caller's struct, with the fields of `known` where it lacks them. Throws Error (LSTM_EDGE_MISUSE) where it asks
// for something that this library does not know.
template <typename Struct>
Struct read_struct(const Struct& given, size_t first, Struct known, const char* name) {
  const size_t size = given.size, least = std::min(size, sizeof(Struct));
  check_struct_size(size, first, name);
  const auto* bytes = reinterpret_cast<const unsigned char*>(&given);
  if (std::any_of(bytes + least, bytes + size, [](unsigned char byte) { return byte != 0; })) {
    fail(LSTM_EDGE_MISUSE, std::string(name) + " has " + std::to_string(size) + " bytes, this library knows " +
                               std::to_string(sizeof(Struct)) +
                               ", and those behind are not zero: they ask for something that this library does not "
                               "have; use a newer one");
  }
  std::memcpy(&known, &given, least);
  known.size = sizeof(Struct);
  return known;
}

// Fills what the caller's struct has: zeros in the fields that this library does not know. Its size stays.
template <typename Struct>
void write_struct(const Struct& known, size_t first, Struct& wanted, const char* name) {
  const size_t size = wanted.size, least = std::min(size, sizeof(Struct));
  check_struct_size(size, first, name);
  auto* bytes = reinterpret_cast<unsigned char*>(&wanted);
  std::memcpy(bytes + sizeof(size), reinterpret_cast<const unsigned char*>(&known) + sizeof(size),
              least - sizeof(size));
  std::fill(bytes + least, bytes + size, static_cast<unsigned char>(0));
}

}  // namespace lstm_edge::device
