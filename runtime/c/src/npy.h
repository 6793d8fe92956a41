// One array in NumPy's .npy format, with its header as text and never as code: _npy.py.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "array.h"

namespace lstm_edge::device {

struct NpyHeader {
  Shape shape;
  char kind = 0;     // NumPy's: b, i, u, f, c, S, U or O
  std::string name;  // str(dtype)
  uint64_t item_bytes = 0;
  bool swapped = false;  // big endian
  bool fortran_order = false;
  size_t header_bytes = 0;

  // Bytes of the array; UINT64_MAX if there are more.
  uint64_t size_bytes() const;
  // "float32 (3, 4)"
  std::string text() const;
};

// Throws Unreadable.
NpyHeader read_npy_header(std::string_view data);

// The array behind a header, whose bytes are all there. Throws Unreadable where it is no array of numbers that the
// library has.
Array read_npy_array(const NpyHeader& header, std::string_view data);

// The bytes of an .npy file, as numpy.save writes them.
std::string write_npy(const Array& array);

}  // namespace lstm_edge::device
