// The operator interface: which operators there are, and how onnxruntime calls them.
//
// A malformed node is an error that the session reports: its constants are checked when it is created (node.h),
// everything that moves when it runs, always before a byte of it is read.
#include <cstdio>
#include <new>
#include <string>

#include "gru.h"

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

void read_lstm(Kernel& kernel, const OrtKernelInfo* info) {
  const Operator& op = kernel.op;
  Constants constants(kernel.runtime, info, op, op.ragged ? 4 : 3);
  Lstm& lstm = kernel.lstm;
  lstm.precision = op.precision;
  lstm.peephole = op.peephole;
  lstm.projected = op.projected;
  lstm.ragged = op.ragged;
  lstm.w = constants.matrix(-1, -1, 4);
  lstm.inputs = lstm.w.k;
  lstm.hidden = lstm.w.n / 4;
  lstm.r = constants.matrix(-1, lstm.w.n, 4);
  lstm.outputs = lstm.r.k;
  require(op.projected || lstm.outputs == lstm.hidden,
          [&] { return op.name + ": r has rows for other than the hidden size"; });
  Shape shape;
  const float* bias = constants.take<float>({lstm.w.n}, shape);
  lstm.bias = pack_bias(bias, lstm.w, Columns{4, lstm.hidden});
  if (op.peephole == Peephole::kDiagonal) {
    const float* p = constants.take<float>({3, lstm.hidden}, shape);
    const size_t cells = padded(sizeof(float) * lstm.hidden) / sizeof(float);
    lstm.diagonal = allocate<float>(3 * cells);
    for (int gate = 0; gate < 3; ++gate) {
      std::memcpy(lstm.diagonal.get() + gate * cells, p + gate * lstm.hidden, sizeof(float) * lstm.hidden);
    }
  } else if (op.peephole == Peephole::kFull) {
    lstm.p = constants.matrix(lstm.hidden, 3 * lstm.hidden, 3);
    lstm.po = constants.matrix(lstm.hidden, lstm.hidden, 1);
  }
  if (op.projected) lstm.v = constants.matrix(lstm.hidden, lstm.outputs, 1);
}

void read_linear(Kernel& kernel, const OrtKernelInfo* info) {
  Constants constants(kernel.runtime, info, kernel.op, 1);
  kernel.linear.precision = kernel.op.precision;
  Shape shape;
  kernel.linear.w = constants.matrix(-1, -1, 1);
  const float* bias = constants.take<float>({kernel.linear.w.n}, shape);
  kernel.linear.bias = pack_bias(bias, kernel.linear.w, Columns{1, kernel.linear.w.n});
}

void compute_lstm(const Kernel& kernel, OrtKernelContext* context) {
  const Runtime& runtime = kernel.runtime;
  const Lstm& lstm = kernel.lstm;
  const OrtValue* x = runtime.input(context, 0);
  const auto [steps, batch] = read_sizes(kernel, x, lstm.inputs);
  LstmCall call{int(steps), int(batch), runtime.data<float>(x), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  call.h = read_state(kernel, runtime.input(context, 1), "h", batch, lstm.outputs);
  call.c = read_state(kernel, runtime.input(context, 2), "c", batch, lstm.hidden);
  if (lstm.ragged) call.lengths = read_lengths(kernel, runtime.input(context, 3), batch);
  const int64_t y_dims[3] = {steps, batch, lstm.outputs};
  const int64_t h_dims[3] = {1, batch, lstm.outputs}, c_dims[3] = {1, batch, lstm.hidden};
  call.y = runtime.output(context, 0, y_dims, 3);
  call.h_out = runtime.output(context, 1, h_dims, 3);
  call.c_out = runtime.output(context, 2, c_dims, 3);
  require(call.y && call.h_out && call.c_out, [&] { return kernel.op.name + ": an output is missing"; });
  const double work = double(steps) * double(batch) * (double(lstm.inputs) + lstm.outputs) * 4 * lstm.hidden;
  run_groups(runtime, context, kernel.set.lstm, lstm, call, work);
}

void compute_linear(const Kernel& kernel, OrtKernelContext* context) {
  const Runtime& runtime = kernel.runtime;
  const OrtValue* x = runtime.input(context, 0);
  Shape shape;
  runtime.read_shape(x, shape);
  const Matrix& w = kernel.linear.w;
  require(shape.rank >= 1 && shape.rank <= 8 && shape.dims[shape.rank - 1] == w.k,
          [&] { return kernel.op.name + ": the last axis of x is not " + std::to_string(w.k); });
  const int64_t rows = shape.count() / w.k;
  int64_t dims[8];
  std::memcpy(dims, shape.dims, sizeof(int64_t) * shape.rank);
  dims[shape.rank - 1] = w.n;
  float* y = runtime.output(context, 0, dims, shape.rank);
  if (y != nullptr) kernel.set.linear(kernel.linear, runtime.data<float>(x), y, rows);
}

constexpr const char* kOutOfMemory = "not enough memory for a kernel";

// What onnxruntime calls; no exception leaves these.
OrtStatus* create(const OrtCustomOp* op, const OrtApi* table, const OrtKernelInfo* info, void** result) {
  *result = nullptr;
  const Operator& own = *static_cast<const Operator*>(op);
  try {
    auto kernel = std::make_unique<Kernel>(
        Kernel{Runtime(table, has_shape_reference), own, instruction_set(), Lstm{}, Gru{}, Linear{}});
    switch (own.kind) {
      case Kind::kLstm: read_lstm(*kernel, info); break;
      case Kind::kGru: read_gru(*kernel, info); break;
      case Kind::kLinear: read_linear(*kernel, info); break;
    }
    *result = kernel.release();
    return nullptr;
  } catch (const Failure& failure) {
    return Api(table).error(failure.message.c_str());
  } catch (const std::bad_alloc&) {
    return Api(table).error(kOutOfMemory);
  } catch (const std::exception& error) {
    return Api(table).error(error.what());
  }
}

OrtStatus* compute(void* data, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(data);
  try {
    switch (kernel.op.kind) {
      case Kind::kLstm: compute_lstm(kernel, context); break;
      case Kind::kGru: compute_gru(kernel, context); break;
      case Kind::kLinear: compute_linear(kernel, context); break;
    }
    return nullptr;
  } catch (const Failure& failure) {
    return kernel.runtime.api.error(failure.message.c_str());
  } catch (const std::bad_alloc&) {
    return kernel.runtime.api.error(kOutOfMemory);
  } catch (const std::exception& error) {
    return kernel.runtime.api.error(error.what());
  }
}

const Operator& self(const OrtCustomOp* op) { return *static_cast<const Operator*>(op); }

void fill(Operator& op) {
  op.version = kCustomOpVersion;
  op.GetName = [](const OrtCustomOp* o) { return self(o).name.c_str(); };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const OrtCustomOp* o, size_t i) { return self(o).input_types[i]; };
  op.GetInputTypeCount = [](const OrtCustomOp* o) { return self(o).input_types.size(); };
  op.GetOutputType = [](const OrtCustomOp*, size_t) -> int { return kFloat; };
  op.GetOutputTypeCount = [](const OrtCustomOp* o) -> size_t {
    const Kind kind = self(o).kind;
    return kind == Kind::kLinear ? 1 : kind == Kind::kGru ? 2 : 3;
  };
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
      op->kind = Kind::kGru;
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
    auto op = std::make_unique<Operator>();
    op->kind = Kind::kLinear;
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
      // Asking an older onnxruntime for a newer table makes it complain on stderr: its version is read instead ("1.32.0").
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
