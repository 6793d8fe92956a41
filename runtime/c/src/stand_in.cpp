#include "stand_in.h"

#include <algorithm>
#include <array>

namespace lstm_edge::device {
namespace {

using namespace lstm_edge;  // positions in the table

// What a failure is: the caller asks onnxruntime for the sentence.
char failed_status;
OrtStatus* failed() { return reinterpret_cast<OrtStatus*>(&failed_status); }

OrtStatus* create_status(int, const char*) { return failed(); }
void release_status(OrtStatus*) {}

OrtStatus* get_data(OrtValue* value, void** data) {
  *data = reinterpret_cast<Tensor*>(value)->data;
  return nullptr;
}

OrtStatus* get_shape(const OrtValue* value, int* type, const int64_t** dims, size_t* rank) {
  const auto& tensor = *reinterpret_cast<const Tensor*>(value);
  *type = tensor.type;
  *dims = tensor.shape.data();
  *rank = tensor.shape.size();
  return nullptr;
}

OrtStatus* get_input(const OrtKernelContext* context, size_t index, const OrtValue** value) {
  const auto& node = *reinterpret_cast<const NodeContext*>(context);
  *value = index < node.inputs.size() ? reinterpret_cast<const OrtValue*>(node.inputs[index]) : nullptr;
  return nullptr;
}

OrtStatus* get_output(OrtKernelContext* context, size_t index, const int64_t* dims, size_t rank, OrtValue** value) {
  const auto& node = *reinterpret_cast<const NodeContext*>(context);
  *value = nullptr;
  if (index >= node.outputs.size()) return failed();
  Tensor& tensor = *node.outputs[index];
  if (node.asks_for_shapes) {
    tensor.type = LSTM_EDGE_FLOAT32;
    tensor.shape.assign(dims, dims + rank);
    return nullptr;
  }
  if (tensor.shape.size() != rank || !std::equal(dims, dims + rank, tensor.shape.begin())) return failed();
  *value = reinterpret_cast<OrtValue*>(&tensor);
  return nullptr;
}

OrtStatus* parallel_for(const OrtKernelContext*, void (*work)(void*, size_t), size_t count, size_t, void* data) {
  for (size_t i = 0; i < count; ++i) work(data, i);
  return nullptr;
}

template <typename Function>
void* entry(Function* function) {
  return reinterpret_cast<void*>(function);
}

using Entries = std::array<void*, size_t(kGetShapeReference) + 1>;

Entries make_table() {
  Entries entries{};
  entries[0] = entry(create_status);
  entries[kReleaseStatus] = entry(release_status);
  entries[kGetTensorMutableData] = entry(get_data);
  entries[kGetShapeReference] = entry(get_shape);
  entries[kContextGetInput] = entry(get_input);
  entries[kContextGetOutput] = entry(get_output);
  entries[kContextParallelFor] = entry(parallel_for);
  return entries;
}

bool run(const void* kernel, NodeContext& context) {
  static const Entries table = make_table();
  return LstmEdgeRunKernel(kernel, reinterpret_cast<const OrtApi*>(table.data()),
                           reinterpret_cast<OrtKernelContext*>(&context)) == nullptr;
}

}  // namespace

bool run_kernel(const void* kernel, NodeContext& context) { return run(kernel, context); }

bool find_shapes(const void* kernel, NodeContext& context) {
  for (Tensor* output : context.outputs) output->shape.clear();
  context.asks_for_shapes = true;
  run(kernel, context);  // it refuses to write nowhere
  context.asks_for_shapes = false;
  const auto found = [](const Tensor* output) { return !output->shape.empty(); };
  return std::all_of(context.outputs.begin(), context.outputs.end(), found);
}

}  // namespace lstm_edge::device
