// onnxruntime, opened at run time by dlopen and used through its table of functions (kernels/ort_api.h): a library, a
// graph that runs, and bindings that own what they lend.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "contract.h"

namespace lstm_edge::device {

class Graph;
struct ModelReading;

// An input or output of a run: memory that the caller keeps until the run is over (or as long as the binding lives).
struct Lent {
  std::string name;
  lstm_edge_dtype dtype = LSTM_EDGE_FLOAT32;
  Shape shape;
  void* data = nullptr;
};

// Inputs and outputs that are bound once and run often: nothing of ours is allocated in a run.
class Binding {
 public:
  virtual ~Binding() = default;
  // Throws Error (LSTM_EDGE_INPUT) with the first line of onnxruntime's message.
  virtual void run() = 0;
  // Whether it runs without onnxruntime.
  virtual bool is_direct() const { return false; }
};

class Graph {
 public:
  virtual ~Graph() = default;
  // The arrays of all named outputs, newly allocated.
  virtual std::vector<Array> run(const std::vector<Lent>& inputs, const std::vector<std::string>& outputs) const = 0;
  // The lent memory must outlive the binding.
  virtual std::unique_ptr<Binding> bind(const std::vector<Lent>& inputs, const std::vector<Lent>& outputs) const = 0;

  std::vector<GraphTensor> inputs;
  std::vector<GraphTensor> outputs;
  std::string version;  // of onnxruntime
  bool direct = false;  // whether bindings run without onnxruntime (direct_graph.h)
};

struct GraphOptions {
  std::string library;  // path of libonnxruntime.so; empty: see lstm_edge_options
  int threads = 1;
  bool kernels = true;                 // register the fused kernels
  std::vector<std::string> operators;  // only these
  // Of the same bytes: where it is given, bindings of a graph of kernels run without onnxruntime (direct_graph.h).
  const ModelReading* reading = nullptr;
};

// Opens a graph with the settings of providers.py (open_session): one thread, no spinning, no arena.
std::shared_ptr<const Graph> open_graph(std::string_view bytes, const GraphOptions& options);

}  // namespace lstm_edge::device
