// The central directory of a zip archive, as zipfile.ZipFile reads it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "zip_archive.h"

namespace lstm_edge::device {

// Throws Unreadable.
std::vector<ZipMember> read_zip_directory(std::string_view bytes);

// A file name: UTF-8 if the flag says so, else code page 437. Throws Unreadable.
std::string zip_name(std::string_view bytes, uint16_t flags);

// An unsigned number of `size` bytes, little endian.
inline uint64_t little_endian(std::string_view bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

}  // namespace lstm_edge::device
