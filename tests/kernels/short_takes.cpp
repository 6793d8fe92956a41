// Runs every kind of layer on the portable code after a larger call; test_scratch.py compiles it with a copy of the
// kernels in which the array that the argument names is taken one element too short, under AddressSanitizer.
#include <cstdio>

#include "layers.h"

using namespace lstm_edge;

int short_take = -1;  // number of the take() that is one element too short; read by the changed copy

const InstructionSet& lstm_edge::instruction_set() { return kPortable; }

namespace {

Matrix matrix(Precision precision, int k, int n, int gates) {
  const Columns columns{gates, n / gates};
  const std::vector<float> values(size_t(k) * n, 0.01f), scale(size_t(n) * (k / 32 + 1), 0.01f);
  const std::vector<int8_t> bytes(size_t(k) * n, 3);
  const std::vector<uint8_t> nibbles(size_t(k) * (n + 1) / 2, 0x5a), zeros(scale.size(), 7);
  Raw raw{precision, values.data(), k, n};
  const std::vector<int32_t> index = {0, 1, 5};  // any three blocks
  if (precision != Precision::kFloat) raw.scale = scale.data();
  if (precision == Precision::kInt8) raw.w = bytes.data();
  if (precision == Precision::kInt4) raw = {precision, nibbles.data(), k, n, scale.data(), 32, zeros.data(), n};
  if (precision == Precision::kSparse) {
    raw.w = bytes.data();
    raw.index = index.data();
    raw.blocks = int(index.size());
    return pack_sparse(raw, 0, columns, false);
  }
  return pack(raw, 0, columns, 0);
}

template <typename Layer>
Layer recurrent(Precision precision, int inputs, int hidden, int outputs, int recurrent_gates) {
  Layer layer;
  layer.inputs = inputs;
  layer.hidden = hidden;
  layer.outputs = outputs;
  layer.w = matrix(precision, inputs, Layer::kGates * hidden, Layer::kGates);
  layer.r = matrix(precision, outputs, recurrent_gates * hidden, recurrent_gates);
  layer.bias = allocate<float>(layer.w.width());
  return layer;
}

template <typename Layer>
void run(const Layer& layer, RunRows<Layer> rows, int batch) {
  constexpr int kSteps = 3;
  const std::vector<float> x(size_t(kSteps) * batch * layer.inputs, 0.5f), h(size_t(batch) * layer.outputs, 0.25f);
  const std::vector<float> c(size_t(batch) * layer.hidden, 0.125f);
  std::vector<float> y(size_t(kSteps) * batch * layer.outputs), h_out = h, c_out = c;
  rows(layer, {kSteps, batch, x.data(), h.data(), c.data(), nullptr, y.data(), h_out.data(), c_out.data()}, 0, batch);
}

void run_all(int inputs, int hidden, int batch) {
  for (Precision precision : {Precision::kFloat, Precision::kInt8, Precision::kInt4, Precision::kSparse}) {
    const Precision further = precision == Precision::kSparse ? Precision::kInt8 : precision;
    Lstm lstm = recurrent<Lstm>(precision, inputs, hidden, hidden / 2, 4);
    lstm.projected = true;
    lstm.p = matrix(further, hidden, 3 * hidden, 3);
    lstm.po = matrix(further, hidden, hidden, 1);
    lstm.v = matrix(further, hidden, hidden / 2, 1);
    run(lstm, kPortable.lstm[int(precision)][int(Peephole::kFull)], batch);
    if (precision == Precision::kFloat) continue;
    Gru gru = recurrent<Gru>(precision, inputs, hidden, hidden, 2);
    gru.rn = matrix(precision, hidden, hidden, 1);
    run(gru, kPortable.gru[int(precision)][false], batch);
    const Rnn rnn = recurrent<Rnn>(precision, inputs, hidden, hidden, 1);
    run(rnn, kPortable.rnn[int(precision)][true], batch);
    if (precision == Precision::kSparse) continue;
    Linear linear;
    linear.w = matrix(precision, inputs, hidden, 1);
    linear.bias = allocate<float>(linear.w.width());
    const std::vector<float> x(size_t(batch) * inputs, 0.5f);
    std::vector<float> y(size_t(batch) * hidden);
    kPortable.linear[int(precision)](linear, x.data(), y.data(), batch);
  }
}

}  // namespace

int main(int, char** arguments) {
  run_all(70, 100, 16);  // the block is larger than the next calls need
  short_take = std::atoi(arguments[1]);
  run_all(64, 48, 3);
  std::puts("all layers ran");
}
