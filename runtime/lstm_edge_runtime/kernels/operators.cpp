// The operator interface: which operators there are, and how onnxruntime calls them.
//
// A malformed node is an error that the session reports: its constants are checked when it is created (node.h),
// everything that moves when it runs, always before a byte of it is read.
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "direct.h"
#include "float_kernel.h"
#include "linear_kernel.h"
#include "recurrent_kernel.h"

namespace lstm_edge {
namespace {

// Whether the onnxruntime that loaded the library can tell a shape without an allocation.
bool has_shape_reference = true;

const char* storage_name(Precision precision) {
  switch (precision) {
    case Precision::kInt8: return "Int8";
    case Precision::kInt4: return "Int4";
    case Precision::kSparse: return "SparseInt8";
    default: return "";
  }
}

// What a name ends in: the storage of the matrices, of w and of r apart where they differ, and the version.
std::string ending(const Operator& op) {
  const std::string r = storage_name(op.precision);
  if (op.w_precision == op.precision) return r + "V1";
  return std::string("W") + storage_name(op.w_precision) + "R" + r + "V1";
}

// The storages that w and r of one operator have.
struct Storages {
  Precision w, r;
};

std::vector<Storages> quantized_storages() {
  const Precision all[] = {Precision::kInt8, Precision::kInt4, Precision::kSparse};
  std::vector<Storages> result;
  for (Precision w : all) {
    for (Precision r : all) result.push_back({w, r});
  }
  return result;
}

template <class Made>
std::unique_ptr<Kernel> make(const Runtime& runtime, const Operator& op, const OrtKernelInfo* info) {
  return std::make_unique<Made>(runtime, op, info);
}

const Operator& self(const OrtCustomOp* op) { return *static_cast<const Operator*>(op); }

// Returns what went wrong in `work` as onnxruntime wants it: no exception may leave the library.
template <typename Work>
OrtStatus* guarded(const Api& api, const Work& work) {
  try {
    work();
    return nullptr;
  } catch (const Failure& failure) {
    return api.error(failure.message.c_str());
  } catch (const std::bad_alloc&) {
    return api.error("not enough memory for a kernel");
  } catch (const std::exception& error) {
    return api.error(error.what());
  }
}

// Who is told in this thread which kernel a node got.
struct Watch {
  LstmEdgeSeen seen = nullptr;
  void* data = nullptr;

