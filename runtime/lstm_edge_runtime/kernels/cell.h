// The operators of docs/operators.md on one instruction set.
//
// Included once by each instruction set's file, after arithmetic.h and a struct Isa with the dot products of one tile:
//   template <int NV, int M> static void dot8(a, w, groups, start, sums);   M rows of int8 against NV vectors of int8
//   template <int NV, int M> static void dot4(a, w, groups, start, sums);   the same against nibbles 0..15
//   template <int NV, int M> static void dotf(a, w, k, sums);               the same in float32
// with `a` an array of M row pointers, `start` the M starting values, `sums` [M][NV][16].

constexpr int kChunkRows = 24;  // rows of the input projection that are computed at once: their weights are read once

// A row of activations as a product takes it: rounded, or a copy, since a state is overwritten while it is read.
struct Row {
  float* values;
  Rounded rounded;
};

template <Precision P>
void prepare(Row& row, const float* x, const Matrix& matrix) {
  if constexpr (P == Precision::kFloat) {
    std::memcpy(row.values, x, sizeof(float) * matrix.k);
  } else {
    round_row(x, matrix.k, row.rounded, P == Precision::kInt4 ? matrix.block : 0);
  }
}

template <Precision P>
size_t row_bytes(int k) {
  return P == Precision::kFloat ? padded(sizeof(float) * k) : padded(k) + padded(sizeof(int32_t) * (k / 32 + 1));
}

// Gives each row room for its values; q is zeroed past k, since a product reads whole groups.
template <Precision P>
Row* make_rows(Scratch& scratch, int count, int k) {
  Row* rows = scratch.take<Row>(count);
  for (int i = 0; i < count; ++i) {
    rows[i] = Row{};
    if constexpr (P == Precision::kFloat) {
      rows[i].values = scratch.take<float>(k);
    } else {
      rows[i].rounded.q = scratch.take<int8_t>(padded(k));
      std::memset(rows[i].rounded.q, 0, padded(k));
      rows[i].rounded.block_sums = scratch.take<int32_t>(k / 32 + 1);
    }
  }
  return rows;
}

// (sum · s) · scale for M rows and one tile; `out` is [M][NV][16].
template <int NV, int M>
void scale_int8(const Matrix& matrix, int tile, const Row* rows, float* out) {
  alignas(64) int32_t sums[M * NV * kLanes];
  const int8_t* a[M];
  int32_t start[M];
  for (int m = 0; m < M; ++m) {
    a[m] = rows[m].rounded.q;
    start[m] = int32_t(0u - uint32_t(Isa::kWeightOffset) * uint32_t(rows[m].rounded.sum));  // may wrap, and back
  }
  const size_t width = NV * kLanes;
  Isa::template dot8<NV, M>(a, matrix.bytes.get() + width * 4 * matrix.groups * tile, matrix.groups, start, sums);
  const float* scales = matrix.scales.get() + width * tile;
  for (int m = 0; m < M; ++m) {
    for (size_t i = 0; i < width; i += W) {
      store(out + m * width + i, (to_float(load(sums + m * width + i)) * rows[m].rounded.scale) * load(scales + i));
    }
  }
}

// (Σ_b sum_b · scale_b) · s, the blocks in their order.
template <int NV, int M>
void scale_int4(const Matrix& matrix, int tile, const Row* rows, float* out) {
  constexpr int width = NV * kLanes, parts = width / W;
  alignas(64) int32_t sums[M * width];
  V totals[M][parts] = {};
  const int blocks = matrix.blocks();
  const uint8_t* w = matrix.bytes.get() + size_t(width) * 4 * matrix.groups * tile;
  for (int b = 0; b < blocks; ++b) {
    const int first = b * matrix.block / 8, left = matrix.groups - first;
    const int groups = left < matrix.block / 8 ? left : matrix.block / 8;
    const int8_t* a[M];
    int32_t start[M];
    for (int m = 0; m < M; ++m) {
      a[m] = rows[m].rounded.q + b * matrix.block;
      start[m] = matrix.zero_points ? 0 : -8 * rows[m].rounded.block_sums[b];
    }
    Isa::template dot4<NV, M>(a, w + size_t(width) * 4 * first, groups, start, sums);
    const size_t at = (size_t(tile) * blocks + b) * width;
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int i = 0; i < parts; ++i) {
        VI sum = load(sums + m * width + i * W);
        if (matrix.zero_points) sum -= load(matrix.zeros.get() + at + i * W) * rows[m].rounded.block_sums[b];
        const V part = to_float(sum) * load(matrix.scales.get() + at + i * W);
        totals[m][i] = b == 0 ? part : totals[m][i] + part;
      }
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int i = 0; i < parts; ++i) store(out + m * width + i * W, totals[m][i] * rows[m].rounded.scale);
  }
}

