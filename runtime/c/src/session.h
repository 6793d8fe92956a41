// An open model file, as Python's Session: checked, described, run.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "contract.h"
#include "golden.h"
#include "ort.h"

namespace lstm_edge::device {

struct Options {
  std::string onnxruntime;  // path; empty: the environment, else the system's
  lstm_edge_kernels kernels = LSTM_EDGE_KERNELS_AUTO;
  int threads = 1;
};

class Session {
 public:
  Session(std::string bytes, const Options& options);

  // Runs arrays by their names in the graph, as Session.run of Python checks them: states all or none, lengths and end
  // filled in where they are missing. Returns outputs, and new states by the names of their outputs.
  Arrays run(const std::vector<lstm_edge_array>& inputs, const int64_t* lengths, bool end) const;
  // As Session.run_graph: what golden vectors need.
  Arrays run_graph(const Arrays& inputs) const;

  bool has_card = false;
  Card card;
  Contract contract;
  std::string kernels;  // instruction set; empty if bodies run
  std::vector<std::string> notes;
  bool verified = false;
  int64_t operators = 0;
  int64_t size_bytes = 0;
  std::string golden;                  // text of the metadata entry; empty without one
  std::shared_ptr<const Graph> graph;  // ort.h
};

}  // namespace lstm_edge::device
