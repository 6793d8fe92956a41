#include "array.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "error.h"

namespace lstm_edge::device {
namespace {

struct Name {
  lstm_edge_dtype dtype;
  const char* name;
  size_t bytes;
};

constexpr Name kNames[] = {
    {LSTM_EDGE_FLOAT32, "float32", 4}, {LSTM_EDGE_UINT8, "uint8", 1},   {LSTM_EDGE_INT8, "int8", 1},
    {LSTM_EDGE_UINT16, "uint16", 2},   {LSTM_EDGE_INT16, "int16", 2},   {LSTM_EDGE_INT32, "int32", 4},
    {LSTM_EDGE_INT64, "int64", 8},     {LSTM_EDGE_BOOL, "bool", 1},     {LSTM_EDGE_FLOAT16, "float16", 2},
    {LSTM_EDGE_FLOAT64, "float64", 8}, {LSTM_EDGE_UINT32, "uint32", 4}, {LSTM_EDGE_UINT64, "uint64", 8},
};

constexpr size_t kAlignment = 64;  // a cache line

const Name& find(lstm_edge_dtype dtype) {
  for (const Name& one : kNames) {
    if (one.dtype == dtype) return one;
  }
  fail(LSTM_EDGE_MISUSE, "unknown dtype " + std::to_string(int(dtype)) + ": expected a value of lstm_edge_dtype");
}

}  // namespace

size_t item_size(lstm_edge_dtype dtype) { return find(dtype).bytes; }

const char* dtype_name(lstm_edge_dtype dtype) { return find(dtype).name; }

lstm_edge_dtype dtype_of(std::string_view name) {
  for (const Name& one : kNames) {
    if (name == one.name) return one.dtype;
  }
  return lstm_edge_dtype(0);
}

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

int64_t element_count(const int64_t* sizes, size_t rank) {
  int64_t count = 1;
  for (size_t i = 0; i < rank; ++i) {
    if (sizes[i] == 0) return 0;  // the other axes of an empty array may multiply to any number
  }
  for (size_t i = 0; i < rank; ++i) {
    if (sizes[i] < 0 || __builtin_mul_overflow(count, sizes[i], &count)) {
      fail(LSTM_EDGE_INPUT, "an array of shape " + shape_text(Shape(sizes, sizes + rank)) + " is too large");
    }
  }
  return count;
}

Array::Array(lstm_edge_dtype dtype, Shape shape) : dtype(dtype), shape(std::move(shape)) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(element_count(this->shape), int64_t(item_size(dtype)), &bytes) || bytes > INT64_MAX - 64) {
    fail(LSTM_EDGE_INPUT, "an array of shape " + shape_text(this->shape) + " is too large");
  }
  bytes_ = size_t(bytes);
  const size_t padded = (bytes_ / kAlignment + 1) * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, padded);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, padded);
  memory_.reset(static_cast<std::byte*>(memory));
}

void Array::Free::operator()(std::byte* memory) const { std::free(memory); }

}  // namespace lstm_edge::device