template <Precision P, int NV, int M>
void tile_rows(const Matrix& matrix, int tile, const Row* rows, float* out) {
  if constexpr (P == Precision::kInt8) {
    scale_int8<NV, M>(matrix, tile, rows, out);
  } else if constexpr (P == Precision::kInt4) {
    scale_int4<NV, M>(matrix, tile, rows, out);
  } else {
    const float* a[M];
    for (int m = 0; m < M; ++m) a[m] = rows[m].values;
    Isa::template dotf<NV, M>(a, matrix.floats.get() + size_t(NV) * kLanes * matrix.k * tile, matrix.k, out);
  }
}

// One tile of the product for up to kMostRows rows; returns how many were done.
constexpr int kMostRows = 6;

template <Precision P, int NV>
int tile_product(const Matrix& matrix, int tile, const Row* rows, int count, float* out) {
  switch (count) {
    case 1: tile_rows<P, NV, 1>(matrix, tile, rows, out); return 1;
    case 2: tile_rows<P, NV, 2>(matrix, tile, rows, out); return 2;
    case 3: tile_rows<P, NV, 3>(matrix, tile, rows, out); return 3;
    case 4: tile_rows<P, NV, 4>(matrix, tile, rows, out); return 4;
    case 5: tile_rows<P, NV, 5>(matrix, tile, rows, out); return 5;
    default: tile_rows<P, NV, 6>(matrix, tile, rows, out); return 6;
  }
}

// rows × matrix + bias to out [rows][width of the matrix]; NV: the vectors of the matrix' tiles.
template <Precision P, int NV = 4>
void affine(const Matrix& matrix, const float* bias, const Row* rows, int count, float* out) {
  alignas(64) float part[kMostRows * NV * kLanes];
  const size_t width = matrix.width(), tile_width = NV * kLanes;
  for (int tile = 0; tile < matrix.tiles; ++tile) {
    for (int first = 0; first < count;) {
      const int done = tile_product<P, NV>(matrix, tile, rows + first, count - first, part);
      for (int m = 0; m < done; ++m) {
        float* target = out + (first + m) * width + tile * tile_width;
        for (size_t i = 0; i < tile_width; i += W) {
          V value = load(part + m * tile_width + i);
          if (bias != nullptr) value = value + load(bias + tile * tile_width + i);
          store(target + i, value);
        }
      }
      first += done;
    }
  }
}

// The state of a group of rows while a call runs, all float32 and padded to whole vectors of 16.
struct Running {
  int rows;
  size_t cells, outputs;  // padded H and P
  float *h, *c;           // [rows][outputs], [rows][cells]
  float* gate;            // [rows][cells]: the output gate's sum (full peephole), then o · tanh(c) (projection)
  Row *h_rows, *c_rows, *gate_rows;
};

template <typename Call>
bool inside(const Call& call, int row, int step) {
  if (call.lengths == nullptr) return true;
  int64_t length;
  std::memcpy(&length, call.lengths + row, sizeof length);
  return step < length;
}