  void tell(const Runtime& runtime, const OrtKernelInfo* info, const Kernel* kernel) const {
    if (seen == nullptr) return;
    size_t size = 0;  // with the zero that ends it
    runtime.check(runtime.api.call(kInfoGetNodeName, info, static_cast<char*>(nullptr), &size));
    std::string name(size, 0);
    runtime.check(runtime.api.call(kInfoGetNodeName, info, name.data(), &size));
    seen(data, name.c_str(), kernel);
  }
};
thread_local Watch watch;

OrtStatus* create(const OrtCustomOp* op, const OrtApi* table, const OrtKernelInfo* info, void** result) {
  *result = nullptr;
  const Runtime runtime(table, has_shape_reference);
  return guarded(runtime.api, [&] {
    auto kernel = self(op).make(runtime, self(op), info);
    watch.tell(runtime, info, kernel.get());
    *result = kernel.release();
  });
}

OrtStatus* compute(void* data, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(data);
  return guarded(kernel.onnxruntime.api, [&] { kernel.compute(kernel.onnxruntime, context); });
}

void fill(Operator& op) {
  op.version = kCustomOpVersion;
  op.GetName = [](const OrtCustomOp* o) { return self(o).name.c_str(); };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const OrtCustomOp* o, size_t i) { return self(o).input_types[i]; };
  op.GetInputTypeCount = [](const OrtCustomOp* o) { return self(o).input_types.size(); };
  op.GetOutputType = [](const OrtCustomOp*, size_t) -> int { return kFloat; };
  op.GetOutputTypeCount = [](const OrtCustomOp* o) { return self(o).outputs; };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.GetInputCharacteristic = [](const OrtCustomOp* o, size_t i) { return self(o).optional[i] ? kOptional : 0; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return 0; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
}

std::unique_ptr<Operator> make_lstm(Storages storages, int variant) {
  auto op = std::make_unique<Operator>();
  op->w_precision = storages.w;
  op->precision = storages.r;
  op->peephole = Peephole(variant % 3);
  op->projected = variant / 3 % 2;
  op->ragged = variant / 6;
  op->make = make<LstmKernel>;
  op->outputs = 3;
  const char* peepholes[] = {"", "Diagonal", "Full"};
  op->name = std::string("Lstm") + peepholes[variant % 3] + (op->projected ? "Projected" : "") +
             (op->ragged ? "Ragged" : "") + ending(*op);
  for (const char* moving : {"x", "h", "c"}) op->add(moving, kFloat);
  if (op->ragged) op->add("lengths", kInt64);
  op->add_matrix("w", op->w_precision);
  op->add_matrix("r", op->precision);
  op->add("b", kFloat);
  if (op->peephole == Peephole::kDiagonal) op->add("p", kFloat);
  if (op->peephole == Peephole::kFull) op->add_matrix("p", op->further()), op->add_matrix("po", op->further());
  if (op->projected) op->add_matrix("v", op->further());
  return op;
}

std::unique_ptr<Operator> make_gru(Storages storages, bool reset_after, bool ragged) {
  auto op = std::make_unique<Operator>();
  op->make = make<GruKernel>;
  op->outputs = 2;
  op->w_precision = storages.w;
  op->precision = storages.r;
  op->reset_after = reset_after;
  op->ragged = ragged;
  op->name = std::string("Gru") + (reset_after ? "ResetAfter" : "") + (ragged ? "Ragged" : "") + ending(*op);
  for (const char* moving : {"x", "h"}) op->add(moving, kFloat);
  if (ragged) op->add("lengths", kInt64);
  op->add_matrix("w", op->w_precision);
  op->add_matrix("r", op->precision);
  op->add("b", kFloat);
  if (reset_after) op->add("rb", kFloat);
  return op;
}

std::unique_ptr<Operator> make_rnn(Storages storages, bool relu, bool ragged) {
  auto op = std::make_unique<Operator>();
  op->make = make<RnnKernel>;
  op->outputs = 2;
  op->w_precision = storages.w;
  op->precision = storages.r;
  op->relu = relu;
  op->ragged = ragged;
  op->name = std::string("Rnn") + (relu ? "Relu" : "") + (ragged ? "Ragged" : "") + ending(*op);
  for (const char* moving : {"x", "h"}) op->add(moving, kFloat);
  if (ragged) op->add("lengths", kInt64);
  op->add_matrix("w", op->w_precision);
  op->add_matrix("r", op->precision);
  op->add("b", kFloat);
  return op;
}

std::unique_ptr<Operator> make_linear(Precision precision) {
  auto op = std::make_unique<Operator>();
  op->make = make<LinearKernel>;
  op->w_precision = op->precision = precision;
  op->name = "Linear" + ending(*op);
  op->add("x", kFloat);
  op->add_matrix("w", precision);
  op->add("b", kFloat);
  return op;
}

// The operators whose body is one ONNX LSTM (`variant`: with p) or GRU (`variant`: reset after the product).
std::unique_ptr<Operator> make_float(bool lstm, bool variant, bool ragged) {
  auto op = std::make_unique<Operator>();
  op->make = lstm ? make<FloatLstmKernel> : make<FloatGruKernel>;
  op->outputs = lstm ? 3 : 2;
  op->ragged = ragged;
  op->reset_after = !lstm && variant;
  op->peephole = lstm && variant ? Peephole::kDiagonal : Peephole::kNone;
  op->name = std::string(lstm ? "Lstm" : "Gru") + (variant ? lstm ? "Diagonal" : "ResetAfter" : "") +
             (ragged ? "Ragged" : "") + (lstm ? "V2" : "V1");
  op->add("x", kFloat);
  op->add("h", kFloat, true);
  if (lstm) op->add("c", kFloat, true);
  if (ragged) op->add("lengths", kInt32);
  for (const char* constant : {"w", "r", "b"}) op->add(constant, kFloat);
  if (lstm && variant) op->add("p", kFloat);
  return op;
}

std::vector<std::unique_ptr<Operator>> make_operators() {
  std::vector<std::unique_ptr<Operator>> operators;
  for (int variant = 0; variant < 12; ++variant) {
    operators.push_back(make_lstm({Precision::kFloat, Precision::kFloat}, variant));
  }
  for (Storages storages : quantized_storages()) {
    for (int variant = 0; variant < 12; ++variant) operators.push_back(make_lstm(storages, variant));
    for (int variant = 0; variant < 4; ++variant) {
      operators.push_back(make_gru(storages, variant % 2, variant / 2));
      operators.push_back(make_rnn(storages, variant % 2, variant / 2));
    }
  }
  for (Precision precision : {Precision::kInt8, Precision::kInt4}) operators.push_back(make_linear(precision));
  for (int variant = 0; variant < 8; ++variant) {
    operators.push_back(make_float(variant % 2, variant / 2 % 2, variant / 4));
  }
  for (auto& op : operators) fill(*op);
  return operators;
}

std::string& selected_names() {
  static thread_local std::string names;
  return names;
}

// Operators and domains must outlive every session, so they are made once, by whichever thread comes first, and never
// destroyed: one domain for each selection, and for each onnxruntime in the process, of which Python and a C program
// may have one each. The table only grows, so a newer one has the same positions.
OrtCustomOpDomain* find_domain(const Api& api, const OrtApiBase* base, const std::string& names) {
  static std::mutex mutex;
  static auto& domains = *new std::map<std::pair<const OrtApiBase*, std::string>, OrtCustomOpDomain*>;
  static const auto& operators = *new std::vector<std::unique_ptr<Operator>>(make_operators());
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = domains.find({base, names});
  if (found != domains.end()) return found->second;
  // Asking an older onnxruntime for a newer table makes it complain on stderr: its version is read instead ("1.32.0").
  const char* version = base->GetVersionString();
  if (std::strncmp(version, "1.", 2) == 0 && std::atoi(version + 2) < int(kShapeApi)) has_shape_reference = false;
  OrtCustomOpDomain* made = nullptr;
  OrtStatus* failure = api.call(kCreateCustomOpDomain, "lstm_edge", &made);
  for (const auto& op : operators) {
    if (!names.empty() && names.find(" " + op->name + " ") == std::string::npos) continue;
    if (failure == nullptr) failure = api.call(kCustomOpDomainAdd, made, static_cast<const OrtCustomOp*>(op.get()));
  }
  if (failure != nullptr) {
    api.release(kReleaseStatus, failure);
    return nullptr;
  }
  return domains[{base, names}] = made;
}

}  // namespace
}  // namespace lstm_edge

