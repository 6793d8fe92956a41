#include "direct_graph.h"

#include <cstring>

#include "onnx_schema.h"

namespace lstm_edge::device {
namespace {

constexpr std::string_view kDomain = "lstm_edge";
// Constants of standard operators are copied, an embedding among them; weights of layers are not.
constexpr uint64_t kMostConstantBytes = 1 << 20;

}  // namespace

KernelWatch::KernelWatch() { LstmEdgeWatchKernels(&KernelWatch::see, this); }
KernelWatch::~KernelWatch() { LstmEdgeWatchKernels(nullptr, nullptr); }

void KernelWatch::see(void* data, const char* node, const void* kernel) {
  auto& kernels = static_cast<KernelWatch*>(data)->kernels_;
  if (!kernels.emplace(node, kernel).second) kernels[node] = nullptr;
}

const void* KernelWatch::find(const std::string& node) const {
  const auto found = kernels_.find(node);
  return node.empty() || found == kernels_.end() ? nullptr : found->second;
}

std::shared_ptr<const DirectGraph> DirectGraph::read(std::string_view data, const Message& graph,
                                                     const KernelWatch& kernels) {
  auto made = std::make_shared<DirectGraph>();
  for (const Message* node : graph.messages("node")) {
    if (!made->add_node(data, *node, kernels)) return nullptr;
  }
  return made->add_constants(data, graph) ? made : nullptr;
}

int DirectGraph::value_of(std::string_view name) {
  if (name.empty()) return -1;
  return values_.emplace(name, int(values_.size())).first->second;
}

bool DirectGraph::add_node(std::string_view data, const Message& message, const KernelWatch& kernels) {
  Node node;
  const std::string_view domain = message.text("domain");
  if (domain == kDomain) {
    node.kernel = kernels.find(std::string(message.text("name")));
  } else if (domain.empty() || domain == "ai.onnx") {
    node.operation = make_direct_operator(data, message);
  }
  if (node.kernel == nullptr && node.operation == nullptr) return false;
  for (const std::string_view name : message.texts("input")) node.inputs.push_back(value_of(name));
  for (const std::string_view name : message.texts("output")) node.outputs.push_back(value_of(name));
  for (const int output : node.outputs) {
    if (output < 0) return false;
  }
  if (node.operation != nullptr) {
    for (const int input : node.inputs) {
      if (input < 0) return false;
    }
    if (node.outputs.size() != 1) return false;
  }
  nodes_.push_back(std::move(node));
  return true;
}

// Kernels have packed their own constants; those of the other operators are copied.
bool DirectGraph::add_constants(std::string_view data, const Message& graph) {
  std::vector<bool> wanted(values_.size());
  uint64_t left = kMostConstantBytes;
  for (const Node& node : nodes_) {
    if (node.operation == nullptr) continue;
    for (const int input : node.inputs) wanted[size_t(input)] = true;
  }
  for (const Message* stored : graph.messages("initializer")) {
    const auto found = values_.find(stored->text("name"));
    if (found == values_.end()) continue;
    Tensor tensor;
    Array array;
    if (wanted[size_t(found->second)]) {
      const Message content = read_again(data, *stored, kRawContentSchema);
      const Sizes dims = read_sizes(content, "dims");
      const std::string_view raw = content.bytes("raw_data");
      tensor.type = int(content.number("data_type"));
      const bool known =
          tensor.type == LSTM_EDGE_FLOAT32 || tensor.type == LSTM_EDGE_INT64 || tensor.type == LSTM_EDGE_INT8;
      if (!known || dims.count > LSTM_EDGE_MOST_AXES || dims.product > left) return false;
      const auto type = lstm_edge_dtype(tensor.type);
      if (raw.size() > left || raw.size() != dims.product * item_size(type)) return false;
      left -= raw.size();
      tensor.shape.assign(dims.first, dims.first + dims.count);
      array = Array(type, tensor.shape);
      if (!raw.empty()) std::memcpy(array.data<char>(), raw.data(), raw.size());
      tensor.data = array.data<void>();
    }
    constants_.emplace(found->second, std::make_pair(std::move(tensor), std::move(array)));
  }
  for (const Node& node : nodes_) {
    if (node.operation == nullptr) continue;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.operation->needs_constant(i) && constants_.count(node.inputs[i]) == 0) return false;
    }
  }
  // A value that is both an input of the graph and a constant may be given another content.
  for (const Message* input : graph.messages("input")) {
    const auto found = values_.find(input->text("name"));
    if (found != values_.end() && constants_.count(found->second) > 0) return false;
  }
  return true;
}

