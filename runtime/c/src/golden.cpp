#include "golden.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "base64.h"
#include "error.h"
#include "json.h"
#include "npy.h"
#include "text.h"
#include "unreadable.h"
#include "zip_archive.h"

namespace lstm_edge::device {
namespace {

constexpr size_t kMostTextBytes = 64 * 1024;
// Limit of the unpacked archive: 64 KiB of text can hold about 48 MB of zeros.
constexpr uint64_t kMostUnpackedBytes = 16 << 20;
constexpr double kLargestTolerance = 1e-2;
constexpr double kSamplesMayMiss = 10.0;
constexpr size_t kShownTolerance = 40;
constexpr size_t kMostIndexDigits = 6;
constexpr size_t kMostStrideDigits = 16;
constexpr char kDamaged[] = "the golden vectors are damaged";

[[noreturn]] void fail_damaged(const std::string& what) {
  fail(LSTM_EDGE_ARTIFACT, std::string(kDamaged) + ": " + what);
}

// value[key], with the repr of Python's exception where there is no such item.
const json::Value& item(const json::Value& value, const char* key) {
  if (const json::Value* found = value.find(key)) return *found;
  if (value.members() != nullptr) throw Unreadable("KeyError(" + repr(key) + ")");
  const std::string message = value.items() != nullptr ? "list indices must be integers or slices, not str"
                              : value.text() != nullptr
                                  ? "string indices must be integers, not 'str'"
                                  : "'" + std::string(json::type_name(value)) + "' object is not subscriptable";
  throw Unreadable("TypeError(" + repr(message) + ")");
}

std::string unpacked_text(const json::Value& value) {
  if (value.text() != nullptr) return decode_base64(*value.text());
  throw Unreadable("TypeError(" +
                   repr("argument should be a bytes-like object or ASCII string, not '" +
                        std::string(json::type_name(value)) + "'") +
                   ")");
}

Array read_array(const std::string& data) {
  const NpyHeader header = read_npy_header(data);
  const size_t follow = data.size() - header.header_bytes;
  if (std::string_view("biuf").find(header.kind) == std::string_view::npos || header.size_bytes() != follow) {
    throw Unreadable("an array declares " + header.text() + ", but " + std::to_string(follow) + " bytes follow");
  }
  return read_npy_array(header, std::string_view(data).substr(header.header_bytes));
}

struct NamedArray {
  std::string name;
  Array array;
};

// The decimal digits of a sum that may be larger than a uint64_t.
std::string sum_text(const std::vector<ZipMember>& members) {
  constexpr uint64_t kHalf = 1000000000000000000;
  uint64_t low = 0;
  uint64_t high = 0;
  for (const ZipMember& member : members) {
    low += member.declared_bytes % kHalf;
    high += member.declared_bytes / kHalf + low / kHalf;
    low %= kHalf;
  }
  const std::string digits = std::to_string(low);
  return high == 0 ? digits : std::to_string(high) + std::string(18 - digits.size(), '0') + digits;
}

std::vector<NamedArray> unpack(const std::string& packed) {
  try {
    const ZipArchive archive(packed);
    uint64_t declared = 0;
    for (const ZipMember& member : archive.members) {
      if (__builtin_add_overflow(declared, member.declared_bytes, &declared)) declared = UINT64_MAX;
    }
    if (declared > kMostUnpackedBytes) {
      fail_damaged("they unpack to " + sum_text(archive.members) + " bytes, at most " +
                   std::to_string(kMostUnpackedBytes) + " are allowed");
    }
    std::vector<NamedArray> arrays;
    uint64_t left = kMostUnpackedBytes;
    for (const ZipMember& member : archive.members) {
      arrays.push_back({member.name, read_array(archive.read(member, left, kMostUnpackedBytes))});
    }
    return arrays;
  } catch (const Unreadable& error) {
    fail_damaged("the archive cannot be read (" + reason(error) + ")");
  }
}

bool is_number(std::string_view text, size_t most_digits) {
  return !text.empty() && text.size() <= most_digits && text[0] != '0' &&
         std::all_of(text.begin(), text.end(), [](char byte) { return byte >= '0' && byte <= '9'; });
}

// "<vector>.in.<graph input>.npy" or "<vector>.out.<graph output>.npy"
struct MemberName {
  int64_t vector = 0;
  bool output = false;
  std::string name;
};

std::optional<MemberName> parse_member_name(std::string_view text) {
  const size_t point = text.find('.');
  if (point == std::string_view::npos) return std::nullopt;
  const std::string_view digits = text.substr(0, point);
  if (digits != "0" && !is_number(digits, kMostIndexDigits)) return std::nullopt;
  std::string_view rest = text.substr(point + 1);
  MemberName member;
  member.output = rest.substr(0, 4) == "out.";
  if (!member.output && rest.substr(0, 3) != "in.") return std::nullopt;
  rest.remove_prefix(member.output ? 4 : 3);
  constexpr std::string_view kSuffix = ".npy";
  if (rest.size() <= kSuffix.size() || rest.substr(rest.size() - kSuffix.size()) != kSuffix) return std::nullopt;
  member.vector = std::stoll(std::string(digits));
  member.name = rest.substr(0, rest.size() - kSuffix.size());
  return member;
}

// The stride of a name of the form "<name>@<stride>", which is then cut to "<name>".
std::optional<int64_t> take_stride(std::string& name) {
  const size_t at = name.rfind('@');
  if (at == std::string::npos || !is_number(std::string_view(name).substr(at + 1), kMostStrideDigits)) {
    return std::nullopt;
  }
  const int64_t stride = std::stoll(name.substr(at + 1));
  name.resize(at);
  return stride;
}

std::vector<GoldenVector> group(std::vector<NamedArray> members) {
  std::map<int64_t, GoldenVector> vectors;
  std::set<int64_t> with_inputs, with_outputs;
  for (NamedArray& member : members) {
    std::optional<MemberName> name = parse_member_name(member.name);
    if (!name.has_value()) fail_damaged("unexpected member " + repr(member.name));
    GoldenVector& vector = vectors[name->vector];
    if (name->output) {
      if (const auto stride = take_stride(name->name)) vector.strides[name->name] = *stride;
    }
    (name->output ? with_outputs : with_inputs).insert(name->vector);
    (name->output ? vector.outputs : vector.inputs)[name->name] = std::move(member.array);
  }
  const bool from_zero = vectors.empty() || vectors.rbegin()->first == int64_t(vectors.size()) - 1;
  if (with_inputs != with_outputs || !from_zero) fail_damaged("a vector lacks its inputs or its outputs");
  std::vector<GoldenVector> grouped;
  for (auto& [index, vector] : vectors) grouped.push_back(std::move(vector));
  return grouped;
}

double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  if (exponent == 31) return fraction == 0 ? INFINITY : NAN;
  return exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
}

// The largest finite magnitude of elements of a type; 0 if there is none.
template <typename T, typename Convert>
double largest_of(const Array& array, Convert convert) {
  double largest = 0;
  const T* data = array.data<T>();
  for (size_t i = 0; i < array.bytes() / sizeof(T); ++i) {
    const double magnitude = std::fabs(double(convert(data[i])));
    if (std::isfinite(magnitude)) largest = std::max(largest, magnitude);
  }
  return largest;
}

double largest_magnitude(const Array& array) {
  const auto same = [](auto value) { return value; };
  switch (array.dtype) {
    case LSTM_EDGE_FLOAT32: return largest_of<float>(array, same);
    case LSTM_EDGE_FLOAT64: return largest_of<double>(array, same);
    case LSTM_EDGE_FLOAT16: return largest_of<uint16_t>(array, [](uint16_t bits) { return half_value(bits & 0x7fff); });
    case LSTM_EDGE_BOOL: return largest_of<uint8_t>(array, [](uint8_t value) { return value != 0 ? 1 : 0; });
    case LSTM_EDGE_UINT8: return largest_of<uint8_t>(array, same);
    case LSTM_EDGE_INT8: return largest_of<int8_t>(array, same);
    case LSTM_EDGE_UINT16: return largest_of<uint16_t>(array, same);
    case LSTM_EDGE_INT16: return largest_of<int16_t>(array, same);
    case LSTM_EDGE_UINT32: return largest_of<uint32_t>(array, same);
    case LSTM_EDGE_INT32: return largest_of<int32_t>(array, same);
    case LSTM_EDGE_UINT64: return largest_of<uint64_t>(array, same);
    case LSTM_EDGE_INT64: return largest_of<int64_t>(array, same);
  }
  return 0;
}

// The value of a number from 0 to the largest float; nothing for other values. An integer of JSON may be larger than
// any float.
std::optional<double> finite_number(const json::Value& value) {
  double number = NAN;
  if (const int64_t* whole = value.whole()) number = double(*whole);
  if (const double* given = value.number()) number = *given;
  if (const json::LargeInteger* large = value.large()) number = parse_float(large->digits);
  return number >= 0 && number <= DBL_MAX ? std::optional(number) : std::nullopt;
}

double check_tolerance(const std::string& path, const json::Value& value, double largest, const std::string& what,
                       bool sampled) {
  const std::string start = "golden vectors: " + path;
  const std::string shown = json::repr_start(value, kShownTolerance);
  const std::optional<double> number = finite_number(value);
  if (!number.has_value()) {
    fail(LSTM_EDGE_ARTIFACT, start + " must be a finite number of at least 0, got " + shown);
  }
  const double most = kLargestTolerance * std::max(1.0, largest) * (sampled ? kSamplesMayMiss : 1.0);
  if (*number > most) {
    fail(LSTM_EDGE_ARTIFACT, start + " is " + shown + ", at most " + general(most, 3) + " is allowed for " + what +
                                 " of up to " + general(largest, 3) +
                                 ": other weights would also pass with it; export the model again");
  }
  return *number;
}

// A tolerance that other weights would also meet is refused; see Golden in golden.py.
void check_tolerances(Golden& golden, const json::Value& tolerance) {
  std::map<std::string, double> largest;
  std::set<std::string> sampled;
  double overall = 0;
  for (const GoldenVector& vector : golden.vectors) {
    for (const auto& [name, array] : vector.outputs) {
      double& found = largest[name];
      found = std::max(found, largest_magnitude(array));
      overall = std::max(overall, found);
    }
    for (const auto& [name, stride] : vector.strides) {
      if (stride > 1) sampled.insert(name);
    }
  }
  const auto check = [&](const char* kind) {
    const std::string path = std::string("tolerance.") + kind;
    return check_tolerance(path, item(tolerance, kind), overall, "expected outputs", !sampled.empty());
  };
  golden.tolerance_bodies = check("bodies");
  golden.tolerance_kernels = check("kernels");
  const json::Value* outputs = tolerance.find("outputs");
  if (outputs == nullptr) return;
  if (outputs->members() == nullptr) {
    fail(LSTM_EDGE_ARTIFACT,
         "golden vectors: tolerance.outputs must be an object, got " + json::repr_start(*outputs, kShownTolerance));
  }
  for (const auto& [name, value] : *outputs->members()) {
    const auto found = largest.find(name);
    if (found == largest.end()) {
      fail(LSTM_EDGE_ARTIFACT,
           "golden vectors: tolerance.outputs has " + repr(name) + ", which is not among the outputs");
    }
    golden.tolerance_outputs[name] = check_tolerance("tolerance.outputs[" + repr(name) + "]", value, found->second,
                                                     "expected values of " + repr(name), sampled.count(name) > 0);
  }
}

json::Value parse_document(std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::Refused& refused) {
    throw Unreadable(refused.type + "(" + repr(refused.message) + ")");
  }
}

}  // namespace

double Golden::tolerance(const std::string& output, bool kernels) const {
  const double whole = kernels ? tolerance_kernels : tolerance_bodies;
  const auto own = tolerance_outputs.find(output);
  return own == tolerance_outputs.end() ? whole : std::min(whole, own->second);
}

Golden decode_golden(std::string_view text) {
  if (const size_t characters = character_count(text); characters > kMostTextBytes) {
    fail_damaged(std::to_string(characters) + " bytes of text, at most " + std::to_string(kMostTextBytes) +
                 " are allowed");
  }
  try {
    const json::Value document = parse_document(text);
    const json::Value& tolerance = item(document, "tolerance");
    item(tolerance, "bodies");
    item(tolerance, "kernels");
    const std::string packed = unpacked_text(item(document, "npz"));
    Golden golden;
    golden.vectors = group(unpack(packed));
    check_tolerances(golden, tolerance);
    return golden;
  } catch (const Unreadable& error) {
    fail_damaged("the text is not the JSON that was expected (" + error.message + ")");
  }
}

}  // namespace lstm_edge::device
