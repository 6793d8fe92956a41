#include "zip_archive.h"

#include <zlib.h>

#include <algorithm>
#include <optional>
#include <set>

#include "text.h"
#include "unreadable.h"
#include "zip_directory.h"

namespace lstm_edge::device {
namespace {

constexpr size_t kMostMembers = 10000;
constexpr size_t kHeaderBytes = 30;
constexpr size_t kLongestShownName = 80;
constexpr uint64_t kPiece = uint64_t(1) << 20;
constexpr uint64_t kLeastRead = 4096;  // zipfile's
constexpr uint16_t kStored = 0;
constexpr uint16_t kDeflated = 8;
constexpr uint16_t kEncrypted = 1;
constexpr uint16_t kPatched = 0x20;
constexpr uint16_t kStronglyEncrypted = 0x40;

std::string shown_name(const ZipMember& member) { return ascii(first_characters(member.name, kLongestShownName)); }

void check(const ZipMember& member, size_t file_bytes) {
  const std::string name = "the member " + shown_name(member);
  if (member.method != kStored && member.method != kDeflated) {
    throw Unreadable(name + " is compressed by method " + std::to_string(member.method) +
                     "; expected a stored or a deflated one (0 or 8)");
  }
  if (member.flags & kEncrypted) throw Unreadable(name + " is encrypted");
  if (member.packed_bytes > file_bytes) throw Unreadable(name + " is larger than the file");
}

// Where the member's header begins.
uint64_t header_place(const ZipMember& member) {
  uint64_t place = 0;
  bool large = false;
  if (member.header_offset >= member.directory_offset) {
    large = __builtin_add_overflow(member.header_offset - member.directory_offset, member.directory_start, &place);
  } else {
    const uint64_t distance = member.directory_offset - member.header_offset;
    if (distance <= member.directory_start) return member.directory_start - distance;
    place = distance - member.directory_start;
    if (place <= uint64_t(INT64_MAX)) throw Unreadable("negative seek value -" + std::to_string(place));
  }
  if (large || place > uint64_t(INT64_MAX)) throw Unreadable("Python int too large to convert to C ssize_t");
  return place;
}

// Unpacks deflated bytes, at most a number of bytes at a time: zlib.decompressobj(-15).
class Inflater {
 public:
  Inflater() {
    if (inflateInit2(&stream_, -15) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Appends up to `most` bytes; what is not used of the input is kept as `tail`.
  void run(std::string_view input, uint64_t most, std::string& out) {
    const size_t before = out.size();
    out.resize(before + size_t(most));
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = uInt(input.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    stream_.avail_out = uInt(most);
    const int result = inflate(&stream_, Z_SYNC_FLUSH);
    out.resize(out.size() - stream_.avail_out);
    tail = input.substr(input.size() - stream_.avail_in);
    ended = result == Z_STREAM_END;
    if (ended) {
      tail = {};
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      const std::string message = stream_.msg != nullptr ? stream_.msg : "invalid input data";
      throw Unreadable("Error " + std::to_string(result) + " while decompressing data: " + message);
    }
  }

  std::string_view tail;
  bool ended = false;

 private:
  z_stream stream_ = {};
};

// A member's bytes in the steps of zipfile.ZipExtFile, so that damage is noticed at the same place.
class Reading {
 public:
  Reading(std::string_view file, size_t at, const ZipMember& member)
      : file_(file), at_(at), member_(member), packed_left_(member.packed_bytes), left_(member.declared_bytes) {
    if (member.method == kDeflated) inflater_.emplace();
  }

  bool ended() const { return ended_; }

  // Appends the next bytes, about `wanted`.
  uint64_t read(uint64_t wanted, std::string& out) {
    const size_t before = out.size();
    if (inflater_.has_value()) {
      unpack(wanted, out);
    } else {
      out += next_packed(wanted);
      ended_ = packed_left_ == 0;
    }
    const uint64_t size = std::min<uint64_t>(out.size() - before, left_);
    out.resize(before + size_t(size));
    left_ -= size;
    ended_ = ended_ || left_ == 0;
    crc_ = uint32_t(crc32_z(crc_, reinterpret_cast<const Bytef*>(out.data() + before), size_t(size)));
    if (ended_ && crc_ != member_.crc) throw Unreadable("Bad CRC-32 for file " + repr(member_.name));
    return size;
  }

 private:
  std::string_view next_packed(uint64_t wanted) {
    if (packed_left_ == 0) return {};
    const uint64_t size = std::min(std::max(wanted, kLeastRead), packed_left_);
    const std::string_view data = at_ < file_.size() ? file_.substr(at_, size_t(size)) : std::string_view();
    at_ += data.size();
    packed_left_ -= data.size();
    if (data.empty()) throw Unreadable("EOFError");
    return data;
  }

  void unpack(uint64_t wanted, std::string& out) {
    Inflater& inflater = *inflater_;
    // The tail ends where the next packed bytes begin.
    std::string_view input = inflater.tail;
    if (wanted > input.size()) {
      const std::string_view more = next_packed(wanted - input.size());
      input = input.empty() ? more : std::string_view(input.data(), input.size() + more.size());
    }
    inflater.run(input, std::max(wanted, kLeastRead), out);
    ended_ = inflater.ended || (packed_left_ == 0 && inflater.tail.empty());
    // At the end of the packed bytes, what the last match still gives.
    while (ended_ && !inflater.ended) {
      const size_t before = out.size();
      inflater.run({}, kLeastRead, out);
      if (out.size() == before) break;
    }
  }

  std::string_view file_;
  size_t at_;
  const ZipMember& member_;
  uint64_t packed_left_;
  uint64_t left_;
  uint32_t crc_ = 0;
  bool ended_ = false;
  std::optional<Inflater> inflater_;
};

}  // namespace

ZipArchive::ZipArchive(std::string_view bytes) : members(read_zip_directory(bytes)), bytes_(bytes) {
  if (members.size() > kMostMembers) {
    throw Unreadable("the archive lists more members than the " + std::to_string(kMostMembers) + " allowed");
  }
  std::set<std::string_view> names;
  for (const ZipMember& member : members) {
    check(member, bytes.size());
    if (!names.insert(member.name).second) {
      throw Unreadable("the archive has two members called " + shown_name(member));
    }
  }
}

size_t ZipArchive::data_offset(const ZipMember& member) const {
  const auto start = size_t(std::min<uint64_t>(header_place(member), bytes_.size()));
  const std::string_view header = bytes_.substr(start, kHeaderBytes);
  if (header.size() != kHeaderBytes) throw Unreadable("Truncated file header");
  if (header.substr(0, 4) != "PK\x03\x04") throw Unreadable("Bad magic number for file header");
  const auto name_bytes = size_t(little_endian(header, 26, 2));
  const std::string_view name = bytes_.substr(start + kHeaderBytes, name_bytes);
  if (member.flags & kPatched) throw Unreadable("compressed patched data (flag bit 5)");
  if (member.flags & kStronglyEncrypted) throw Unreadable("strong encryption (flag bit 6)");
  if (zip_name(name, uint16_t(little_endian(header, 6, 2))) != member.original_name) {
    throw Unreadable("File name in directory " + repr(member.original_name) + " and header " + repr_of_bytes(name) +
                     " differ.");
  }
  return start + kHeaderBytes + name.size() + size_t(little_endian(header, 28, 2));
}

std::string ZipArchive::read(const ZipMember& member, uint64_t& left, uint64_t most) const {
  Reading reading(bytes_, data_offset(member), member);
  std::string data;
  while (!reading.ended()) {
    uint64_t piece = 0;
    while (piece < kPiece && !reading.ended()) piece += reading.read(kPiece - piece, data);
    if (piece > left) {
      throw Unreadable("more than " + with_commas_unsigned(most) + " bytes of data, at most that many are read");
    }
    left -= piece;
  }
  return data;
}

}  // namespace lstm_edge::device
