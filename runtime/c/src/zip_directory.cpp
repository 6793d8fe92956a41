#include "zip_directory.h"

#include <algorithm>
#include <optional>

#include "text.h"
#include "unreadable.h"

namespace lstm_edge::device {
namespace {

constexpr uint64_t kLargestDirectory = uint64_t(1) << 21;
constexpr size_t kEndBytes = 22;
constexpr size_t kEnd64Bytes = 56;
constexpr size_t kLocatorBytes = 20;
constexpr size_t kEntryBytes = 46;
constexpr size_t kLongestComment = 1 << 16;
constexpr uint16_t kUtf8Name = 0x800;
constexpr uint8_t kNewestVersion = 63;
constexpr uint32_t kElsewhere = 0xffffffff;  // the number is in the zip64 field

constexpr char16_t kCodePage437[] = {
    0xc7,   0xfc,   0xe9,   0xe2,   0xe4,   0xe0,   0xe5,   0xe7,   0xea,   0xeb,   0xe8,   0xef,   0xee,
    0xec,   0xc4,   0xc5,   0xc9,   0xe6,   0xc6,   0xf4,   0xf6,   0xf2,   0xfb,   0xf9,   0xff,   0xd6,
    0xdc,   0xa2,   0xa3,   0xa5,   0x20a7, 0x192,  0xe1,   0xed,   0xf3,   0xfa,   0xf1,   0xd1,   0xaa,
    0xba,   0xbf,   0x2310, 0xac,   0xbd,   0xbc,   0xa1,   0xab,   0xbb,   0x2591, 0x2592, 0x2593, 0x2502,
    0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510, 0x2514,
    0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550,
    0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c,
    0x2588, 0x2584, 0x258c, 0x2590, 0x2580, 0x3b1,  0xdf,   0x393,  0x3c0,  0x3a3,  0x3c3,  0xb5,   0x3c4,
    0x3a6,  0x398,  0x3a9,  0x3b4,  0x221e, 0x3c6,  0x3b5,  0x2229, 0x2261, 0xb1,   0x2265, 0x2264, 0x2320,
    0x2321, 0xf7,   0x2248, 0xb0,   0x2219, 0xb7,   0x221a, 0x207f, 0xb2,   0x25a0, 0xa0};

struct End {
  bool zip64 = false;
  uint64_t directory_bytes = 0;
  uint64_t directory_offset = 0;
  int64_t place = 0;  // of the end record in the file
};

// The zip64 record before the end record, if there is one.
void read_end64(std::string_view bytes, End& end) {
  const auto place = size_t(end.place);
  const auto before = [&](size_t distance, size_t size) {  // a position before the file's start is the start
    return bytes.substr(place > distance ? place - distance : 0, size);
  };
  const std::string_view locator = before(kLocatorBytes, kLocatorBytes);
  if (locator.size() != kLocatorBytes || locator.substr(0, 4) != "PK\x06\x07") return;
  if (little_endian(locator, 4, 4) != 0 || little_endian(locator, 16, 4) > 1) {
    throw Unreadable("zipfiles that span multiple disks are not supported");
  }
  const std::string_view record = before(kLocatorBytes + kEnd64Bytes, kEnd64Bytes);
  if (record.size() != kEnd64Bytes || record.substr(0, 4) != "PK\x06\x06") return;
  end.zip64 = true;
  end.directory_bytes = little_endian(record, 40, 8);
  end.directory_offset = little_endian(record, 48, 8);
}

End find_end(std::string_view bytes) {
  std::optional<size_t> place;
  const bool long_enough = bytes.size() >= kEndBytes;
  if (long_enough) {
    const std::string_view last = bytes.substr(bytes.size() - kEndBytes);
    if (last.substr(0, 4) == "PK\x05\x06" && last.substr(kEndBytes - 2) == std::string_view("\0\0", 2)) {
      place = bytes.size() - kEndBytes;
    } else {
      const size_t first = bytes.size() > kLongestComment + kEndBytes ? bytes.size() - kLongestComment - kEndBytes : 0;
      const size_t found = bytes.substr(first).rfind("PK\x05\x06");
      if (found != std::string_view::npos && first + found + kEndBytes <= bytes.size()) place = first + found;
    }
  }
  if (!place.has_value()) throw Unreadable("File is not a zip file");
  End end;
  end.place = int64_t(*place);
  end.directory_bytes = little_endian(bytes, *place + 12, 4);
  end.directory_offset = little_endian(bytes, *place + 16, 4);
  read_end64(bytes, end);
  return end;
}

// One number of a zip64 field, which `field` is moved behind.
void take_large(std::string_view& field, uint64_t& number, const char* name) {
  if (field.size() < 8) {
    throw Unreadable(std::string("Corrupt zip64 extra field. ") + name + " not found.");
  }
  number = little_endian(field, 0, 8);
  field.remove_prefix(8);
}

std::string hex4(uint64_t value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int shift = 12; shift >= 0; shift -= 4) text += kDigits[value >> shift & 15];
  return text;
}

void read_extra(std::string_view extra, ZipMember& member) {
  while (extra.size() >= 4) {
    const uint64_t kind = little_endian(extra, 0, 2);
    const auto size = size_t(little_endian(extra, 2, 2));
    if (size + 4 > extra.size()) {
      throw Unreadable("Corrupt extra field " + hex4(kind) + " (size=" + std::to_string(size) + ")");
    }
    if (kind == 1) {
      std::string_view field = extra.substr(4, size);
      if (member.declared_bytes == UINT64_MAX || member.declared_bytes == kElsewhere) {
        take_large(field, member.declared_bytes, "File size");
      }
      if (member.packed_bytes == kElsewhere) take_large(field, member.packed_bytes, "Compress size");
      if (member.header_offset == kElsewhere) take_large(field, member.header_offset, "Header offset");
    }
    extra.remove_prefix(size + 4);
  }
}

// Takes up to `size` bytes from the start of the text, as a file's read does.
std::string_view take(std::string_view& text, size_t size) {
  const std::string_view taken = text.substr(0, size);
  text.remove_prefix(taken.size());
  return taken;
}

// The entry at the start of the directory, which `directory` is moved behind; its size as it declares it is added to
// `total`.
ZipMember take_entry(std::string_view& directory, uint64_t& total) {
  const std::string_view entry = take(directory, kEntryBytes);
  if (entry.size() != kEntryBytes) throw Unreadable("Truncated central directory");
  if (entry.substr(0, 4) != "PK\x01\x02") throw Unreadable("Bad magic number for central directory");
  const auto name_bytes = size_t(little_endian(entry, 28, 2));
  const auto extra_bytes = size_t(little_endian(entry, 30, 2));
  const auto comment_bytes = size_t(little_endian(entry, 32, 2));
  ZipMember member;
  member.flags = uint16_t(little_endian(entry, 8, 2));
  member.method = uint16_t(little_endian(entry, 10, 2));
  member.crc = uint32_t(little_endian(entry, 16, 4));
  member.packed_bytes = little_endian(entry, 20, 4);
  member.declared_bytes = little_endian(entry, 24, 4);
  member.header_offset = little_endian(entry, 42, 4);
  member.original_name = zip_name(take(directory, name_bytes), member.flags);
  member.name = member.original_name.substr(0, member.original_name.find('\0'));
  const std::string_view extra = take(directory, extra_bytes);
  take(directory, comment_bytes);
  const auto version = static_cast<unsigned char>(entry[6]);
  if (version > kNewestVersion) {
    throw Unreadable("zip file version " + std::to_string(version / 10) + "." + std::to_string(version % 10));
  }
  read_extra(extra, member);
  total += kEntryBytes + name_bytes + extra_bytes + comment_bytes;
  return member;
}

}  // namespace

