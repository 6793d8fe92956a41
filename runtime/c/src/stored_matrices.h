// The constants of a graph by name, for the checks of matrices where function bodies run: column_sums.py and
// sparse_index.py.
#pragma once

#include <functional>
#include <string_view>
#include <unordered_map>

#include "model_reading.h"

namespace lstm_edge::device {

// The tensors that a graph can name: its own, and those of the graphs around it.
class Tensors {
 public:
  Tensors(const Message& graph, const Tensors* outer);
  // nullptr: no constant of that name.
  const Message* find(std::string_view name) const;

 private:
  const Tensors* outer_;
  std::unordered_map<std::string_view, const Message*> own_;
};

// Calls `check` for each node of the domain lstm_edge, in the graph and in its subgraphs, in Python's order.
using CheckNode = std::function<void(const Message& node, const Tensors& tensors)>;
void for_each_operator(const ModelReading& reading, const CheckNode& check);

// Refuse an int8 matrix with a column whose magnitudes sum to more than the limit: column_sums.py.
void check_column_sums(std::string_view data, const ModelReading& reading);

// Refuse a sparse matrix that docs/operators.md does not allow: sparse_index.py.
void check_sparse_matrices(std::string_view data, const ModelReading& reading);

}  // namespace lstm_edge::device
