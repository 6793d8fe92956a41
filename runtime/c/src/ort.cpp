// A graph that runs in onnxruntime.
#include "ort.h"

#include <cstring>
#include <mutex>

#include "direct_graph.h"
#include "error.h"
#include "ort_table.h"
#include "text.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

// The kernels, which are linked in.
extern "C" {
void LstmEdgeSelectOperators(const char* names);
OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);
}

namespace lstm_edge::device {
namespace {

// As LARGEST_FOLDED_BYTES of providers.py (a test compares both).
constexpr char kLargestFoldedBytes[] = "268435456";
constexpr int kLogFatal = 4;
// Below this size of a file there is little memory to give back (heap.py).
constexpr size_t kLeastHeapBytes = 1 << 20;

enum OnnxType { kUnknown = 0, kTensor = 1, kSequence = 2, kMap = 3, kOpaque = 4, kSparseTensor = 5, kOptionalType = 6 };

const char* element_name(int type) {
  const char* const names[] = {
      "undefined",      "float",      "uint8",          "int8",       "uint16",   "int16",
      "int32",          "int64",      "string",         "bool",       "float16",  "double",
      "uint32",         "uint64",     "complex64",      "complex128", "bfloat16", "float8e4m3fn",
      "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4",      "int4",     "float4e2m1",
      "uint2",          "int2"};
  return type >= 0 && size_t(type) < std::size(names) ? names[type] : "unknown";
}

// Whether the element type is one of lstm_edge_dtype.
bool is_number(int type) { return type >= LSTM_EDGE_FLOAT32 && type <= LSTM_EDGE_UINT64 && type != 8; }

// Tensors over lent memory.
class Values {
 public:
  Values(const OrtLibrary& library, size_t count) : library_(library) { values_.reserve(count); }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;
  ~Values() {
    for (OrtValue* value : values_) library_.table.ask<void>(kReleaseValue, value);
  }

  OrtValue* add(const Lent& lent) {
    const size_t bytes = size_t(element_count(lent.shape)) * item_size(lent.dtype);
    OrtValue* value = nullptr;
    library_.table.call(kCreateTensorWithData, static_cast<const OrtMemoryInfo*>(library_.memory), lent.data, bytes,
                        lent.shape.data(), lent.shape.size(), int(lent.dtype), &value);
    values_.push_back(value);
    return value;
  }
  // A value that onnxruntime is to make.
  void add_empty() { values_.push_back(nullptr); }
  OrtValue** data() { return values_.data(); }

 private:
  const OrtLibrary& library_;
  std::vector<OrtValue*> values_;
};

class OrtGraph : public Graph, public std::enable_shared_from_this<OrtGraph> {
 public:
  OrtGraph(std::string_view bytes, const GraphOptions& options) : library(open_ort_library(options.library)) {
    version = library.version;
    OrtSessionOptions* made = nullptr;
    try {
      library.table.call(kCreateSessionOptions, &made);
      const auto owner = library.table.own(made, kReleaseSessionOptions);
      configure(made, options);
      if (options.kernels) add_kernels(made, options.operators);
      create(bytes, options, made);
      read_tensors(kSessionGetInputCount, kSessionGetInputName, kSessionGetInputTypeInfo, inputs);
      read_tensors(kSessionGetOutputCount, kSessionGetOutputName, kSessionGetOutputTypeInfo, outputs);
    } catch (const Refusal& refusal) {
      close();
      fail(LSTM_EDGE_ARTIFACT, "onnxruntime cannot read the model: " + refusal.line);
    } catch (...) {
      close();
      throw;
    }
  }
  OrtGraph(const OrtGraph&) = delete;
  OrtGraph& operator=(const OrtGraph&) = delete;
  ~OrtGraph() override { close(); }

  std::vector<Array> run(const std::vector<Lent>& given, const std::vector<std::string>& names) const override;
  std::unique_ptr<Binding> bind(const std::vector<Lent>& given, const std::vector<Lent>& taken) const override;

  const OrtLibrary& library;
  OrtSession* session = nullptr;

 private:
  void create(std::string_view bytes, const GraphOptions& options, const OrtSessionOptions* made);
  void configure(OrtSessionOptions* made, const GraphOptions& options) const;
  void add_kernels(OrtSessionOptions* made, const std::vector<std::string>& operators) const;
  void read_tensors(int count_position, int name_position, int type_position, std::vector<GraphTensor>& tensors) const;
  std::string type_text(const OrtTypeInfo* type) const;
  Axes read_axes(const OrtTypeInfo* type) const;
  Array copy_out(OrtValue* value, const std::string& name) const;
  void close() {
    if (session != nullptr) library.table.ask<void>(kReleaseSession, session);
    session = nullptr;
  }