std::string zip_name(std::string_view bytes, uint16_t flags) {
  if (flags & kUtf8Name) {
    if (auto error = utf8_error(bytes)) throw Unreadable(*error);
    return std::string(bytes);
  }
  std::string name;
  for (const char byte : bytes) {
    const auto code = static_cast<unsigned char>(byte);
    append_character(name, code < 128 ? char32_t(code) : char32_t(kCodePage437[code - 128]));
  }
  return name;
}

std::vector<ZipMember> read_zip_directory(std::string_view bytes) {
  const End end = find_end(bytes);
  const uint64_t record_bytes = end.zip64 ? kEnd64Bytes + kLocatorBytes : 0;
  // Where the directory begins does not depend on the offset that the end record declares.
  if (end.directory_bytes > uint64_t(end.place) || record_bytes > uint64_t(end.place) - end.directory_bytes) {
    throw Unreadable("Bad offset for central directory");
  }
  const uint64_t start = uint64_t(end.place) - end.directory_bytes - record_bytes;
  if (end.directory_bytes > kLargestDirectory) {
    throw Unreadable("the archive's list of members has " + with_commas_unsigned(end.directory_bytes) +
                     " bytes, at most " + with_commas_unsigned(kLargestDirectory) + " are read");
  }
  std::string_view directory = bytes.substr(size_t(start), size_t(end.directory_bytes));
  std::vector<ZipMember> members;
  for (uint64_t total = 0; total < end.directory_bytes;) {
    members.push_back(take_entry(directory, total));
    members.back().directory_start = start;
    members.back().directory_offset = end.directory_offset;
  }
  return members;
}

}  // namespace lstm_edge::device
