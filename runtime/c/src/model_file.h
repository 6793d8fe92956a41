// Everything that is checked of a file's bytes before onnxruntime sees them: artifact.py, model_reading.py,
// function_check.py, column_sums.py and sparse_index.py behind one function each.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lstm_edge::device {

// Reads a file as Python's read_model_bytes does: limits, and a sentence for what is missing or no model.
std::string read_model_bytes(const std::string& path);

// Whether the bytes agree with their trailer; false without one. Throws LSTM_EDGE_INTEGRITY where they disagree.
bool check_integrity(std::string_view bytes);

// SHA-256 as 64 hex digits.
std::string sha256_hex(std::string_view bytes);

constexpr char kTrailerKey[] = "lstm_edge.sha256";  // of the trailer as an entry of the metadata

struct ModelReading;  // in model_reading.h

// What the checks found out about a file.
struct CheckedModel {
  bool verified = false;
  std::vector<std::string> operators;  // the name of each lstm_edge operator that the file calls, once for each call
  std::map<std::string, std::string> metadata;
  std::shared_ptr<const ModelReading> reading;  // needs the bytes
};

// check_integrity, read_model, check_functions, check_whole, in the order of Session._open, with its sentences.
CheckedModel check_model(std::string_view bytes);

// Only where function bodies run, as in Session._open: check_column_sums and check_sparse_matrices.
void check_bodies(std::string_view bytes, const CheckedModel& model);

}  // namespace lstm_edge::device
