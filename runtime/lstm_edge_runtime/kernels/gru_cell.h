// The GRU operators of docs/operators.md on one instruction set; included after cell.h, whose products it uses.

// The state of a group of rows while a call runs, padded to whole vectors of 16.
struct GruRunning {
  int rows;
  size_t cells;           // padded H
  float* h;               // [rows][cells]
  float *update, *gated;  // [rows][cells]: z and r · h, where the reset gate comes before the product
  Row *h_rows, *gated_rows;
};

// ((1 - z) · n) + (z · h)
inline V gru_update(V z, V n, V h) { return (1.0f - z) * n + z * h; }

// The reset gate behind the product: x [3][16] is the input's part of 16 cells, recurrent [3][16] the product of h.
template <Precision P>
void gru_step_after(const Gru& gru, const GruCall& call, GruRunning& run, const float* z, int first, int number) {
  alignas(64) float recurrent[kMostRows * 3 * kLanes];
  const size_t width = gru.w.width();
  for (int row = 0; row < run.rows; ++row) prepare<P>(run.h_rows[row], run.h + row * run.cells, gru.r);
  for (int i = 0; i < gru.r.tiles; ++i) {
    const int tile = number % 2 ? gru.r.tiles - 1 - i : i;  // back and forth, as an LSTM's step
    for (int row = 0; row < run.rows;) {
      const int done = tile_product<P, 3>(gru.r, tile, run.h_rows + row, run.rows - row, recurrent);
      for (int m = 0; m < done; ++m, ++row) {
        if (!inside(call, first + row, number)) continue;
        const float* x = z + row * width + tile * 3 * kLanes;
        const float* part = recurrent + m * 3 * kLanes;
        float* h = run.h + row * run.cells + tile * kLanes;
        const float* bias = gru.recurrent_bias.get() + tile * kLanes;
        for (int lane = 0; lane < kLanes; lane += W) {
          const V reset = sigmoid(load(x + lane) + load(part + lane));
          const V update = sigmoid(load(x + kLanes + lane) + load(part + kLanes + lane));
          const V candidate = load(part + 2 * kLanes + lane) + load(bias + lane);
          const V n = hyperbolic_tangent(load(x + 2 * kLanes + lane) + reset * candidate);
          store(h + lane, gru_update(update, n, load(h + lane)));
        }
      }
    }
  }
}

// The reset gate before the product: r · h of a row must be complete before it is rounded, so there are two sweeps.
template <Precision P>
void gru_step_before(const Gru& gru, const GruCall& call, GruRunning& run, const float* z, int first, int number) {
  alignas(64) float recurrent[kMostRows * 4 * kLanes];
  const size_t width = gru.w.width();
  for (int row = 0; row < run.rows; ++row) prepare<P>(run.h_rows[row], run.h + row * run.cells, gru.r);
  for (int tile = 0; tile < gru.r.tiles; ++tile) {
    for (int row = 0; row < run.rows;) {
      const int done = tile_product<P, 2>(gru.r, tile, run.h_rows + row, run.rows - row, recurrent);
      for (int m = 0; m < done; ++m, ++row) {
        const float* x = z + row * width + tile * 3 * kLanes;
        const float* part = recurrent + m * 2 * kLanes;
        const size_t at = row * run.cells + tile * kLanes;
        for (int lane = 0; lane < kLanes; lane += W) {
          const V reset = sigmoid(load(x + lane) + load(part + lane));
          store(run.gated + at + lane, reset * load(run.h + at + lane));
          store(run.update + at + lane, sigmoid(load(x + kLanes + lane) + load(part + kLanes + lane)));
        }
      }
    }
  }
  for (int row = 0; row < run.rows; ++row) prepare<P>(run.gated_rows[row], run.gated + row * run.cells, gru.rn);
  for (int tile = 0; tile < gru.rn.tiles; ++tile) {
    for (int row = 0; row < run.rows;) {
      const int done = tile_product<P, 4>(gru.rn, tile, run.gated_rows + row, run.rows - row, recurrent);
      for (int m = 0; m < done; ++m, ++row) {
        if (!inside(call, first + row, number)) continue;
        const size_t start = size_t(tile) * 4 * kLanes;
        const size_t stop = start + 4 * kLanes < run.cells ? start + 4 * kLanes : run.cells;
        for (size_t i = start; i < stop; i += W) {
          // Cells stand 16 by 16 between the gates of the input's part, and one after the other here.
          const V x = load(z + row * width + (i / kLanes * 3 + 2) * kLanes + i % kLanes);
          const V n = hyperbolic_tangent(x + load(recurrent + m * 4 * kLanes + i - start));
          const size_t at = row * run.cells + i;
          store(run.h + at, gru_update(load(run.update + at), n, load(run.h + at)));
        }
      }
    }
  }
}