// The next registration in this thread registers these operators only: names with a space before and after each. An
// empty text selects all. onnxruntime takes 40 KB and half a millisecond for each operator, in every session.
extern "C" __attribute__((visibility("default"))) void LstmEdgeSelectOperators(const char* names) {
  try {
    lstm_edge::selected_names() = names;
  } catch (const std::exception&) {  // no memory: all of them
  }
}

extern "C" void LstmEdgeWatchKernels(LstmEdgeSeen seen, void* data) { lstm_edge::watch = {seen, data}; }

extern "C" OrtStatus* LstmEdgeRunKernel(const void* kernel, const OrtApi* table, OrtKernelContext* context) {
  const lstm_edge::Runtime runtime(table, true);
  return lstm_edge::guarded(runtime.api,
                            [&] { static_cast<const lstm_edge::Kernel*>(kernel)->compute(runtime, context); });
}

// The instruction set in use, for reports.
extern "C" __attribute__((visibility("default"))) const char* LstmEdgeInstructionSet() {
  return lstm_edge::instruction_set().name;
}

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using namespace lstm_edge;
  const OrtApi* table = base->GetApi(kOldestApi);
  if (table == nullptr) return nullptr;  // older than 1.18: the function bodies run
  const Api api(table);
  const char* wanted = std::getenv("LSTM_EDGE_ISA");
  if (wanted != nullptr && *wanted != 0 && std::strcmp(wanted, instruction_set().name) != 0) {
    return api.error("LSTM_EDGE_ISA names an instruction set that this processor or this library does not have");
  }
  try {
    const std::string names = std::exchange(selected_names(), std::string());
    OrtCustomOpDomain* const domain = find_domain(api, base, names);
    if (domain == nullptr) return api.error("the lstm_edge operators could not be registered");
    return api.call(kAddCustomOpDomain, options, domain);
  } catch (const std::exception&) {
    return api.error("not enough memory to register the lstm_edge operators");
  }
}
