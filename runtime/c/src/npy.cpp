#include "npy.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "row_bytes.h"
#include "text.h"
#include "unreadable.h"

namespace lstm_edge::device {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kStart = 8;
constexpr uint64_t kLongestHeader = 10000;
constexpr size_t kShown = 80;
constexpr size_t kMostAxes = 64;  // NumPy's
constexpr size_t kMostSizeDigits = 18;
constexpr size_t kWrittenAlignment = 64;

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// str.isspace of a character of Latin-1.
bool is_space(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  return (code >= 9 && code <= 13) || (code >= 28 && code <= 32) || code == 0x85 || code == 0xa0;
}

std::string_view stripped(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::string from_latin1(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) append_character(text, static_cast<unsigned char>(byte));
  return text;
}

// The entries of a header as text.
struct Entries {
  std::optional<std::string_view> descr, fortran_order, shape;
};

// Reads ``{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }``, the keys in any order.
class EntryReader {
 public:
  explicit EntryReader(std::string_view body) : body_(body) {}

  // Nothing if the text is no such header.
  std::optional<Entries> entries() {
    if (!take("{")) return std::nullopt;
    Entries entries;
    while (true) {
      std::optional<std::string_view>* value = key(entries);
      if (value == nullptr || value->has_value()) return std::nullopt;
      *value = value == &entries.descr ? descr() : value == &entries.shape ? shape() : flag();
      if (!value->has_value()) return std::nullopt;
      skip_space();
      const bool comma = take(",");
      const size_t after = at_;
      skip_space();
      if (take("}")) break;
      if (!comma) return std::nullopt;
      at_ = after;
    }
    const bool whole = entries.descr && entries.fortran_order && entries.shape && at_ == body_.size();
    return whole ? std::optional(entries) : std::nullopt;
  }

