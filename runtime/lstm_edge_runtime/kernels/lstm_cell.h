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

// Where 16 cells of a row lie: z [4][16] is the input's part, zh the recurrent part, zc the part of c[t-1].
struct CellsOfRow {
  const float *z, *zh, *zc;
  float *c, *h, *gate;
};

// Rows whose cells are computed together: eight exponentials at a time where the registers hold them.
constexpr int kCellRows = W == 16 ? 2 : 1;

// Gates and cells of 16 cells, from `at` on, of R rows.
template <Peephole K, int R>
void cells(const Lstm& lstm, const CellsOfRow* rows, size_t at) {
  constexpr int kFirst = K == Peephole::kNone ? 4 : 3;  // gates that do not see the new c
  constexpr int kLast = K == Peephole::kDiagonal ? 2 : 1;
  for (int lane = 0; lane < kLanes; lane += W) {
    V a[R][4], now[R], e[R * kFirst], last[R * kLast];
#pragma GCC unroll 2
    for (int m = 0; m < R; ++m) {
      const CellsOfRow& row = rows[m];
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) a[m][g] = load(row.z + g * kLanes + lane) + load(row.zh + g * kLanes + lane);
      if constexpr (K == Peephole::kDiagonal) {
        const V before = load(row.c + lane);
        a[m][0] = a[m][0] + load(diagonal_of(lstm, 0) + at + lane) * before;
        a[m][1] = a[m][1] + load(diagonal_of(lstm, 1) + at + lane) * before;
      } else if constexpr (K == Peephole::kFull) {
#pragma GCC unroll 3
        for (int g = 0; g < 3; ++g) a[m][g] = a[m][g] + load(row.zc + g * kLanes + lane);
      }
#pragma GCC unroll 4
      for (int g = 0; g < kFirst; ++g) {
        e[m * kFirst + g] = g == 2 ? tangent_exponent(a[m][g]) : sigmoid_exponent(a[m][g]);
      }
    }
    exponentials(e);
#pragma GCC unroll 2
    for (int m = 0; m < R; ++m) {
      const V* of = e + m * kFirst;
      const V i = sigmoid_of(a[m][0], of[0]), f = sigmoid_of(a[m][1], of[1]), g = tangent_of(a[m][2], of[2]);
      now[m] = f * load(rows[m].c + lane) + i * g;
      store(rows[m].c + lane, now[m]);
      if constexpr (K == Peephole::kNone) a[m][3] = sigmoid_of(a[m][3], of[3]);
      if constexpr (K == Peephole::kFull) store(rows[m].gate + lane, a[m][3]);
      last[m * kLast] = tangent_exponent(now[m]);
      if constexpr (K == Peephole::kDiagonal) {
        a[m][3] = a[m][3] + load(diagonal_of(lstm, 2) + at + lane) * now[m];
        last[m * kLast + 1] = sigmoid_exponent(a[m][3]);
      }
    }
    if constexpr (K == Peephole::kFull) continue;
    exponentials(last);
#pragma GCC unroll 2
    for (int m = 0; m < R; ++m) {
      const V* of = last + m * kLast;
      const V o = K == Peephole::kDiagonal ? sigmoid_of(a[m][3], of[kLast - 1]) : a[m][3];
      store((lstm.projected ? rows[m].gate : rows[m].h) + lane, o * tangent_of(now[m], of[0]));
    }
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
  alignas(64) float peephole[kMostTogether * 3 * kLanes];
  const size_t width = lstm.w.width();
  prepare<P>(run.h_rows, run.h, run.outputs, run.rows, lstm.r);
  const auto use = [&](int tile, int first, int done, const float* recurrent) {
    for (int m = 0; K == Peephole::kFull && m < done;) {
      const Row* further = run.c_rows + first + m;
      m += tile_product<kFurther<P>, 3>(lstm.p, tile, further, done - m, peephole + m * 3 * kLanes);
    }
    const size_t at = size_t(tile) * kLanes;
    CellsOfRow rows[kCellRows];
    int waiting = 0;
    for (int m = 0; m < done; ++m) {
      const int row = first + m;
      if (!run.inside(row, number)) continue;
      rows[waiting++] = {z + row * width + tile * 4 * kLanes, recurrent + m * 4 * kLanes,
                         peephole + m * 3 * kLanes,           run.c + row * run.cells + at,
                         run.h + row * run.outputs + at,      run.gate + row * run.cells + at};
      if (waiting < kCellRows) continue;
      cells<K, kCellRows>(lstm, rows, at);
      waiting = 0;
    }
    if (waiting > 0) cells<K, 1>(lstm, rows, at);
  };
  for_each_tile<P, 4>(lstm.r, run.h_rows, run.rows, number % 2, use);
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
