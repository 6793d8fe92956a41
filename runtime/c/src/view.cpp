#include "view.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "error.h"
#include "finite.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

template <typename T>
T read(const void* data, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + size_t(index) * sizeof(T), sizeof(T));
  return value;
}

double from_half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024, exponent - 25);
  if (exponent == 31) {
    value = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  return bits >> 15 ? -value : value;
}

}  // namespace

bool View::has_shape(const Shape& other) const {
  return rank == other.size() && std::equal(other.begin(), other.end(), shape);
}

int64_t View::count() const { return element_count(shape, rank); }

View view_of(std::string_view name, const Array& array) {
  return {name, array.dtype, array.shape.data(), array.shape.size(), array.data<void>()};
}

View view_of(const lstm_edge_array& array) {
  const std::string_view name = array.name == nullptr ? "" : array.name;
  if (array.rank < 0 || array.rank > LSTM_EDGE_MOST_AXES) {
    fail(LSTM_EDGE_MISUSE, "array " + repr(name) + " has rank " + std::to_string(array.rank) + ", expected 0 to " +
                               std::to_string(LSTM_EDGE_MOST_AXES));
  }
  item_size(array.dtype);  // throws if it is none
  const View view{name, array.dtype, array.shape, size_t(array.rank), array.data};
  if (std::any_of(array.shape, array.shape + array.rank, [](int64_t size) { return size < 0; })) {
    fail(LSTM_EDGE_MISUSE, "array " + repr(name) + " has shape " + shape_text(view.sizes()) + ": a size is negative");
  }
  if (array.data == nullptr && view.count() > 0) fail(LSTM_EDGE_MISUSE, "array " + repr(name) + ": data is NULL");
  return view;
}

Lent lent_of(std::string_view name, const View& view) {
  return {std::string(name), view.dtype, view.sizes(), const_cast<void*>(view.data)};
}

Lent lent_of(std::string_view name, Array& array) {
  return {std::string(name), array.dtype, array.shape, array.data<void>()};
}

Array copy_of(const View& view) { return copy_of(view, view.sizes()); }

Array copy_of(const View& view, Shape shape) {
  Array array(view.dtype, std::move(shape));
  if (array.bytes() > 0) std::memcpy(array.data<void>(), view.data, array.bytes());
  return array;
}

bool same_values(const Array& a, const Array& b) {
  if (a.shape != b.shape) return false;
  const View left = view_of("", a), right = view_of("", b);
  if (a.dtype == b.dtype && !is_float(a.dtype)) {
    return a.bytes() == 0 || std::memcmp(left.data, right.data, a.bytes()) == 0;
  }
  for (int64_t i = 0; i < left.count(); ++i) {
    if (!(element(left, i) == element(right, i))) return false;
  }
  return true;
}

double element(const View& view, int64_t index) {
  switch (view.dtype) {
    case LSTM_EDGE_FLOAT32: return read<float>(view.data, index);
    case LSTM_EDGE_FLOAT64: return read<double>(view.data, index);
    case LSTM_EDGE_FLOAT16: return from_half(read<uint16_t>(view.data, index));
    case LSTM_EDGE_UINT8: return read<uint8_t>(view.data, index);
    case LSTM_EDGE_INT8: return read<int8_t>(view.data, index);
    case LSTM_EDGE_UINT16: return read<uint16_t>(view.data, index);
    case LSTM_EDGE_INT16: return read<int16_t>(view.data, index);
    case LSTM_EDGE_INT32: return read<int32_t>(view.data, index);
    case LSTM_EDGE_INT64: return double(read<int64_t>(view.data, index));
    case LSTM_EDGE_BOOL: return read<uint8_t>(view.data, index) != 0;
    case LSTM_EDGE_UINT32: return read<uint32_t>(view.data, index);
    case LSTM_EDGE_UINT64: return double(read<uint64_t>(view.data, index));
  }
  return 0;
}

bool is_float(lstm_edge_dtype dtype) {
  return dtype == LSTM_EDGE_FLOAT32 || dtype == LSTM_EDGE_FLOAT64 || dtype == LSTM_EDGE_FLOAT16;
}

bool all_finite(const View& view) {
  if (!is_float(view.dtype)) return true;
  const int64_t count = view.count();
  if (view.dtype == LSTM_EDGE_FLOAT32 && count > 0) {
    const Span spans[] = {{static_cast<const float*>(view.data), size_t(count)}, {}};
    return LstmEdgeAllFinite(spans) != 0;
  }
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(element(view, i))) return false;
  }
  return true;
}

}  // namespace lstm_edge::device
