// The GRU operators of docs/operators.md on one instruction set.

struct GruRunning : Running {
  using Running::Running;
  float *update, *gated;  // [rows][cells]: z and r · h, where the reset gate comes before the product
  Row* gated_rows;
};

// ((1 - z) · n) + (z · h)
inline V gru_update(V z, V n, V h) { return (1.0f - z) * n + z * h; }

// The reset gate behind the product; z [rows][width of w] is the input's part with the bias.
template <Precision P>
void gru_step_after(const Gru& gru, const GruRunning& run, const float* z, int number) {
  const size_t width = gru.w.width();
  prepare<P>(run.h_rows, run.h, run.cells, run.rows, gru.r);
  // Back and forth, as an LSTM's step.
  for_each_row<P, 3>(gru.r, run.h_rows, run.rows, number % 2, [&](int tile, int row, const float* recurrent) {
    if (!run.inside(row, number)) return;
    const float* x = z + row * width + tile * 3 * kLanes;
    const float* bias = gru.recurrent_bias.get() + tile * kLanes;
    float* h = run.h + row * run.cells + tile * kLanes;
    for (int lane = 0; lane < kLanes; lane += W) {
      const V reset = sigmoid(load(x + lane) + load(recurrent + lane));
      const V update = sigmoid(load(x + kLanes + lane) + load(recurrent + kLanes + lane));
      const V candidate = load(recurrent + 2 * kLanes + lane) + load(bias + lane);
      const V n = hyperbolic_tangent(load(x + 2 * kLanes + lane) + reset * candidate);
      store(h + lane, gru_update(update, n, load(h + lane)));
    }
  });
}

// The reset gate before the product: r · h of a row must be complete before it is rounded, so there are two sweeps.
template <Precision P>
void gru_step_before(const Gru& gru, const GruRunning& run, const float* z, int number) {
  const size_t width = gru.w.width();
  prepare<P>(run.h_rows, run.h, run.cells, run.rows, gru.r);
  for_each_row<P, 2>(gru.r, run.h_rows, run.rows, false, [&](int tile, int row, const float* recurrent) {
    const float* x = z + row * width + tile * 3 * kLanes;
    const size_t at = row * run.cells + tile * kLanes;
    for (int lane = 0; lane < kLanes; lane += W) {
      const V reset = sigmoid(load(x + lane) + load(recurrent + lane));
      store(run.gated + at + lane, reset * load(run.h + at + lane));
      store(run.update + at + lane, sigmoid(load(x + kLanes + lane) + load(recurrent + kLanes + lane)));
    }
  });
  prepare<P>(run.gated_rows, run.gated, run.cells, run.rows, gru.rn);
  for_each_vector<P>(gru.rn, run.gated_rows, run, number, run.cells, [&](int row, size_t i, V product) {
    // The input's part has its cells 16 by 16 between the gates; here they follow one another.
    const V n = hyperbolic_tangent(load(z + row * width + (i / kLanes * 3 + 2) * kLanes + i % kLanes) + product);
    const size_t at = row * run.cells + i;
    store(run.h + at, gru_update(load(run.update + at), n, load(run.h + at)));
  });
}

template <Precision P, bool ResetAfter>
void run_gru(const Gru& gru, const Call& call, int first, int last) {
  GruRunning run(gru, call, first, last);
  Scratch::lay_out([&](Scratch& scratch) {
    run.take<P>(scratch, gru);
    if (ResetAfter) return;
    run.update = scratch.take<float>(run.rows * run.cells);
    run.gated = scratch.take<float>(run.rows * run.cells);
    run.gated_rows = make_rows<P>(scratch, run.rows, gru.hidden);
  });
  run_steps<3>(gru, run, [&](const float* z, int number) {
    if constexpr (ResetAfter) gru_step_after<P>(gru, run, z, number);
    else gru_step_before<P>(gru, run, z, number);
  });
}