// The diagonal weights of gate i, f or o (0, 1, 2).
inline const float* diagonal_of(const Lstm& lstm, int gate) {
  return lstm.diagonal.get() + gate * (padded(sizeof(float) * lstm.hidden) / sizeof(float));
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
void late_gate(const Lstm& lstm, const LstmCall& call, Running& run, int first, int step) {
  alignas(64) float part[kMostRows * 4 * kLanes];
  for (int row = 0; row < run.rows; ++row) prepare<P>(run.c_rows[row], run.c + row * run.cells, lstm.po);
  for (int tile = 0; tile < lstm.po.tiles; ++tile) {
    for (int row = 0; row < run.rows;) {
      const int done = tile_product<P, 4>(lstm.po, tile, run.c_rows + row, run.rows - row, part);
      for (int m = 0; m < done; ++m, ++row) {
        if (!inside(call, first + row, step)) continue;
        const size_t start = size_t(tile) * 4 * kLanes;
        const size_t stop = start + 4 * kLanes < run.cells ? start + 4 * kLanes : run.cells;
        float* target = lstm.projected ? run.gate + row * run.cells : run.h + row * run.outputs;
        for (size_t i = start; i < stop; i += W) {
          const V o = sigmoid(load(run.gate + row * run.cells + i) + load(part + m * 4 * kLanes + i - start));
          store(target + i, o * hyperbolic_tangent(load(run.c + row * run.cells + i)));
        }
      }
    }
  }
  // The next step multiplies the same c with p, whose blocks may be of another size.
  if (P == Precision::kInt4 && lstm.p.block != lstm.po.block) {
    for (int row = 0; row < run.rows; ++row) prepare<P>(run.c_rows[row], run.c + row * run.cells, lstm.p);
  }
}

template <Precision P>
void project(const Lstm& lstm, const LstmCall& call, Running& run, int first, int step) {
  alignas(64) float part[kMostRows * 4 * kLanes];
  for (int row = 0; row < run.rows; ++row) prepare<P>(run.gate_rows[row], run.gate + row * run.cells, lstm.v);
  for (int tile = 0; tile < lstm.v.tiles; ++tile) {
    for (int row = 0; row < run.rows;) {
      const int done = tile_product<P, 4>(lstm.v, tile, run.gate_rows + row, run.rows - row, part);
      for (int m = 0; m < done; ++m, ++row) {
        if (!inside(call, first + row, step)) continue;
        const size_t start = size_t(tile) * 4 * kLanes;
        const size_t stop = start + 4 * kLanes < run.outputs ? start + 4 * kLanes : run.outputs;
        std::memcpy(run.h + row * run.outputs + start, part + m * 4 * kLanes, (stop - start) * sizeof(float));
      }
    }
  }
}

// One step of all rows; z [rows][width of w] is the input's part with the bias. Every other step goes through the tiles
// from the last to the first: weights a little larger than a cache are then mostly still there (13 % of the time of a
// sequence at hidden 512), and the answer is the same.
template <Precision P, Peephole K>
void step(const Lstm& lstm, const LstmCall& call, Running& run, const float* z, int first, int number) {
  alignas(64) float recurrent[kMostRows * 4 * kLanes];
  alignas(64) float peephole[kMostRows * 3 * kLanes];
  const size_t width = lstm.w.width();
  for (int row = 0; row < run.rows; ++row) prepare<P>(run.h_rows[row], run.h + row * run.outputs, lstm.r);
  for (int i = 0; i < lstm.r.tiles; ++i) {
    const int tile = number % 2 ? lstm.r.tiles - 1 - i : i;
    for (int row = 0; row < run.rows;) {
      const int done = tile_product<P, 4>(lstm.r, tile, run.h_rows + row, run.rows - row, recurrent);
      if constexpr (K == Peephole::kFull) tile_product<P, 3>(lstm.p, tile, run.c_rows + row, done, peephole);
      for (int m = 0; m < done; ++m, ++row) {
        if (!inside(call, first + row, number)) continue;
        cell<K>(lstm, z + row * width + tile * 4 * kLanes, recurrent + m * 4 * kLanes, peephole + m * 3 * kLanes,
                size_t(tile) * kLanes, run.c + row * run.cells, run.h + row * run.outputs, run.gate + row * run.cells);
      }
    }
  }
  if constexpr (K == Peephole::kFull) late_gate<P>(lstm, call, run, first, number);
  if (lstm.projected) project<P>(lstm, call, run, first, number);
}

inline void write_outputs(const Lstm& lstm, const LstmCall& call, const Running& run, int first, int number) {
  for (int row = 0; row < run.rows; ++row) {
    float* y = call.y + (size_t(number) * call.batch + first + row) * lstm.outputs;
    if (inside(call, first + row, number)) {
      std::memcpy(y, run.h + row * run.outputs, sizeof(float) * lstm.outputs);
    } else {
      std::memset(y, 0, sizeof(float) * lstm.outputs);
    }
  }
}

template <Precision P, Peephole K>
void run_lstm(const Lstm& lstm, const LstmCall& call, int first, int last) {
  const int rows = last - first;
  const int chunk = kChunkRows / rows > 1 ? (kChunkRows / rows < call.steps ? kChunkRows / rows : call.steps) : 1;
  const size_t cells = padded(sizeof(float) * lstm.hidden) / sizeof(float);
  const size_t outputs = padded(sizeof(float) * lstm.outputs) / sizeof(float);
  const size_t width = lstm.w.width();
  const size_t row_sizes = 4 * padded(sizeof(Row) * rows * chunk) + rows * (chunk * row_bytes<P>(lstm.inputs) +
                           row_bytes<P>(lstm.outputs) + 2 * row_bytes<P>(lstm.hidden));
  Scratch scratch(row_sizes + sizeof(float) * rows * (chunk * width + outputs + 2 * cells) + 4 * 64);
  Row* x_rows = make_rows<P>(scratch, rows * chunk, lstm.inputs);
  float* z = scratch.take<float>(rows * chunk * width);
  Running run{};
  run.rows = rows;
  run.cells = cells;
  run.outputs = outputs;
  run.h = scratch.take<float>(rows * outputs);
  run.c = scratch.take<float>(rows * cells);
  run.gate = scratch.take<float>(rows * cells);
  run.h_rows = make_rows<P>(scratch, rows, lstm.outputs);
  run.c_rows = make_rows<P>(scratch, rows, lstm.hidden);
  run.gate_rows = make_rows<P>(scratch, rows, lstm.hidden);
  std::memset(run.h, 0, sizeof(float) * rows * (outputs + 2 * cells));  // h, c and gate lie side by side
  for (int row = 0; row < rows; ++row) {
    std::memcpy(run.h + row * outputs, call.h + size_t(first + row) * lstm.outputs, sizeof(float) * lstm.outputs);
    std::memcpy(run.c + row * cells, call.c + size_t(first + row) * lstm.hidden, sizeof(float) * lstm.hidden);
    if constexpr (K == Peephole::kFull) prepare<P>(run.c_rows[row], run.c + row * cells, lstm.p);
  }
  for (int start = 0; start < call.steps; start += chunk) {
    const int steps = call.steps - start < chunk ? call.steps - start : chunk;
    for (int t = 0; t < steps; ++t) {
      for (int row = 0; row < rows; ++row) {
        const float* x = call.x + (size_t(start + t) * call.batch + first + row) * lstm.inputs;
        prepare<P>(x_rows[t * rows + row], x, lstm.w);
      }
    }
    affine<P>(lstm.w, lstm.bias.get(), x_rows, steps * rows, z);
    for (int t = 0; t < steps; ++t) {
      step<P, K>(lstm, call, run, z + t * rows * width, first, start + t);
      write_outputs(lstm, call, run, first, start + t);
    }
  }
  for (int row = 0; row < rows; ++row) {
    std::memcpy(call.h_out + size_t(first + row) * lstm.outputs, run.h + row * outputs, sizeof(float) * lstm.outputs);
    std::memcpy(call.c_out + size_t(first + row) * lstm.hidden, run.c + row * cells, sizeof(float) * lstm.hidden);
  }
}

template <Precision P>
void run_peephole(const Lstm& lstm, const LstmCall& call, int first, int last) {
  switch (lstm.peephole) {
    case Peephole::kNone: return run_lstm<P, Peephole::kNone>(lstm, call, first, last);
    case Peephole::kDiagonal: return run_lstm<P, Peephole::kDiagonal>(lstm, call, first, last);
    case Peephole::kFull: return run_lstm<P, Peephole::kFull>(lstm, call, first, last);
  }
}

void lstm(const Lstm& lstm, const LstmCall& call, int first, int last) {
  switch (lstm.precision) {
    case Precision::kFloat: return run_peephole<Precision::kFloat>(lstm, call, first, last);
    case Precision::kInt8: return run_peephole<Precision::kInt8>(lstm, call, first, last);
    case Precision::kInt4: return run_peephole<Precision::kInt4>(lstm, call, first, last);
  }
}

template <Precision P>
void run_linear(const Linear& linear, const float* x, float* y, int64_t rows) {
  const size_t width = linear.w.width();
  const int chunk = int(rows < kChunkRows ? rows : kChunkRows);
  Scratch scratch(padded(sizeof(Row) * chunk) + chunk * (row_bytes<P>(linear.w.k) + sizeof(float) * width) + 2 * 64);
  Row* prepared = make_rows<P>(scratch, chunk, linear.w.k);
  float* out = scratch.take<float>(chunk * width);
  for (int64_t start = 0; start < rows; start += chunk) {
    const int count = int(rows - start < chunk ? rows - start : chunk);
    for (int row = 0; row < count; ++row) prepare<P>(prepared[row], x + (start + row) * linear.w.k, linear.w);
    affine<P>(linear.w, linear.bias.get(), prepared, count, out);
    for (int row = 0; row < count; ++row) {
      std::memcpy(y + (start + row) * linear.w.n, out + row * width, sizeof(float) * linear.w.n);
    }
  }
}

void linear(const Linear& linear, const float* x, float* y, int64_t rows) {
  switch (linear.precision) {
    case Precision::kFloat: return run_linear<Precision::kFloat>(linear, x, y, rows);
    case Precision::kInt8: return run_linear<Precision::kInt8>(linear, x, y, rows);
    case Precision::kInt4: return run_linear<Precision::kInt4>(linear, x, y, rows);
  }
}
