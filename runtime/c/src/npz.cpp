#include <zlib.h>

#include <algorithm>

#include "error.h"
#include "golden.h"
#include "npy.h"
#include "text.h"
#include "unreadable.h"
#include "zip_archive.h"

namespace lstm_edge::device {
namespace {

constexpr size_t kReasonCharacters = 200;
constexpr std::string_view kSuffix = ".npy";

// str.split without arguments takes these for the ends of words.
bool is_space(char32_t code) {
  return (code >= 9 && code <= 13) || (code >= 28 && code <= 32) || code == 0x85 || code == 0xa0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
         code == 0x3000;
}

// _npy.read_npy of a member, whose declared bytes the header must account for.
Array read_member(const std::string& data, uint64_t declared_bytes, uint64_t most) {
  const NpyHeader header = read_npy_header(data);
  if (header.kind == 'O') throw Unreadable("it holds a pickled object array, which is never loaded");
  if (header.kind == 'S' || header.kind == 'U' || header.kind == 'c') {
    throw Unreadable("it holds " + header.name + ", which is not a number");
  }
  const uint64_t size = header.size_bytes();
  if (size > most) {
    throw Unreadable("more than " + with_commas_unsigned(most) + " bytes of data, at most that many are read");
  }
  if (size != declared_bytes - header.header_bytes || size != data.size() - header.header_bytes) {
    throw Unreadable("its header declares " + header.text() + ", but " +
                     std::to_string(int64_t(declared_bytes) - int64_t(header.header_bytes)) + " bytes follow");
  }
  return read_npy_array(header, std::string_view(data).substr(header.header_bytes));
}

void append_number(std::string& bytes, uint64_t value, int size) {
  for (int i = 0; i < size; ++i) bytes += char(value >> (8 * i) & 0xff);
}

// What the local header and the directory say alike of a member: version, flags, method, time, date, checksum.
std::string common_fields(const std::string& name, uint32_t crc) {
  constexpr uint16_t kUtf8Name = 0x800;
  const bool ascii_only =
      std::all_of(name.begin(), name.end(), [](char byte) { return static_cast<unsigned char>(byte) < 128; });
  std::string bytes;
  append_number(bytes, 45, 2);  // the version of zip64
  append_number(bytes, ascii_only ? 0 : kUtf8Name, 2);
  append_number(bytes, 0, 2);     // stored
  append_number(bytes, 0, 2);     // midnight
  append_number(bytes, 0x21, 2);  // 1 January 1980
  append_number(bytes, crc, 4);
  return bytes;
}

void append_member(std::string& archive, std::string& directory, const std::string& name, const std::string& data) {
  constexpr uint32_t kReadable = 0600;  // by the owner
  const uint64_t offset = archive.size();
  const auto crc = uint32_t(crc32_z(0, reinterpret_cast<const Bytef*>(data.data()), data.size()));
  const std::string common = common_fields(name, crc);
  archive += "PK\x03\x04" + common;
  append_number(archive, UINT64_MAX, 8);  // the sizes are in the zip64 field
  append_number(archive, name.size(), 2);
  append_number(archive, 20, 2);
  archive += name;
  append_number(archive, 1, 2);
  append_number(archive, 16, 2);
  append_number(archive, data.size(), 8);
  append_number(archive, data.size(), 8);
  archive += data;
  if (archive.size() > UINT32_MAX) fail(LSTM_EDGE_INPUT, "arrays of 4 GiB and more cannot be written");
  directory += "PK\x01\x02";
  append_number(directory, 0x032d, 2);  // made by version 45 on Unix
  directory += common;
  append_number(directory, data.size(), 4);
  append_number(directory, data.size(), 4);
  append_number(directory, name.size(), 2);
  append_number(directory, 0, 8);  // no extra field, no comment, first disk, no attributes
  append_number(directory, kReadable << 16, 4);
  append_number(directory, offset, 4);
  directory += name;
}

}  // namespace

std::string reason(const Unreadable& error) {
  std::string line;
  bool gap = false;
  for (size_t at = 0; at < error.message.size();) {
    const char32_t character = next_character(error.message, at);
    if (is_space(character)) {
      gap = !line.empty();
      continue;
    }
    if (gap) line += ' ';
    gap = false;
    append_character(line, character);
  }
  return std::string(first_characters(line, kReasonCharacters));
}

Arrays read_npz(std::string_view bytes, size_t most_bytes) {
  try {
    const ZipArchive archive(bytes);
    Arrays arrays;
    uint64_t left = most_bytes;
    for (const ZipMember& member : archive.members) {
      const std::string data = archive.read(member, left, most_bytes);
      std::string name = member.name;
      const bool suffixed =
          name.size() >= kSuffix.size() && name.compare(name.size() - kSuffix.size(), std::string::npos, kSuffix) == 0;
      if (suffixed) name.resize(name.size() - kSuffix.size());
      arrays[name] = read_member(data, member.declared_bytes, most_bytes);
    }
    if (arrays.size() != archive.members.size()) throw Unreadable("two of its arrays have the same name");
    return arrays;
  } catch (const Unreadable& error) {
    fail(LSTM_EDGE_INPUT, "not a readable .npz file of numbers (" + reason(error) + ")");
  }
}

std::string write_npz(const Arrays& arrays) {
  std::string archive, directory;
  for (const auto& [name, array] : arrays) append_member(archive, directory, name + ".npy", write_npy(array));
  const uint64_t offset = archive.size();
  archive += directory + "PK\x05\x06";
  append_number(archive, 0, 4);
  append_number(archive, arrays.size(), 2);
  append_number(archive, arrays.size(), 2);
  append_number(archive, directory.size(), 4);
  append_number(archive, offset, 4);
  append_number(archive, 0, 2);
  return archive;
}

}  // namespace lstm_edge::device
