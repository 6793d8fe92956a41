// The operator interface: which operators there are, what they check, and how onnxruntime calls them.
//
// A malformed node is an error that the session reports: constants are checked when it is created, everything that
// moves when it runs, always before a byte of it is read.
#include <atomic>
#include <cstdio>
#include <new>
#include <string>

#include "lstm.h"
#include "ort_runtime.h"

namespace lstm_edge {
namespace {

constexpr int kGroupRows = 16;              // rows that run together; groups may run on several threads
constexpr int64_t kParallelWork = 1 << 22;  // multiplications below which a second thread costs more than it brings

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

// An operator: its name and its inputs, in order. `weight` marks a matrix, which scales (and zero points) follow.
struct Operator : OrtCustomOp {
  std::string name;
  bool is_linear = false, projected = false, ragged = false;
  Precision precision = Precision::kFloat;
  Peephole peephole = Peephole::kNone;
  std::vector<int> input_types;
  std::vector<std::string> input_names;

  void add(const char* input, int type) {
    input_names.push_back(input);
    input_types.push_back(type);
  }
  void add_matrix(const std::string& matrix) {
    const int types[] = {kFloat, kInt8, kUint8};
    add(matrix.c_str(), types[int(precision)]);
    if (precision != Precision::kFloat) add((matrix + "_scale").c_str(), kFloat);
    if (precision == Precision::kInt4) add((matrix + "_zero").c_str(), kUint8);
  }
};

// Reads the constant inputs of a node, one after the other.
class Constants {
 public:
  Constants(const Runtime& runtime, const OrtKernelInfo* info, const Operator& op, size_t first)
      : runtime_(runtime), info_(info), op_(op), next_(first) {}

  // The next constant, whose shape must be `dims` (-1: any) and whose type is the operator's.
  template <typename T>
  const T* take(std::initializer_list<int64_t> dims, Shape& shape) {
    const char* name = op_.input_names[next_].c_str();
    const OrtValue* value = runtime_.constant(info_, next_, name);
    runtime_.read_shape(value, shape);
    bool fits = shape.rank == dims.size() && shape.type == op_.input_types[next_];
    size_t axis = 0;
    for (int64_t wanted : dims) {
      fits = fits && shape.dims[axis] > 0 && shape.dims[axis] < (1 << 24) && (wanted < 0 || shape.dims[axis] == wanted);
      ++axis;
    }
    require(fits, [&] { return op_.name + ": input " + name + " has shape " + shape.text(); });
    ++next_;
    return runtime_.data<T>(value);
  }

  // The next matrix [k, n] (-1: any), with its scales and zero points, packed.
  Matrix matrix(int64_t k, int64_t n, int gates) {
    Shape shape;
    const int offset = instruction_set().weight_offset;
    if (op_.precision == Precision::kFloat) {
      const float* w = take<float>({k, n}, shape);
      const int rows = int(shape.dims[0]), columns = int(shape.dims[1]);
      return pack_float(w, rows, columns, layout(columns, gates));
    }
    if (op_.precision == Precision::kInt8) {
      const int8_t* w = take<int8_t>({k, n}, shape);
      const int rows = int(shape.dims[0]), columns = int(shape.dims[1]);
      const float* scale = take_scales({columns}, shape);
      bool allowed = true;
      for (int64_t i = 0; i < int64_t(rows) * columns; ++i) allowed &= w[i] != -128;
      require(allowed, [&] { return op_.name + ": a weight is -128, which the operator does not allow"; });
      return pack_int8(w, scale, rows, columns, layout(columns, gates), offset);
    }
    return int4_matrix(k, n, gates);
  }

 private:
  // Scales must be finite and positive.
  const float* take_scales(std::initializer_list<int64_t> dims, Shape& shape) {
    const size_t index = next_;
    const float* scale = take<float>(dims, shape);
    bool allowed = true;
    for (int64_t i = 0; i < shape.count(); ++i) allowed &= scale[i] > 0.0f && scale[i] <= 3.402823466e38f;
    require(allowed, [&] { return op_.name + ": input " + op_.input_names[index] + " holds a scale that is not positive"; });
    return scale;
  }

  Columns layout(int columns, int gates) const {
    require(columns % gates == 0, [&] { return op_.name + ": the columns do not divide into gates"; });
    return Columns{gates, columns / gates};
  }

  // Four bits are packed along the columns, so the bytes show K, and the scales show N.
  Matrix int4_matrix(int64_t k, int64_t n, int gates) {
    Shape shape;
    const uint8_t* w = take<uint8_t>({k, n < 0 ? -1 : (n + 1) / 2}, shape);
    const int rows = int(shape.dims[0]), bytes = int(shape.dims[1]);
    const float* scale = take_scales({-1, n}, shape);
    const int blocks = int(shape.dims[0]), columns = int(shape.dims[1]);
    require((columns + 1) / 2 == bytes, [&] { return op_.name + ": a scale has other columns than its weight"; });
    const int block = blocks == (rows + 31) / 32 ? 32 : 128;
    require(blocks == (rows + block - 1) / block,
            [&] { return op_.name + ": the scales are for blocks of neither 32 nor 128"; });
    const uint8_t* zero = take<uint8_t>({-1, -1}, shape);
    const bool one = shape.dims[0] == 1 && shape.dims[1] == 1;
    require(one || (shape.dims[0] == blocks && shape.dims[1] == columns),
            [&] { return op_.name + ": zero points must be one, or one for each scale"; });
    const bool symmetric = one && zero[0] == 8;
    return pack_int4(w, scale, symmetric ? nullptr : zero, one ? 0 : columns, rows, columns, block, layout(columns, gates));
  }

