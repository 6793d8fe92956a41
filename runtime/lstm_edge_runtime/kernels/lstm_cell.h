// The LSTM operators of docs/operators.md on one instruction set.

struct LstmRunning : Running {
  using Running::Running;
  float* c;                 // [rows][cells]
  float* gate;              // [rows][cells]: the output gate's sum (full peephole), then o · tanh(c) (projection)
  Row *c_rows, *gate_rows;  // of a full peephole, of a projection
};

// The diagonal weights of gate i, f or o (0, 1, 2).
inline const float* diagonal_of(const Lstm& lstm, int gate) {
  return lstm.diagonal.get() + gate * padded_floats(lstm.hidden);
}

// Gates and cell of 16 cells of one row: z [4][16] is the input's part, zh the recurrent part, zc the part of c[t-1].
template <Peephole K>
void cell(const Lstm& lstm, const float* z, const float* zh, const float* zc, size_t at, float* c, float* h,
          float* gate) {
  for (int lane = 0; lane < kLanes; lane += W) {
    V a[4];
    for (int g = 0; g < 4; ++g) a[g] = load(z + g * kLanes + lane) + load(zh + g * kLanes + lane);
    const V before = load(c + at + lane);
    if constexpr (K == Peephole::kDiagonal) {
      a[0] = a[0] + load(diagonal_of(lstm, 0) + at + lane) * before;
      a[1] = a[1] + load(diagonal_of(lstm, 1) + at + lane) * before;
    } else if constexpr (K == Peephole::kFull) {
      for (int g = 0; g < 3; ++g) a[g] = a[g] + load(zc + g * kLanes + lane);
    }
    const V now = sigmoid(a[1]) * before + sigmoid(a[0]) * hyperbolic_tangent(a[2]);
    store(c + at + lane, now);
    if constexpr (K == Peephole::kFull) {
      store(gate + at + lane, a[3]);
      continue;
    }
    if constexpr (K == Peephole::kDiagonal) a[3] = a[3] + load(diagonal_of(lstm, 2) + at + lane) * now;
    store((lstm.projected ? gate : h) + at + lane, sigmoid(a[3]) * hyperbolic_tangent(now));
  }
}

// The output gate of a full peephole sees c[t], which must be complete: a second sweep.
template <Precision P>
void late_gate(const Lstm& lstm, const LstmRunning& run, int number) {
  prepare<kFurther<P>>(run.c_rows, run.c, run.cells, run.rows, lstm.po);
  for_each_vector<kFurther<P>>(lstm.po, run.c_rows, run, number, run.cells, [&](int row, size_t i, V product) {
    const size_t at = row * run.cells + i;
    const V o = sigmoid(load(run.gate + at) + product);
    store(lstm.projected ? run.gate + at : run.h + row * run.outputs + i, o * hyperbolic_tangent(load(run.c + at)));
  });
  // The next step multiplies the same c with p, whose blocks may be of another size.
  if (P == Precision::kInt4 && lstm.p.block != lstm.po.block) {
    prepare<kFurther<P>>(run.c_rows, run.c, run.cells, run.rows, lstm.p);
  }
}

// One step of all rows; z [rows][width of w] is the input's part with the bias. Every other step goes through the tiles
// from the last to the first: weights a little larger than a cache are then mostly still there (13 % of the time of a
// sequence at hidden 512), and the answer is the same.
template <Precision P, Peephole K>
void lstm_step(const Lstm& lstm, const LstmRunning& run, const float* z, int number) {
  alignas(64) float peephole[kMostRows * 3 * kLanes];
  const size_t width = lstm.w.width();
  int first = 0;  // the row that `peephole` starts at
  prepare<P>(run.h_rows, run.h, run.outputs, run.rows, lstm.r);
  for_each_tile<P, 4>(
      lstm.r, run.h_rows, run.rows, number % 2,
      [&](int tile, int row, const float* recurrent) {
        if (!run.inside(row, number)) return;
        cell<K>(lstm, z + row * width + tile * 4 * kLanes, recurrent, peephole + (row - first) * 3 * kLanes,
                size_t(tile) * kLanes, run.c + row * run.cells, run.h + row * run.outputs, run.gate + row * run.cells);
      },
      [&](int tile, int row, int done) {
        first = row;
        if constexpr (K == Peephole::kFull)
          tile_product<kFurther<P>, 3>(lstm.p, tile, run.c_rows + row, done, peephole);
      });
  if constexpr (K == Peephole::kFull) late_gate<P>(lstm, run, number);
  if (!lstm.projected) return;
  prepare<kFurther<P>>(run.gate_rows, run.gate, run.cells, run.rows, lstm.v);
  for_each_vector<kFurther<P>>(lstm.v, run.gate_rows, run, number, run.outputs,
                               [&](int row, size_t i, V product) { store(run.h + row * run.outputs + i, product); });
}

template <Precision P, Peephole K>
void run_lstm(const Lstm& lstm, const Call& call, int first, int last) {
  LstmRunning run(lstm, call, first, last);
  Scratch::lay_out([&](Scratch& scratch) {
    run.take<P>(scratch, lstm);
    run.c = scratch.take<float>(run.rows * run.cells);
    run.gate = scratch.take<float>(run.rows * run.cells);
    if (K == Peephole::kFull) run.c_rows = make_rows<kFurther<P>>(scratch, run.rows, lstm.hidden);
    if (lstm.projected) run.gate_rows = make_rows<kFurther<P>>(scratch, run.rows, lstm.hidden);
  });
  load_rows(run.c, call.c, first, run.rows, lstm.hidden);
  std::memset(run.gate, 0, sizeof(float) * run.rows * run.cells);
  if constexpr (K == Peephole::kFull) prepare<kFurther<P>>(run.c_rows, run.c, run.cells, run.rows, lstm.p);
  run_steps<4>(lstm, run, [&](const float* z, int number) { lstm_step<P, K>(lstm, run, z, number); });
  store_rows(call.c_out + size_t(first) * lstm.hidden, run.c, run.rows, lstm.hidden);
}
