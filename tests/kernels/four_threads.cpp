// Four threads call one kernel's weights at once, an LSTM's, a GRU's and an RNN's in int8, an LSTM's and GRUs' in
// float32, for ThreadSanitizer; every answer must have the serial one's bytes.
//
// Python under ThreadSanitizer sees races inside onnxruntime, which is not instrumented; this calls the kernels' own
// functions instead. Built and run by `make test-sanitize`.
#include <cstdio>
#include <thread>

#include "onnx_layout.h"

using namespace lstm_edge;

namespace {

uint32_t state = 1;
float random_value() {  // in -1 to 1: Marsaglia's xorshift
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return float(int32_t(state)) * 0x1p-31f;
}

std::vector<float> random_values(size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = random_value();
  return values;
}

Matrix random_matrix(int k, int n, int gates) {
  std::vector<int8_t> w(size_t(k) * n);
  for (int8_t& value : w) value = int8_t(random_value() * 127);
  const std::vector<float> scale(n, 0.01f);
  return pack({Precision::kInt8, w.data(), k, n, scale.data()}, 0, Columns{gates, n / gates},
              instruction_set().weight_offset);
}

struct Answer {
  std::vector<float> y, h, c;
  bool operator==(const Answer& other) const { return y == other.y && h == other.h && c == other.c; }
};

// What a call asks for besides its sizes: rows of several lengths, from their last step to their first.
struct Manner {
  bool ragged = false, backward = false;
};

template <typename Layer>
Answer run(const Layer& layer, RunRows<Layer> rows, Manner manner, int steps, int batch, uint32_t seed) {
  // Inputs from the seed alone, without the generator above, which the threads would share.
  std::vector<float> x(size_t(steps) * batch * layer.inputs);
  for (size_t i = 0; i < x.size(); ++i) x[i] = float((i * 2654435761u + seed) % 1000u) / 500.0f - 1.0f;
  const std::vector<float> h(size_t(batch) * layer.outputs, 0.25f), c(size_t(batch) * layer.hidden, -0.5f);
  std::vector<int64_t> lengths(batch);
  for (int row = 0; row < batch; ++row) lengths[row] = (row + int(seed)) % (steps + 1);
  Answer answer{std::vector<float>(size_t(steps) * batch * layer.outputs), h, c};
  const Call call{steps,           batch,
                  x.data(),        h.data(),
                  c.data(),        manner.ragged ? lengths.data() : nullptr,
                  answer.y.data(), answer.h.data(),
                  answer.c.data(), 1,
                  manner.backward};
  for (int first = 0; first < batch; first += 16) rows(layer, call, first, std::min(first + 16, batch));
  return answer;
}

// Whether four threads at once give the serial answers, each for shapes of its own.
template <typename Layer>
bool same_on_threads(const Layer& layer, RunRows<Layer> rows, Manner manner = {}) {
  constexpr int kThreads = 4;
  Answer serial[kThreads];
  for (int t = 0; t < kThreads; ++t) serial[t] = run(layer, rows, manner, 3 + t, 1 + 9 * t, uint32_t(t));
  bool same[kThreads] = {};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      bool all = true;
      for (int repeat = 0; repeat < 20; ++repeat)
        all = run(layer, rows, manner, 3 + t, 1 + 9 * t, uint32_t(t)) == serial[t] && all;
      same[t] = all;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) {
    if (!same[t]) return std::printf("thread %d differs from the serial answer\n", t), false;
  }
  return true;
}

// The float32 layers of ONNX's layout, in every manner.
bool same_in_float32(const InstructionSet& set, int inputs, int hidden) {
  const std::vector<float> w = random_values(size_t(4) * hidden * inputs), b = random_values(size_t(8) * hidden);
  const std::vector<float> r = random_values(size_t(4) * hidden * hidden), p = random_values(size_t(3) * hidden);
  const RunRows<Lstm>* lstm = set.lstm[int(Precision::kFloat)];
  const RunRows<Gru>* gru = set.gru[int(Precision::kFloat)];
  for (int number = 0; number < 4; ++number) {
    const Manner manner{number % 2 == 1, number / 2 == 1};
    for (bool second : {false, true}) {  // an LSTM with peepholes; a GRU with the reset gate after the product
      const Lstm cell = onnx_lstm(w.data(), r.data(), b.data(), second ? p.data() : nullptr, inputs, hidden);
      if (!same_on_threads(cell, lstm[int(second ? Peephole::kDiagonal : Peephole::kNone)], manner)) return false;
      const Gru gates = onnx_gru(w.data(), r.data(), b.data(), inputs, hidden, second);
      if (!same_on_threads(gates, gru[second], manner)) return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  constexpr int kInputs = 24, kHidden = 40;
  Lstm lstm;
  lstm.inputs = kInputs;
  lstm.hidden = lstm.outputs = kHidden;
  lstm.w = random_matrix(kInputs, 4 * kHidden, 4);
  lstm.r = random_matrix(kHidden, 4 * kHidden, 4);
  lstm.p = random_matrix(kHidden, 3 * kHidden, 3);
  lstm.po = random_matrix(kHidden, kHidden, 1);
  lstm.bias = allocate<float>(lstm.w.width());
  const std::vector<float> bias = random_values(4 * kHidden);
  for (int i = 0; i < 4 * kHidden; ++i) lstm.bias[Columns{4, kHidden}.packed(i)] = bias[i];

  Gru gru;
  gru.inputs = kInputs;
  gru.hidden = gru.outputs = kHidden;
  gru.w = random_matrix(kInputs, 3 * kHidden, 3);
  gru.r = random_matrix(kHidden, 2 * kHidden, 2);
  gru.rn = random_matrix(kHidden, kHidden, 1);
  gru.bias = allocate<float>(gru.w.width());

  Rnn rnn;
  rnn.inputs = kInputs;
  rnn.hidden = rnn.outputs = kHidden;
  rnn.w = random_matrix(kInputs, kHidden, 1);
  rnn.r = random_matrix(kHidden, kHidden, 1);
  rnn.bias = allocate<float>(rnn.w.width());

  const InstructionSet& set = instruction_set();
  if (!same_on_threads(lstm, set.lstm[int(Precision::kInt8)][int(Peephole::kFull)])) return 1;
  if (!same_on_threads(gru, set.gru[int(Precision::kInt8)][false])) return 1;
  if (!same_on_threads(rnn, set.rnn[int(Precision::kInt8)][true])) return 1;
  if (!same_in_float32(set, kInputs, kHidden)) return 1;
  std::printf("%s: four threads gave the serial bits\n", set.name);
  return 0;
}