  std::shared_ptr<const DirectGraph> direct_;  // null: onnxruntime runs it
};

void OrtGraph::create(std::string_view bytes, const GraphOptions& options, const OrtSessionOptions* made) {
  const KernelWatch kernels;
  library.table.call(kCreateSessionFromArray, static_cast<const OrtEnv*>(library.environment),
                     static_cast<const void*>(bytes.data()), bytes.size(), made, &session);
  // More threads are onnxruntime's.
  if (!options.kernels || options.threads > 1 || options.reading == nullptr) return;
  const auto graphs = options.reading->model.messages("graph");
  if (graphs.size() == 1) direct_ = DirectGraph::read(bytes, *graphs[0], kernels);
  direct = direct_ != nullptr;
}

void OrtGraph::configure(OrtSessionOptions* made, const GraphOptions& options) const {
  const Table& table = library.table;
  table.call(kSetIntraOpNumThreads, made, options.threads);
  table.call(kSetInterOpNumThreads, made, 1);
  table.call(kDisableCpuMemArena, made);
  table.call(kSetSessionLogSeverityLevel, made, kLogFatal);
  // The reasons are in providers.py.
  const char* const entries[][2] = {
      {"session.intra_op.allow_spinning", "0"},
      {"optimization.constant_folding_max_output_size_in_bytes", kLargestFoldedBytes},
      {"session.load_model_format", "ONNX"},
  };
  for (const auto& [key, value] : entries) table.call(kAddSessionConfigEntry, made, key, value);
}

void OrtGraph::add_kernels(OrtSessionOptions* made, const std::vector<std::string>& operators) const {
  std::string names = operators.empty() ? "" : " ";
  for (const std::string& name : operators) names += name + " ";
  LstmEdgeSelectOperators(names.c_str());
  try {
    library.table.check(RegisterCustomOps(made, library.base));
  } catch (const Refusal& refusal) {
    fail(LSTM_EDGE_PROVIDER, "onnxruntime " + version + " refuses the kernels' library (" + refusal.line +
                                 "); kernels=\"off\" runs the function bodies");
  }
}

void OrtGraph::read_tensors(int count_position, int name_position, int type_position,
                            std::vector<GraphTensor>& tensors) const {
  const Table& table = library.table;
  const OrtSession* const opened = session;
  size_t count = 0;
  table.call(count_position, opened, &count);
  for (size_t i = 0; i < count; ++i) {
    GraphTensor tensor;
    char* name = nullptr;
    table.call(name_position, opened, i, library.allocator, &name);
    tensor.name = name;
    table.call(kAllocatorFree, library.allocator, static_cast<void*>(name));
    OrtTypeInfo* type = nullptr;
    table.call(type_position, opened, i, &type);
    const auto owner = table.own(type, kReleaseTypeInfo);
    tensor.type = type_text(type);
    tensor.axes = read_axes(type);
    tensors.push_back(std::move(tensor));
  }
}

std::string OrtGraph::type_text(const OrtTypeInfo* type) const {
  const Table& table = library.table;
  int kind = kUnknown;
  table.call(kGetOnnxTypeFromTypeInfo, type, &kind);
  if (kind == kTensor || kind == kSparseTensor) {
    const OrtTensorTypeAndShapeInfo* info = nullptr;
    table.call(kCastTypeInfoToTensorInfo, type, &info);
    int element = 0;
    if (info != nullptr) table.call(kGetTensorElementType, info, &element);
    return std::string(kind == kTensor ? "tensor(" : "sparse_tensor(") + element_name(element) + ")";
  }
  OrtTypeInfo* inner = nullptr;
  if (kind == kSequence) {
    const OrtSequenceTypeInfo* info = nullptr;
    table.call(kCastTypeInfoToSequenceTypeInfo, type, &info);
    table.call(kGetSequenceElementType, info, &inner);
  } else if (kind == kOptionalType) {
    const OrtOptionalTypeInfo* info = nullptr;
    table.call(kCastTypeInfoToOptionalTypeInfo, type, &info);
    table.call(kGetOptionalContainedTypeInfo, info, &inner);
  }
  if (inner == nullptr) return kind == kMap ? "map" : "unknown type";
  const auto owner = table.own(inner, kReleaseTypeInfo);
  return (kind == kSequence ? "seq(" : "optional(") + type_text(inner) + ")";
}

Axes OrtGraph::read_axes(const OrtTypeInfo* type) const {
  const Table& table = library.table;
  const OrtTensorTypeAndShapeInfo* info = nullptr;
  table.call(kCastTypeInfoToTensorInfo, type, &info);
  if (info == nullptr) return {};
  size_t rank = 0;
  table.call(kGetDimensionsCount, info, &rank);
  Shape sizes(rank);
  std::vector<const char*> names(rank);
  if (rank > 0) {
    table.call(kGetDimensions, info, sizes.data(), rank);
    table.call(kGetSymbolicDimensions, info, names.data(), rank);
  }
  Axes axes;
  for (size_t i = 0; i < rank; ++i) {
    if (sizes[i] >= 0) {
      axes.emplace_back(sizes[i]);
    } else {
      axes.emplace_back(std::string(names[i] == nullptr ? "" : names[i]));
    }
  }
  return axes;
}

std::vector<Array> OrtGraph::run(const std::vector<Lent>& given, const std::vector<std::string>& names) const {
  try {
    Values fed(library, given.size()), answers(library, names.size());
    std::vector<const char*> input_names, output_names;
    for (const Lent& lent : given) {
      fed.add(lent);
      input_names.push_back(lent.name.c_str());
    }
    for (const std::string& name : names) {
      answers.add_empty();
      output_names.push_back(name.c_str());
    }
    library.table.call(kRun, session, static_cast<const OrtRunOptions*>(library.run_options),
                       static_cast<const char* const*>(input_names.data()),
                       static_cast<const OrtValue* const*>(fed.data()), given.size(),
                       static_cast<const char* const*>(output_names.data()), names.size(), answers.data());
    std::vector<Array> results;
    for (size_t i = 0; i < names.size(); ++i) results.push_back(copy_out(answers.data()[i], names[i]));
    return results;
  } catch (const Refusal& refusal) {
    fail(LSTM_EDGE_INPUT, refusal.line);
  }
}

Array OrtGraph::copy_out(OrtValue* value, const std::string& name) const {
  const Table& table = library.table;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  table.call(kGetTensorTypeAndShape, static_cast<const OrtValue*>(value), &info);
  const auto owner = table.own(info, kReleaseShapeInfo);
  const OrtTensorTypeAndShapeInfo* const shown = info;
  int type = 0;
  size_t rank = 0;
  table.call(kGetTensorElementType, shown, &type);
  table.call(kGetDimensionsCount, shown, &rank);
  Shape shape(rank);
  if (rank > 0) table.call(kGetDimensions, shown, shape.data(), rank);
  if (!is_number(type)) {
    fail(LSTM_EDGE_ARTIFACT,
         "output " + repr(name) + " is a tensor(" + element_name(type) + "); only tensors of numbers are supported");
  }
  Array array(lstm_edge_dtype(type), shape);
  void* memory = nullptr;
  table.call(kGetTensorMutableData, value, &memory);
  if (array.bytes() > 0) std::memcpy(array.data<char>(), memory, array.bytes());
  return array;
}

class OrtBinding : public Binding {
 public:
  OrtBinding(std::shared_ptr<const OrtGraph> graph, const std::vector<Lent>& given, const std::vector<Lent>& taken)
      : graph_(std::move(graph)), table_(graph_->library.table) {
    try {
      table_.call(kCreateIoBinding, graph_->session, &binding_);
      // The binding shares the tensors, which go with it.
      Values values(graph_->library, given.size() + taken.size());
      for (const Lent& lent : given) add(kBindInput, lent, values);
      for (const Lent& lent : taken) add(kBindOutput, lent, values);
    } catch (const Refusal& refusal) {
      if (binding_ != nullptr) table_.ask<void>(kReleaseIoBinding, binding_);
      fail(LSTM_EDGE_INPUT, refusal.line);
    }
  }
  OrtBinding(const OrtBinding&) = delete;
  OrtBinding& operator=(const OrtBinding&) = delete;
  ~OrtBinding() override { table_.ask<void>(kReleaseIoBinding, binding_); }