  const Runtime& runtime_;
  const OrtKernelInfo* info_;
  const Operator& op_;
  size_t next_;
};

struct Kernel {
  Runtime runtime;
  const Operator& op;
  const InstructionSet& set;
  Lstm lstm;
  Linear linear;
};

// Puts a bias [n] in the order of the packed columns.
Aligned<float> pack_bias(const float* bias, const Matrix& matrix, Columns columns) {
  Aligned<float> packed = allocate<float>(matrix.width());
  for (int column = 0; column < matrix.n; ++column) packed[columns.packed(column)] = bias[column];
  return packed;
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

struct RowGroups {
  const Kernel& kernel;
  const LstmCall& call;
  std::atomic<bool> out_of_memory{false};
};

void run_group(void* data, size_t index) {
  RowGroups& groups = *static_cast<RowGroups*>(data);
  const int first = int(index) * kGroupRows;
  const int last = first + kGroupRows < groups.call.batch ? first + kGroupRows : groups.call.batch;
  try {
    groups.kernel.set.lstm(groups.kernel.lstm, groups.call, first, last);
  } catch (const std::bad_alloc&) {  // must not leave a thread of onnxruntime's
    groups.out_of_memory = true;
  }
}

void compute_lstm(const Kernel& kernel, OrtKernelContext* context) {
  const Runtime& runtime = kernel.runtime;
  const Lstm& lstm = kernel.lstm;
  const OrtValue *x = runtime.input(context, 0), *h = runtime.input(context, 1), *c = runtime.input(context, 2);
  Shape shape;
  runtime.read_shape(x, shape);
  require(shape.rank == 3 && shape.dims[2] == lstm.inputs && shape.dims[0] > 0 && shape.dims[1] > 0,
          [&] {
            return kernel.op.name + ": x has shape " + shape.text() + ", expected [time, batch, " +
                   std::to_string(lstm.inputs) + "], both at least 1";
          });
  const int64_t steps = shape.dims[0], batch = shape.dims[1];
  require(steps < (1 << 30) && batch < (1 << 24), [&] { return kernel.op.name + ": x has too many steps or rows"; });
  const int64_t state_dims[2][3] = {{1, batch, lstm.outputs}, {1, batch, lstm.hidden}};
  const OrtValue* states[2] = {h, c};
  for (int i = 0; i < 2; ++i) {
    runtime.read_shape(states[i], shape);
    require(shape.rank == 3 && std::memcmp(shape.dims, state_dims[i], sizeof state_dims[i]) == 0,
            [&] {
              return kernel.op.name + ": " + (i ? "c" : "h") + " has another shape than [1, " + std::to_string(batch) +
                     ", " + std::to_string(state_dims[i][2]) + "]";
            });
  }
  LstmCall call{int(steps), int(batch), runtime.data<float>(x), runtime.data<float>(h), runtime.data<float>(c),
                nullptr, nullptr, nullptr, nullptr};
  if (lstm.ragged) {
    const OrtValue* lengths = runtime.input(context, 3);
    runtime.read_shape(lengths, shape);
    require(shape.rank == 1 && shape.dims[0] == batch,
            [&] { return kernel.op.name + ": lengths has another shape than [batch]"; });
    call.lengths = runtime.data<int64_t>(lengths);
  }
  const int64_t y_dims[3] = {steps, batch, lstm.outputs};
  call.y = runtime.output(context, 0, y_dims, 3);
  call.h_out = runtime.output(context, 1, state_dims[0], 3);
  call.c_out = runtime.output(context, 2, state_dims[1], 3);
  require(call.y && call.h_out && call.c_out, [&] { return kernel.op.name + ": an output is missing"; });
  const int64_t groups = (batch + kGroupRows - 1) / kGroupRows;
  const int64_t work = steps * batch * (int64_t(lstm.inputs) + lstm.outputs) * 4 * lstm.hidden;
  RowGroups data{kernel, call};
  if (groups > 1 && work > kParallelWork) {
    runtime.check(runtime.api.call(kContextParallelFor, static_cast<const OrtKernelContext*>(context), &run_group,
                                   size_t(groups), size_t(0), static_cast<void*>(&data)));
  } else {
    for (int64_t i = 0; i < groups; ++i) run_group(&data, size_t(i));
  }
  if (data.out_of_memory) throw std::bad_alloc();
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
        Kernel{Runtime(table, has_shape_reference), own, instruction_set(), Lstm{}, Linear{}});
    own.is_linear ? read_linear(*kernel, info) : read_lstm(*kernel, info);
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
    kernel.op.is_linear ? compute_linear(kernel, context) : compute_lstm(kernel, context);
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
  op.GetOutputTypeCount = [](const OrtCustomOp* o) -> size_t { return self(o).is_linear ? 1 : 3; };
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
    auto op = std::make_unique<Operator>();
    op->is_linear = true;
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
