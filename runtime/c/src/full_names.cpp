#include "full_names.h"

#include <unordered_set>

#include "model_reading.h"
#include "onnx_schema.h"

namespace lstm_edge::device {
namespace {

bool was_cut(std::string_view full) { return full.find('\0') != std::string_view::npos; }

std::string_view cut(std::string_view full) { return full.substr(0, full.find('\0')); }

// The names of the axes of a declared type; none where it is no tensor.
std::vector<std::string_view> axes_of(const Message& declared) {
  std::vector<std::string_view> names;
  for (const Message* type : declared.messages("type")) {
    for (const char* kind : {"tensor_type", "sparse_tensor_type"}) {
      for (const Message* tensor : type->messages(kind)) {
        for (const Message* shape : tensor->messages("shape")) {
          for (const Message* axis : shape->messages("dim")) names.push_back(axis->text("dim_param"));
        }
      }
    }
  }
  return names;
}

// Both lists have one order; a graph may also declare its weights as inputs, which onnxruntime leaves out.
void restore(const std::vector<const Message*>& declared, std::vector<GraphTensor>& tensors) {
  size_t at = 0;
  for (GraphTensor& tensor : tensors) {
    while (at < declared.size() && cut(declared[at]->text("name")) != tensor.name) ++at;
    if (at == declared.size()) return;
    const Message& found = *declared[at++];
    if (was_cut(found.text("name"))) tensor.name = found.text("name");
    const std::vector<std::string_view> axes = axes_of(found);
    for (size_t i = 0; i < axes.size() && i < tensor.axes.size(); ++i) {
      auto* name = std::get_if<std::string>(&tensor.axes[i]);
      if (name != nullptr && was_cut(axes[i]) && cut(axes[i]) == *name) *name = axes[i];
    }
  }
}

}  // namespace

void restore_names(std::string_view bytes, const CheckedModel& model, std::vector<GraphTensor>& inputs,
                   std::vector<GraphTensor>& outputs) {
  for (const Message* graph : model.reading->model.messages("graph")) {
    const Message named = read_again(bytes, *graph, kNamesSchema);
    std::unordered_set<std::string_view> weights;
    for (const Message* weight : named.messages("initializer")) weights.insert(weight->text("name"));
    for (const Message* weight : named.messages("sparse_initializer")) {
      for (const Message* values : weight->messages("values")) weights.insert(values->text("name"));
    }
    std::vector<const Message*> declared;
    for (const Message* input : named.messages("input")) {
      if (weights.count(input->text("name")) == 0) declared.push_back(input);
    }
    restore(declared, inputs);
    restore(named.messages("output"), outputs);
  }
}

}  // namespace lstm_edge::device