  void run() override {
    try {
      table_.call(kRunWithBinding, graph_->session, static_cast<const OrtRunOptions*>(graph_->library.run_options),
                  static_cast<const OrtIoBinding*>(binding_));
    } catch (const Refusal& refusal) {
      fail(LSTM_EDGE_INPUT, refusal.line_of_binding);
    }
  }

 private:
  void add(int position, const Lent& lent, Values& values) {
    const OrtValue* const value = values.add(lent);
    table_.call(position, binding_, lent.name.c_str(), value);
  }

  std::shared_ptr<const OrtGraph> graph_;
  const Table table_;
  OrtIoBinding* binding_ = nullptr;
};

std::unique_ptr<Binding> OrtGraph::bind(const std::vector<Lent>& given, const std::vector<Lent>& taken) const {
  const auto make = [self = shared_from_this(), given, taken]() -> std::unique_ptr<Binding> {
    return std::make_unique<OrtBinding>(self, given, taken);
  };
  if (direct_ != nullptr) {
    if (auto direct = direct_->bind(given, taken, make)) return direct;
  }
  return make();
}

}  // namespace

std::shared_ptr<const Graph> open_graph(std::string_view bytes, const GraphOptions& options) {
  auto graph = std::make_shared<const OrtGraph>(bytes, options);
#if defined(__GLIBC__)
  // glibc keeps up to twice the largest block that was freed: as give_back_heap of heap.py.
  if (bytes.size() >= kLeastHeapBytes) malloc_trim(0);
#endif
  return graph;
}

}  // namespace lstm_edge::device
