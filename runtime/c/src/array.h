// Arrays: an element type, a shape and C-contiguous memory; NumPy's names of element types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lstm_edge.h"

namespace lstm_edge::device {

using Shape = std::vector<int64_t>;

// Bytes of one element.
size_t item_size(lstm_edge_dtype dtype);
// NumPy's name, such as "float32".
const char* dtype_name(lstm_edge_dtype dtype);
// The element type of NumPy's name; 0 where there is none.
lstm_edge_dtype dtype_of(std::string_view name);
// As Python prints a list of numbers: "[1, 2]".
std::string shape_text(const Shape& shape);
int64_t element_count(const int64_t* sizes, size_t rank);
inline int64_t element_count(const Shape& shape) { return element_count(shape.data(), shape.size()); }

// Owns its memory, which begins at a multiple of 64 bytes and is zero at first. Moving it leaves the memory in place.
class Array {
 public:
  Array() = default;
  Array(lstm_edge_dtype dtype, Shape shape);

  size_t bytes() const { return bytes_; }
  template <typename T>
  T* data() {
    return reinterpret_cast<T*>(memory_.get());
  }
  template <typename T>
  const T* data() const {
    return reinterpret_cast<const T*>(memory_.get());
  }

  lstm_edge_dtype dtype = LSTM_EDGE_FLOAT32;
  Shape shape;

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte[], Free> memory_;
  size_t bytes_ = 0;
};

}  // namespace lstm_edge::device
