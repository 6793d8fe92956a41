#include "handles.h"

#include <cstring>

namespace device_program {
namespace {

struct Type {
  lstm_edge_dtype dtype;
  const char* name;
  size_t bytes;
};

constexpr Type kTypes[] = {
    {LSTM_EDGE_FLOAT32, "float32", 4}, {LSTM_EDGE_UINT8, "uint8", 1},   {LSTM_EDGE_INT8, "int8", 1},
    {LSTM_EDGE_UINT16, "uint16", 2},   {LSTM_EDGE_INT16, "int16", 2},   {LSTM_EDGE_INT32, "int32", 4},
    {LSTM_EDGE_INT64, "int64", 8},     {LSTM_EDGE_BOOL, "bool", 1},     {LSTM_EDGE_FLOAT16, "float16", 2},
    {LSTM_EDGE_FLOAT64, "float64", 8}, {LSTM_EDGE_UINT32, "uint32", 4}, {LSTM_EDGE_UINT64, "uint64", 8},
};

const Type& find(lstm_edge_dtype dtype) {
  for (const Type& type : kTypes) {
    if (type.dtype == dtype) return type;
  }
  throw Failure(2, "the library gave an unknown dtype, " + std::to_string(int(dtype)));
}

bool is(const char* name, const char* wanted) { return name != nullptr && std::strcmp(name, wanted) == 0; }

}  // namespace

void check(lstm_edge_status status) {
  if (status == LSTM_EDGE_OK) return;
  const bool failed = status == LSTM_EDGE_INTEGRITY || status == LSTM_EDGE_PARITY;
  throw Failure(failed ? 1 : 2, lstm_edge_error(), status);
}

Session open_session(const char* path, const lstm_edge_options& options) {
  lstm_edge_session* session = nullptr;
  check(lstm_edge_open(path, &options, &session));
  return Session(session);
}

Stream open_stream(lstm_edge_session* session, int64_t batch_size) {
  lstm_edge_stream* stream = nullptr;
  check(lstm_edge_stream_open(session, batch_size, &stream));
  return Stream(stream);
}

lstm_edge_info describe(const lstm_edge_session* session) {
  lstm_edge_info info{};
  info.size = sizeof info;
  check(lstm_edge_describe(session, &info));
  return info;
}

std::vector<lstm_edge_tensor> tensors(const lstm_edge_session* session, lstm_edge_role role) {
  std::vector<lstm_edge_tensor> found;
  lstm_edge_tensor tensor{};
  lstm_edge_status status;
  while ((status = lstm_edge_tensor_at(session, role, found.size(), &tensor)) == LSTM_EDGE_OK) found.push_back(tensor);
  if (status != LSTM_EDGE_INPUT) check(status);
  return found;
}

size_t element_count(const lstm_edge_array& array) {
  size_t count = 1;
  for (int32_t axis = 0; axis < array.rank; ++axis) count *= size_t(array.shape[axis]);
  return count;
}

size_t item_size(lstm_edge_dtype dtype) { return find(dtype).bytes; }

const char* dtype_name(lstm_edge_dtype dtype) { return find(dtype).name; }

bool has_time(const lstm_edge_tensor& tensor) {
  for (int32_t axis = 0; axis < tensor.rank; ++axis) {
    if (is(tensor.axis_names[axis], "time")) return true;
  }
  return false;
}

void fill_shape(const lstm_edge_tensor& tensor, int64_t batch_size, int64_t steps, lstm_edge_array& array) {
  array.name = tensor.name;
  array.dtype = tensor.dtype;
  array.rank = 0;
  for (int32_t axis = 0; axis < tensor.rank; ++axis) {
    const char* name = tensor.axis_names[axis];
    if (is(name, "time") && steps == 1) continue;
    array.shape[array.rank++] = name == nullptr     ? tensor.shape[axis]
                                : is(name, "time")  ? steps
                                : is(name, "batch") ? batch_size
                                                    : 1;
  }
}

}  // namespace device_program