inline void write_outputs(const Gru& gru, const GruCall& call, const GruRunning& run, int first, int number) {
  for (int row = 0; row < run.rows; ++row) {
    float* y = call.y + (size_t(number) * call.batch + first + row) * gru.hidden;
    if (inside(call, first + row, number)) {
      std::memcpy(y, run.h + row * run.cells, sizeof(float) * gru.hidden);
    } else {
      std::memset(y, 0, sizeof(float) * gru.hidden);
    }
  }
}

template <Precision P>
void run_gru(const Gru& gru, const GruCall& call, int first, int last) {
  const int rows = last - first;
  const int chunk = kChunkRows / rows > 1 ? (kChunkRows / rows < call.steps ? kChunkRows / rows : call.steps) : 1;
  const size_t cells = padded(sizeof(float) * gru.hidden) / sizeof(float);
  const size_t width = gru.w.width();
  const size_t row_sizes = 3 * padded(sizeof(Row) * rows * chunk) +
                           rows * (chunk * row_bytes<P>(gru.inputs) + 2 * row_bytes<P>(gru.hidden));
  Scratch scratch(row_sizes + sizeof(float) * rows * (chunk * width + 3 * cells) + 4 * 64);
  Row* x_rows = make_rows<P>(scratch, rows * chunk, gru.inputs);
  float* z = scratch.take<float>(rows * chunk * width);
  GruRunning run{};
  run.rows = rows;
  run.cells = cells;
  run.h = scratch.take<float>(rows * cells);
  run.update = scratch.take<float>(rows * cells);
  run.gated = scratch.take<float>(rows * cells);
  run.h_rows = make_rows<P>(scratch, rows, gru.hidden);
  run.gated_rows = make_rows<P>(scratch, rows, gru.hidden);
  std::memset(run.h, 0, sizeof(float) * rows * 3 * cells);  // h, update and gated lie side by side
  for (int row = 0; row < rows; ++row) {
    std::memcpy(run.h + row * cells, call.h + size_t(first + row) * gru.hidden, sizeof(float) * gru.hidden);
  }
  for (int start = 0; start < call.steps; start += chunk) {
    const int steps = call.steps - start < chunk ? call.steps - start : chunk;
    for (int t = 0; t < steps; ++t) {
      for (int row = 0; row < rows; ++row) {
        const float* x = call.x + (size_t(start + t) * call.batch + first + row) * gru.inputs;
        prepare<P>(x_rows[t * rows + row], x, gru.w);
      }
    }
    affine<P, 3>(gru.w, gru.bias.get(), x_rows, steps * rows, z);
    for (int t = 0; t < steps; ++t) {
      const auto step = gru.reset_after ? gru_step_after<P> : gru_step_before<P>;
      step(gru, call, run, z + t * rows * width, first, start + t);
      write_outputs(gru, call, run, first, start + t);
    }
  }
  for (int row = 0; row < rows; ++row) {
    std::memcpy(call.h_out + size_t(first + row) * gru.hidden, run.h + row * cells, sizeof(float) * gru.hidden);
  }
}

void gru(const Gru& gru, const GruCall& call, int first, int last) {
  gru.precision == Precision::kInt4 ? run_gru<Precision::kInt4>(gru, call, first, last)
                                    : run_gru<Precision::kInt8>(gru, call, first, last);
}