 private:
  bool take(std::string_view word) {
    if (body_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  bool quote() { return take("'") || take("\""); }
  void skip_space() {
    while (at_ < body_.size() && is_space(body_[at_])) ++at_;
  }

  std::optional<std::string_view>* key(Entries& entries) {
    skip_space();
    if (!quote()) return nullptr;
    auto* value = take("descr")           ? &entries.descr
                  : take("fortran_order") ? &entries.fortran_order
                  : take("shape")         ? &entries.shape
                                          : nullptr;
    if (value == nullptr || !quote()) return nullptr;
    skip_space();
    if (!take(":")) return nullptr;
    skip_space();
    return value;
  }

  std::optional<std::string_view> descr() {
    if (!quote()) return std::nullopt;
    const size_t start = at_;
    const auto next_in = [&](std::string_view set) {
      return at_ < body_.size() && set.find(body_[at_]) != std::string_view::npos;
    };
    if (next_in("<>|=")) ++at_;
    if (!next_in("biufcSUO?")) return std::nullopt;
    ++at_;
    for (int digits = 0; digits < 9 && at_ < body_.size() && is_digit(body_[at_]); ++digits) ++at_;
    const std::string_view found = body_.substr(start, at_ - start);
    return quote() ? std::optional(found) : std::nullopt;
  }

  std::optional<std::string_view> flag() {
    const size_t start = at_;
    if (!take("True") && !take("False")) return std::nullopt;
    return body_.substr(start, at_ - start);
  }

  std::optional<std::string_view> shape() {
    if (!take("(")) return std::nullopt;
    const size_t start = at_;
    while (at_ < body_.size() &&
           (is_digit(body_[at_]) || body_[at_] == 'L' || body_[at_] == ',' || is_space(body_[at_]))) {
      ++at_;
    }
    const std::string_view found = body_.substr(start, at_ - start);
    return take(")") ? std::optional(found) : std::nullopt;
  }

  std::string_view body_;
  size_t at_ = 0;
};

Shape parse_shape(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t start = 0;;) {
    const size_t comma = text.find(',', start);
    std::string_view part = stripped(text.substr(start, comma == std::string_view::npos ? comma : comma - start));
    // Python 2 wrote 3L for a long integer.
    if (!part.empty() && part.back() == 'L') part.remove_suffix(1);
    parts.push_back(part);
    if (comma == std::string_view::npos) break;
    start = comma + 1;
  }
  const bool trailing = parts.back().empty();
  const size_t count = parts.size() - (trailing ? 1 : 0);
  // One size without a comma is a number, not a tuple.
  bool fine = trailing || parts.size() != 1;
  Shape shape;
  for (size_t i = 0; fine && i < count; ++i) {
    fine = !parts[i].empty() && parts[i].size() <= kMostSizeDigits &&
           std::all_of(parts[i].begin(), parts[i].end(), is_digit);
    if (fine) shape.push_back(std::stoll(std::string(parts[i])));
  }
  if (!fine) throw Unreadable("its header declares the shape (" + from_latin1(text.substr(0, kShown)) + ")");
  return shape;
}

[[noreturn]] void fail_dtype(std::string_view descr) {
  throw Unreadable("data type '" + std::string(descr) + "' not understood");
}

// The dtypes of numbers by NumPy's kind and number of bytes.
struct Numbers {
  char kind;
  uint64_t bytes;
  const char* name;
};
constexpr Numbers kNumbers[] = {
    {'b', 1, "bool"},      {'i', 1, "int8"},      {'i', 2, "int16"},       {'i', 4, "int32"},
    {'i', 8, "int64"},     {'u', 1, "uint8"},     {'u', 2, "uint16"},      {'u', 4, "uint32"},
    {'u', 8, "uint64"},    {'f', 2, "float16"},   {'f', 4, "float32"},     {'f', 8, "float64"},
    {'f', 16, "float128"}, {'c', 8, "complex64"}, {'c', 16, "complex128"}, {'c', 32, "complex256"},
};

void set_number(NpyHeader& header, char kind, uint64_t bytes, std::string_view descr) {
  for (const Numbers& one : kNumbers) {
    if (one.kind != kind || one.bytes != bytes) continue;
    header.kind = kind;
    header.item_bytes = bytes;
    header.swapped = header.swapped && bytes > 1;
    header.name = header.swapped ? ">" + std::string(1, kind) + std::to_string(bytes) : one.name;
    return;
  }
  fail_dtype(descr);
}

// np.dtype(descr)
void parse_dtype(NpyHeader& header, std::string_view descr) {
  std::string_view rest = descr;
  header.swapped = rest.front() == '>';
  if (std::string_view("<>|=").find(rest.front()) != std::string_view::npos) rest.remove_prefix(1);
  const char letter = rest.front();
  rest.remove_prefix(1);
  const uint64_t number = rest.empty() ? 0 : std::stoull(std::string(rest));
  const bool bare = rest.empty();
  if (letter == 'S' || (letter == 'c' && bare)) {
    header.kind = 'S';
    header.item_bytes = letter == 'c' ? 1 : number;
    header.name = "|S" + std::to_string(header.item_bytes);
  } else if (letter == 'U') {
    if (number * 4 > uint64_t(INT32_MAX)) fail_dtype(descr);
    header.kind = 'U';
    header.item_bytes = number * 4;
    header.name = (header.swapped ? ">U" : "<U") + std::to_string(number);
  } else if (letter == 'O') {
    if (!bare && number != 4 && number != 8) fail_dtype(descr);
    header.kind = 'O';
    header.item_bytes = 8;
    header.name = "object";
  } else if (letter == '?') {
    if (!bare) fail_dtype(descr);
    set_number(header, 'b', 1, descr);
  } else if (bare && letter != 'u') {
    set_number(header, letter == 'b' ? 'i' : letter, letter == 'b' ? 1 : 4, descr);  // C's types char, int and float
  } else {
    set_number(header, letter, number, descr);
  }
}

std::string_view exactly(std::string_view data, size_t at, size_t size) {
  if (data.size() < at + size) throw Unreadable("it ends within its header");
  return data.substr(at, size);
}

// NumPy's errors for shapes that no array has; the bytes of an array with elements were counted before.
void check_shape(const NpyHeader& header) {
  if (header.shape.size() > kMostAxes) {
    throw Unreadable("maximum supported dimension for an ndarray is currently 64, found " +
                     std::to_string(header.shape.size()));
  }
  int64_t elements = 1;
  auto bytes = int64_t(std::max<uint64_t>(header.item_bytes, 1));
  bool large = false;
  bool empty = false;
  for (const int64_t size : header.shape) {
    empty = empty || size == 0;
    if (!empty && __builtin_mul_overflow(elements, size, &elements)) {
      std::vector<std::string> sizes;
      for (const int64_t one : header.shape) sizes.push_back(std::to_string(one));
      throw Unreadable("cannot reshape array of size 0 into shape (" + joined(sizes, ",") + ")");
    }
    large = large || (size != 0 && __builtin_mul_overflow(bytes, size, &bytes));
  }
  if (large) {
    throw Unreadable("array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size.");
  }
}

// The elements of `from`, whose first axis changes fastest, in C order.
void copy_from_fortran_order(Array& array, const char* from, size_t item) {
  const size_t rank = array.shape.size();
  std::vector<size_t> strides(rank, item), index(rank, 0);
  for (size_t i = 1; i < rank; ++i) strides[i] = strides[i - 1] * size_t(array.shape[i - 1]);
  char* to = array.data<char>();
  for (char* end = to + array.bytes(); to != end; to += item) {
    size_t offset = 0;
    for (size_t i = 0; i < rank; ++i) offset += index[i] * strides[i];
    std::memcpy(to, from + offset, item);
    for (size_t i = rank; i-- > 0 && ++index[i] == size_t(array.shape[i]);) index[i] = 0;
  }
}

}  // namespace

uint64_t NpyHeader::size_bytes() const {
  uint64_t bytes = item_bytes;
  bool large = false;
  for (const int64_t size : shape) {
    if (size == 0) return 0;
    large = large || __builtin_mul_overflow(bytes, uint64_t(size), &bytes);
  }
  return large ? UINT64_MAX : bytes;
}

std::string NpyHeader::text() const {
  std::vector<std::string> sizes;
  for (const int64_t size : shape) sizes.push_back(std::to_string(size));
  return name + " (" + joined(sizes) + (sizes.size() == 1 ? ",)" : ")");
}

NpyHeader read_npy_header(std::string_view data) {
  const std::string_view start = exactly(data, 0, kStart);
  if (start.substr(0, kMagic.size()) != kMagic) {
    throw Unreadable("it does not start with the magic bytes of the .npy format");
  }
  const auto major = static_cast<unsigned char>(start[6]);
  const auto minor = static_cast<unsigned char>(start[7]);
  if ((major != 1 && major != 2) || minor != 0) {
    throw Unreadable("it is in version " + std::to_string(major) + "." + std::to_string(minor) +
                     " of the .npy format, expected 1.0 or 2.0");
  }
  const size_t digits = major == 1 ? 2 : 4;
  uint64_t length = 0;
  const std::string_view written = exactly(data, kStart, digits);
  for (size_t i = digits; i-- > 0;) length = length << 8 | static_cast<unsigned char>(written[i]);
  if (length > kLongestHeader) {
    throw Unreadable("its header has " + with_commas_unsigned(length) + " bytes, at most " +
                     with_commas_unsigned(kLongestHeader) + " are read");
  }
  const std::string_view body = stripped(exactly(data, kStart + digits, size_t(length)));
  const std::optional<Entries> entries = EntryReader(body).entries();
  if (!entries.has_value()) {
    throw Unreadable("its header does not describe an array of numbers: " + ascii(from_latin1(body.substr(0, kShown))));
  }
  NpyHeader header;
  parse_dtype(header, *entries->descr);
  header.shape = parse_shape(*entries->shape);
  header.fortran_order = *entries->fortran_order == "True";
  header.header_bytes = kStart + digits + size_t(length);
  const bool empty = std::find(header.shape.begin(), header.shape.end(), 0) != header.shape.end();
  // With elements of 0 bytes a small file could declare an array of any length.
  if (header.item_bytes == 0 && !empty) {
    std::vector<std::string> sizes;
    for (const int64_t size : header.shape) sizes.push_back(std::to_string(size));
    throw Unreadable("it declares " + with_commas(product(sizes)) + " elements of 0 bytes");
  }
  return header;
}

Array read_npy_array(const NpyHeader& header, std::string_view data) {
  check_shape(header);
  std::string name = header.name;
  for (const Numbers& one : kNumbers) {
    if (one.kind == header.kind && one.bytes == header.item_bytes) name = one.name;
  }
  const lstm_edge_dtype dtype = dtype_of(name);
  if (dtype == 0) throw Unreadable("an array has dtype " + header.name + ", which no input or output has");
  Array array(dtype, header.shape);
  if (header.fortran_order) {
    copy_from_fortran_order(array, data.data(), size_t(header.item_bytes));
  } else if (array.bytes() != 0) {
    std::memcpy(array.data<char>(), data.data(), array.bytes());
  }
  if (header.swapped) {
    char* end = array.data<char>() + array.bytes();
    for (char* at = array.data<char>(); at != end; at += header.item_bytes) std::reverse(at, at + header.item_bytes);
  }
  return array;
}

std::string write_npy(const Array& array) {
  std::vector<std::string> sizes;
  for (const int64_t size : array.shape) sizes.push_back(std::to_string(size));
  std::string name = dtype_name(array.dtype);
  const size_t item = item_size(array.dtype);
  const char kind = name == "bool" ? 'b' : name[0];
  std::string header = std::string("{'descr': '") + (item == 1 ? '|' : '<') + kind + std::to_string(item) +
                       "', 'fortran_order': False, 'shape': (" + joined(sizes) + (sizes.size() == 1 ? "," : "") +
                       "), }";
  // NumPy leaves room for a first size of 21 digits, and ends the header at a multiple of 64 bytes.
  if (!sizes.empty()) header += std::string(21 - sizes[0].size(), ' ');
  const size_t before = kMagic.size() + 4;
  header += std::string(kWrittenAlignment - (before + header.size() + 1) % kWrittenAlignment, ' ') + "\n";
  std::string bytes(kMagic);
  bytes += {'\x01', '\x00', char(header.size() & 0xff), char(header.size() >> 8)};
  bytes += header;
  return bytes.append(array.data<char>(), array.bytes());
}

}  // namespace lstm_edge::device
