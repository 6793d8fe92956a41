// Graphs that need nothing of onnxruntime while they run: lstm_edge operators, and the few standard ones around them
// (direct_operators.h). They run on the kernels that onnxruntime made for the session, on the same arrays, so the bits
// are the same; what is left out is its way around each call, which takes longer than a small layer.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "direct_operators.h"
#include "model_reading.h"
#include "ort.h"

namespace lstm_edge::device {

// The kernels that onnxruntime made, by the names of their nodes; null where two nodes have one name.
class KernelWatch {
 public:
  KernelWatch();  // watches this thread
  KernelWatch(const KernelWatch&) = delete;
  KernelWatch& operator=(const KernelWatch&) = delete;
  ~KernelWatch();

  const void* find(const std::string& node) const;

 private:
  static void see(void* data, const char* node, const void* kernel);

  std::map<std::string, const void*> kernels_;
};

class DirectGraph : public std::enable_shared_from_this<DirectGraph> {
 public:
  // Null where a node is not one of those above, or onnxruntime changed the graph. `data` is the file.
  static std::shared_ptr<const DirectGraph> read(std::string_view data, const Message& graph,
                                                 const KernelWatch& kernels);

  using MakeBinding = std::function<std::unique_ptr<Binding>()>;
  // Null where the arrays do not fit. The lent memory and the kernels must outlive the binding. `make` makes the
  // binding of onnxruntime, which runs in place of this one where a kernel refuses its inputs, for the sentence.
  std::unique_ptr<Binding> bind(const std::vector<Lent>& given, const std::vector<Lent>& taken, MakeBinding make) const;

 private:
  friend class DirectBinding;

  struct Node {
    const void* kernel = nullptr;
    std::unique_ptr<const DirectOperator> operation;  // of a standard operator
    std::vector<int> inputs, outputs;                 // numbers of values; -1: absent
  };

  int value_of(std::string_view name);
  bool add_node(std::string_view data, const Message& node, const KernelWatch& kernels);
  bool add_constants(std::string_view data, const Message& graph);

  std::vector<Node> nodes_;
  std::map<std::string, int, std::less<>> values_;
  std::map<int, std::pair<Tensor, Array>> constants_;  // of standard operators
};

}  // namespace lstm_edge::device