class DirectBinding final : public Binding {
 public:
  DirectBinding(std::shared_ptr<const DirectGraph> graph, DirectGraph::MakeBinding make)
      : graph_(std::move(graph)), make_(std::move(make)), tensors_(graph_->values_.size()), known_(tensors_.size()) {}

  // False where something does not fit.
  bool lay_out(const std::vector<Lent>& given, const std::vector<Lent>& taken) {
    for (const auto& [value, constant] : graph_->constants_) set(value, constant.first);
    for (const Lent& lent : given) {
      const auto found = graph_->values_.find(lent.name);
      if (found == graph_->values_.end()) continue;  // no node reads it
      if (known_[size_t(found->second)]) return false;
      set(found->second, {int(lent.dtype), lent.shape, lent.data});
    }
    std::map<int, const Lent*> ends;
    for (const Lent& lent : taken) {
      const auto found = graph_->values_.find(lent.name);
      if (found == graph_->values_.end() || known_[size_t(found->second)]) return false;
      ends[found->second] = &lent;
    }
    for (const DirectGraph::Node& node : graph_->nodes_) {
      if (!add_step(node, ends)) return false;
    }
    for (const auto& [value, lent] : ends) {
      if (!known_[size_t(value)]) return false;
    }
    return true;
  }

  bool is_direct() const override { return true; }

  void run() override {
    for (Step& step : steps_) {
      if (step.node->operation != nullptr) {
        if (step.node->operation->run(step.context.inputs, *step.context.outputs[0])) continue;
      } else if (run_kernel(step.node->kernel, step.context)) {
        continue;
      }
      if (other_ == nullptr) other_ = make_();
      return other_->run();
    }
  }

 private:
  struct Step {
    const DirectGraph::Node* node;
    NodeContext context;
  };

  void set(int value, Tensor tensor) {
    tensors_[size_t(value)] = std::move(tensor);
    known_[size_t(value)] = true;
  }

  bool add_step(const DirectGraph::Node& node, const std::map<int, const Lent*>& ends) {
    Step step{&node, {}};
    for (const int input : node.inputs) {
      if (input >= 0 && !known_[size_t(input)]) return false;
      step.context.inputs.push_back(input < 0 ? nullptr : &tensors_[size_t(input)]);
    }
    for (const int output : node.outputs) {
      if (known_[size_t(output)]) return false;
      step.context.outputs.push_back(&tensors_[size_t(output)]);
    }
    if (node.operation == nullptr) {
      if (!find_shapes(node.kernel, step.context)) return false;
    } else if (!node.operation->find_shape(step.context.inputs, *step.context.outputs[0])) {
      return false;
    }
    bool needed = true;
    for (const int output : node.outputs) {
      Tensor& tensor = tensors_[size_t(output)];
      known_[size_t(output)] = true;
      const auto end = ends.find(output);
      if (end != ends.end()) {
        if (end->second->dtype != tensor.type || end->second->shape != tensor.shape) return false;
        tensor.data = end->second->data;
      } else if (node.operation != nullptr && node.operation->only_renames(step.context.inputs)) {
        tensor.data = step.context.inputs[0]->data;
        needed = false;
      } else {
        between_.emplace_back(lstm_edge_dtype(tensor.type), tensor.shape);
        tensor.data = between_.back().data<void>();
      }
    }
    if (needed) steps_.push_back(std::move(step));
    return true;
  }

  const std::shared_ptr<const DirectGraph> graph_;
  const DirectGraph::MakeBinding make_;
  std::unique_ptr<Binding> other_;
  std::vector<Tensor> tensors_;  // by the numbers of values
  std::vector<bool> known_;
  std::vector<Array> between_;  // what one node gives another
  std::vector<Step> steps_;
};

std::unique_ptr<Binding> DirectGraph::bind(const std::vector<Lent>& given, const std::vector<Lent>& taken,
                                           MakeBinding make) const {
  auto made = std::make_unique<DirectBinding>(shared_from_this(), std::move(make));
  return made->lay_out(given, taken) ? std::move(made) : nullptr;
}

}  // namespace lstm_edge::device
