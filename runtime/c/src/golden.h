// Golden vectors: a few inputs with their expected outputs, as text in the metadata of a model file: golden.py.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "array.h"

namespace lstm_edge::device {

constexpr char kGoldenKey[] = "lstm_edge.golden";

using Arrays = std::map<std::string, Array>;

struct GoldenVector {
  Arrays inputs;
  Arrays outputs;
  std::map<std::string, int64_t> strides;  // of outputs that are flat samples
};

struct Golden {
  std::vector<GoldenVector> vectors;
  double tolerance_bodies = 0;
  double tolerance_kernels = 0;
  std::map<std::string, double> tolerance_outputs;  // the smaller ones of single outputs, with both

  double tolerance(const std::string& output, bool kernels) const;
};

// Errors (LSTM_EDGE_ARTIFACT) as Python's decode_golden.
Golden decode_golden(std::string_view text);

// The arrays of an .npz archive, at most `most_bytes` unpacked, with the sentences of Python's read_arrays
// (LSTM_EDGE_INPUT); and the bytes that numpy.savez writes for arrays in the order of their names.
Arrays read_npz(std::string_view bytes, size_t most_bytes);
std::string write_npz(const Arrays& arrays);

}  // namespace lstm_edge::device
