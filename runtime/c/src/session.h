// An open model file, as Python's Session: checked, described, run.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "contract.h"
#include "golden.h"
#include "ort.h"
#include "view.h"

namespace lstm_edge::device {

struct Options {
  std::string onnxruntime;  // path; empty: the environment, else the system's
  lstm_edge_kernels kernels = LSTM_EDGE_KERNELS_AUTO;
  int threads = 1;
};

// What one run gets; everything is only read.
struct Call {
  std::vector<View> inputs;  // states among them, all or none
  std::optional<View> lengths;
  bool end = true;
};

struct NamedArray {
  std::string name;
  Array array;
};

class Session {
 public:
  Session(const std::string& bytes, const Options& options);

  // Runs whole sequences as Session.run of Python checks them: states, lengths and end are filled in where they are
  // missing. Returns the outputs, then the new states by the names of their outputs.
  std::vector<NamedArray> run(const Call& call) const;
  // As Session.run_graph: arrays by their names in the graph, as golden vectors hold them. A sequence may be cut
  // anywhere.
  std::vector<NamedArray> run_graph(const Arrays& arrays) const;

  // The rows of inputs that are not checked yet: of the first batch axis among them, else 1.
  int64_t rows_of(const std::vector<View>& inputs) const;
  // The card, or null.
  const Card* card_or_null() const { return has_card ? &card : nullptr; }

  bool has_card = false;
  Card card;
  Contract contract;
  std::string kernels;  // instruction set; empty if bodies run
  std::vector<std::string> notes;
  bool verified = false;
  int64_t operators = 0;
  int64_t size_bytes = 0;
  std::optional<std::string> golden;   // text of the metadata entry
  std::shared_ptr<const Graph> graph;  // ort.h

 private:
  struct Feeds;

  void collect_notes(const std::string& why_bodies);
  Feeds feeds(const Call& call) const;
  void feed_states(const std::vector<std::optional<View>>& states, bool given, Feeds& feeds) const;
  std::vector<NamedArray> answer(const std::vector<Lent>& inputs) const;
};

}  // namespace lstm_edge::device
