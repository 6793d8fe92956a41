// What the recurrent operators share on one instruction set: a group of rows, and the steps of a sequence.

// A group of rows while a call runs. States are padded to whole vectors.
struct Running {
  Running(const Recurrent& layer, const Call& call, int first, int last)
      : call(call),
        first(first),
        rows(last - first),
        chunk(std::clamp(kChunkRows / rows, 1, call.steps)),
        cells(padded_floats(layer.hidden)),
        outputs(padded_floats(layer.outputs)) {}

  const Call& call;
  const int first, rows;
  const int chunk;              // steps whose input projection is computed at once
  const size_t cells, outputs;  // padded H and P
  Row *x_rows, *h_rows;         // [chunk][rows], [rows]
  float* z;                     // [chunk][rows][width of w]: x · w + b
  float* h;                     // [rows][outputs]

  int64_t length(int row) const { return call.lengths.exist() ? call.lengths[first + row] : call.steps; }
  // Whether a row's sequence still lasts.
  bool inside(int row, int step) const { return !call.lengths.exist() || step < length(row); }
  // Which step of the caller's arrays a row's step is; one of them even where the caller changes lengths meanwhile.
  size_t place(int row, int step) const {
    if (!call.backward) return step;
    const int64_t mirrored = std::min<int64_t>(length(row), call.steps) - 1 - step;
    return mirrored >= 0 ? mirrored : step;
  }
  const float* x(int row, int step, int inputs) const {
    return call.x + (place(row, step) * call.batch + first + row) * inputs;
  }
  float* y(int row, int step, int outputs) const {
    return call.y + (place(row, step) * call.directions * call.batch + first + row) * outputs;
  }

  template <Precision P>
  void take(Scratch& scratch, const Recurrent& layer) {
    with_precision(layer.w.precision, [&](auto stored) {
      x_rows = make_rows<decltype(stored)::value>(scratch, rows * chunk, layer.inputs);
    });
    z = scratch.take<float>(rows * chunk * layer.w.width());
    h = scratch.take<float>(rows * outputs);
    h_rows = make_rows<P>(scratch, rows, layer.outputs);
  }
};

// Copies a state between the dense rows of a caller's array and padded ones; the rows of null are zeros.
inline void load_rows(float* padded_rows, const float* dense, int first, int rows, int size) {
  const size_t stride = padded_floats(size);
  if (dense != nullptr && stride == size_t(size)) {
    std::memcpy(padded_rows, dense + size_t(first) * size, sizeof(float) * rows * stride);
    return;
  }
  std::memset(padded_rows, 0, sizeof(float) * rows * stride);
  for (int row = 0; row < rows && dense != nullptr; ++row) {
    std::memcpy(padded_rows + row * stride, dense + size_t(first + row) * size, sizeof(float) * size);
  }
}
inline void store_rows(float* dense, const float* padded_rows, int rows, int size) {
  if (padded_floats(size) == size_t(size)) {
    std::memcpy(dense, padded_rows, sizeof(float) * rows * size_t(size));
    return;
  }
  for (int row = 0; row < rows; ++row) {
    std::memcpy(dense + size_t(row) * size, padded_rows + row * padded_floats(size), sizeof(float) * size);
  }
}

// rows × matrix, where a tile is 64 columns for themselves: calls use(row, column, product) for each vector of the
// first `columns`, for the rows whose sequence still lasts.
template <Precision P, typename Use>
[[gnu::always_inline]] inline void for_each_vector(const Matrix& matrix, const Row* rows, const Running& run, int step,
                                                   size_t columns, const Use& use) {
  for_each_row<P, 4>(matrix, rows, run.rows, false, [&](int tile, int row, const float* product) {
    if (!run.inside(row, step)) return;
    const size_t start = size_t(tile) * 4 * kLanes;
    for (size_t i = start; i < columns && i < start + 4 * kLanes; i += W) use(row, i, load(product + i - start));
  });
}

// Runs all steps from the state in call.h: step(z [rows][width of w], number) goes from one run.h to the next.
template <int NV, typename Step>
void run_steps(const Recurrent& layer, const Running& run, const Step& step) {
  const Call& call = run.call;
  load_rows(run.h, call.h, run.first, run.rows, layer.outputs);
  for (int start = 0; start < call.steps; start += run.chunk) {
    const int steps = std::min(run.chunk, call.steps - start);
    with_precision(layer.w.precision, [&](auto stored) {
      constexpr Precision kStored = decltype(stored)::value;
      for (int t = 0; t < steps; ++t) {
        for (int row = 0; row < run.rows; ++row) {
          const float* x = run.x(row, start + t, layer.inputs);
          prepare<kStored>(run.x_rows + t * run.rows + row, x, layer.inputs, 1, layer.w);
        }
      }
      affine<kStored, NV>(layer.w, layer.bias.get(), run.x_rows, steps * run.rows, run.z);
    });
    for (int t = 0; t < steps; ++t) {
      step(run.z + t * run.rows * layer.w.width(), start + t);
      for (int row = 0; row < run.rows; ++row) {
        float* y = run.y(row, start + t, layer.outputs);
        if (run.inside(row, start + t)) store_rows(y, run.h + row * run.outputs, 1, layer.outputs);
        else std::memset(y, 0, sizeof(float) * layer.outputs);
      }
    }
  }
  store_rows(call.h_out + size_t(run.first) * layer.outputs, run.h, run.rows, layer.outputs);
}
