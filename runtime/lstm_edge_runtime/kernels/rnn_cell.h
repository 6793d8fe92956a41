// The RNN operators of docs/operators.md on one instruction set.

// +0 for every sum up to zero; NaN stays NaN.
inline V rectified(V x) { return x <= 0.0f ? V{} : x; }

// One step of all rows; z [rows][width of w] is the input's part with the bias. Tiles of w and r are 64 cells.
template <Precision P, bool Relu>
void rnn_step(const Rnn& rnn, const Running& run, const float* z, int number) {
  const size_t width = rnn.w.width();
  prepare<P>(run.h_rows, run.h, run.cells, run.rows, rnn.r);
  for_each_vector<P>(rnn.r, run.h_rows, run, number, run.cells, [&](int row, size_t i, V product) {
    const V sum = load(z + row * width + i) + product;
    store(run.h + row * run.cells + i, Relu ? rectified(sum) : hyperbolic_tangent(sum));
  });
}

template <Precision P, bool Relu>
void run_rnn(const Rnn& rnn, const Call& call, int first, int last) {
  Running run(rnn, call, first, last);
  Scratch::lay_out([&](Scratch& scratch) { run.take<P>(scratch, rnn); });
  run_steps<4>(rnn, run, [&](const float* z, int number) { rnn_step<P, Relu>(rnn, run, z, number); });
}
