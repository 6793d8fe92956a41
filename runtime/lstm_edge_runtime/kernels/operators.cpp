// The operator interface: which operators there are, and how onnxruntime calls them.
//
// A malformed node is an error that the session reports: its constants are checked when it is created (node.h),
// everything that moves when it runs, always before a byte of it is read.
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "linear_kernel.h"
#include "recurrent_kernel.h"

namespace lstm_edge {
namespace {

// Whether the onnxruntime that loaded the library can tell a shape without an allocation.
bool has_shape_reference = false;

std::string cell_name(Precision precision, Peephole peephole, bool projected, bool ragged) {
  std::string name = "Lstm";
  if (peephole == Peephole::kDiagonal) name += "Diagonal";
  if (peephole == Peephole::kFull) name += "Full";
  if (projected) name += "Projected";
  if (ragged) name += "Ragged";
  if (precision == Precision::kInt8) name += "Int8";
  if (precision == Precision::kInt4) name += "Int4";
  return name + "V1";
}

std::string gru_name(Precision precision, bool reset_after, bool ragged) {
  std::string name = "Gru";
  if (reset_after) name += "ResetAfter";
  if (ragged) name += "Ragged";
  return name + (precision == Precision::kInt8 ? "Int8V1" : "Int4V1");
}

std::string rnn_name(Precision precision, bool relu, bool ragged) {
  std::string name = "Rnn";
  if (relu) name += "Relu";
  if (ragged) name += "Ragged";
  return name + (precision == Precision::kInt8 ? "Int8V1" : "Int4V1");
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

OrtStatus* create(const OrtCustomOp* op, const OrtApi* table, const OrtKernelInfo* info, void** result) {
  *result = nullptr;
  const Runtime runtime(table, has_shape_reference);
  return guarded(runtime.api, [&] { *result = self(op).make(runtime, self(op), info).release(); });
}

OrtStatus* compute(void* data, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(data);
  return guarded(kernel.runtime.api, [&] { kernel.compute(context); });
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
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return 0; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return 0; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
}

std::vector<std::unique_ptr<Operator>> make_operators() {
  std::vector<std::unique_ptr<Operator>> operators;
  for (Precision precision : {Precision::kFloat, Precision::kInt8, Precision::kInt4}) {
    for (int variant = 0; variant < 12; ++variant) {
      auto op = std::make_unique<Operator>();
      op->precision = precision;
      op->peephole = Peephole(variant % 3);
      op->projected = variant / 3 % 2;
      op->ragged = variant / 6;
      op->make = make<LstmKernel>;
      op->outputs = 3;
      op->name = cell_name(precision, op->peephole, op->projected, op->ragged);
      for (const char* moving : {"x", "h", "c"}) op->add(moving, kFloat);
      if (op->ragged) op->add("lengths", kInt64);
      op->add_matrix("w");
      op->add_matrix("r");
      op->add("b", kFloat);
      if (op->peephole == Peephole::kDiagonal) op->add("p", kFloat);
      if (op->peephole == Peephole::kFull) op->add_matrix("p"), op->add_matrix("po");
      if (op->projected) op->add_matrix("v");
      operators.push_back(std::move(op));
    }
  }
  for (Precision precision : {Precision::kInt8, Precision::kInt4}) {
    for (int variant = 0; variant < 4; ++variant) {
      auto op = std::make_unique<Operator>();
      op->make = make<GruKernel>;
      op->outputs = 2;
      op->precision = precision;
      op->reset_after = variant % 2;
      op->ragged = variant / 2;
      op->name = gru_name(precision, op->reset_after, op->ragged);
      for (const char* moving : {"x", "h"}) op->add(moving, kFloat);
      if (op->ragged) op->add("lengths", kInt64);
      op->add_matrix("w");
      op->add_matrix("r");
      op->add("b", kFloat);
      if (op->reset_after) op->add("rb", kFloat);
      operators.push_back(std::move(op));
    }
    for (int variant = 0; variant < 4; ++variant) {
      auto op = std::make_unique<Operator>();
      op->make = make<RnnKernel>;
      op->outputs = 2;
      op->precision = precision;
      op->relu = variant % 2;
      op->ragged = variant / 2;
      op->name = rnn_name(precision, op->relu, op->ragged);
      for (const char* moving : {"x", "h"}) op->add(moving, kFloat);
      if (op->ragged) op->add("lengths", kInt64);
      op->add_matrix("w");
      op->add_matrix("r");
      op->add("b", kFloat);
      operators.push_back(std::move(op));
    }
    auto op = std::make_unique<Operator>();
    op->make = make<LinearKernel>;
    op->precision = precision;
    op->name = precision == Precision::kInt8 ? "LinearInt8V1" : "LinearInt4V1";
    op->add("x", kFloat);
    op->add_matrix("w");
    op->add("b", kFloat);
    operators.push_back(std::move(op));
  }
  for (auto& op : operators) fill(*op);
  return operators;
}

}  // namespace
}  // namespace lstm_edge

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
  // Operators and domain must outlive every session, so they are made once, by whichever thread comes first, and never
  // destroyed. The table only grows, so a newer one has the same positions.
  static OrtStatus* failure = nullptr;
  try {
    static OrtCustomOpDomain* const domain = [&]() -> OrtCustomOpDomain* {
      // Asking an older onnxruntime for a newer table makes it complain on stderr: its version is read instead
      // ("1.32.0").
      const char* version = base->GetVersionString();
      has_shape_reference = std::strncmp(version, "1.", 2) != 0 || std::atoi(version + 2) >= int(kShapeApi);
      const auto* operators = new std::vector<std::unique_ptr<Operator>>(make_operators());
      OrtCustomOpDomain* made = nullptr;
      failure = api.call(kCreateCustomOpDomain, "lstm_edge", &made);
      for (const auto& op : *operators) {
        if (failure == nullptr) failure = api.call(kCustomOpDomainAdd, made, static_cast<const OrtCustomOp*>(op.get()));
      }
      return made;
    }();
    if (failure != nullptr) return api.error("the lstm_edge operators could not be registered");
    return api.call(kAddCustomOpDomain, options, domain);
  } catch (const std::exception&) {
    return api.error("not enough memory to register the lstm_edge operators");
  }
}
