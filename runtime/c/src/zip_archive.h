// Stored and deflated members of a zip archive in memory, read piece by piece within a limit: archive.py, with the
// checks and sentences of Python's zipfile.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lstm_edge::device {

struct ZipMember {
  std::string name;           // up to the first null character
  std::string original_name;  // as the central directory has it
  uint16_t flags = 0;
  uint16_t method = 0;
  uint32_t crc = 0;
  uint64_t packed_bytes = 0;
  uint64_t declared_bytes = 0;
  uint64_t header_offset = 0;
  // Where the directory begins and where the archive says that it does: what comes before the archive moves all
  // offsets.
  uint64_t directory_start = 0;
  uint64_t directory_offset = 0;
};

class ZipArchive {
 public:
  // Reads the list of members; `bytes` must outlive the archive. Throws Unreadable.
  explicit ZipArchive(std::string_view bytes);
  // The whole member, of which the bytes are taken from `left`. Throws Unreadable, also over the limit: `most` bytes in
  // all.
  std::string read(const ZipMember& member, uint64_t& left, uint64_t most) const;

  std::vector<ZipMember> members;

 private:
  size_t data_offset(const ZipMember& member) const;

  std::string_view bytes_;
};

}  // namespace lstm_edge::device
