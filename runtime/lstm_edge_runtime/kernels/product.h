// Products of rows with a packed matrix on one instruction set.
//
// Included by functions.h in the namespace of an instruction set, after arithmetic.h and a struct Isa with the dot
// products of one tile:
//   static constexpr int kWeightOffset;   what pack adds to int8 weights
//   static constexpr bool kBlocks;        whether BlockProducts may take over the int8 products of many rows
//   template <int NV, int M> static void dot8(a, w, groups, start, sums);   M rows of int8 against NV vectors of int8
//   template <int NV, int M> static void dot4(a, w, groups, start, sums);   the same against nibbles 0..15
//   template <int NV, int M> static void dotf(a, w, k, sums);               the same in float32
//   template <int M> static void sparse(a, w, groups_of, count, start, sums, stride);
//                                     M rows against the blocks of one vector of a sparse matrix; start [16]
// with `a` an array of M row pointers, `start` the M starting values, `sums` [M][NV][16].

constexpr int kChunkRows = 24;  // rows of the input projection that are computed at once: their weights are read once

// A row of activations as a product takes it: rounded, or a copy, since a state is overwritten while it is read.
struct Row {
  float* values;
  Rounded rounded;
};

// Adds 128 to each value, as unsigned bytes. What lies past k is only multiplied with zeros.
inline void shift_row(int8_t* q, int k) {
  for (size_t i = 0; i < padded(k); ++i) q[i] = int8_t(q[i] ^ -128);
}

template <Precision P>
void prepare(Row* rows, const float* x, size_t stride, int count, const Matrix& matrix) {
  for (int i = 0; i < count; ++i, x += stride) {
    if constexpr (P == Precision::kFloat) {
      std::memcpy(rows[i].values, x, sizeof(float) * matrix.k);
    } else {
      round_row(x, matrix.k, rows[i].rounded, P == Precision::kInt4 ? matrix.block : 0);
      if constexpr (P == Precision::kSparse && Isa::kWeightOffset != 0) shift_row(rows[i].rounded.q, matrix.k);
    }
  }
}

// Gives each row room for its values; q is zeroed past k, since a product reads whole groups.
template <Precision P>
Row* make_rows(Scratch& scratch, int count, int k) {
  Row* rows = scratch.take<Row>(count);
  for (int i = 0; i < count; ++i) {
    Row row{};
    if constexpr (P == Precision::kFloat) {
      row.values = scratch.take<float>(k);
    } else {
      row.rounded.q = scratch.take<int8_t>(padded(k));
      row.rounded.block_sums = scratch.take<int32_t>((k + 31) / 32);
    }
    if (scratch.counts()) continue;
    if constexpr (P != Precision::kFloat) std::memset(row.rounded.q, 0, padded(k));
    rows[i] = row;
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

// (sum · s) · scale as for int8, of the blocks that exist.
template <int NV, int M>
void scale_sparse(const Matrix& matrix, int tile, const Row* rows, float* out) {
  alignas(64) int32_t sums[M * NV * kLanes];
  const int8_t* a[M];
  for (int m = 0; m < M; ++m) a[m] = rows[m].rounded.q;
  const uint32_t* first = matrix.first.get() + tile * NV;
  const size_t width = NV * kLanes;
  for (int v = 0; v < NV; ++v) {
    Isa::template sparse<M>(a, matrix.bytes.get() + size_t(first[v]) * kBlockBytes, matrix.groups_of.get() + first[v],
                            int(first[v + 1] - first[v]), matrix.starts.get() + width * tile + v * kLanes,
                            sums + v * kLanes, width);
  }
  const float* scales = matrix.scales.get() + width * tile;
  for (int m = 0; m < M; ++m) {
    for (size_t i = 0; i < width; i += W) {
      store(out + m * width + i, (to_float(load(sums + m * width + i)) * rows[m].rounded.scale) * load(scales + i));
    }
  }
}

template <Precision P, int NV, int M>
void tile_rows(const Matrix& matrix, int tile, const Row* rows, float* out) {
  if constexpr (P == Precision::kInt8) {
    scale_int8<NV, M>(matrix, tile, rows, out);
  } else if constexpr (P == Precision::kInt4) {
    scale_int4<NV, M>(matrix, tile, rows, out);
  } else if constexpr (P == Precision::kSparse) {
    scale_sparse<NV, M>(matrix, tile, rows, out);
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

constexpr int kMostTogether = Isa::kBlocks ? BlockProducts::kMostRows : kMostRows;
// More rows than share a load of weights otherwise: blocks took 0.9 of the time of 8 rows of 256 cells, 0.75 of 16.
constexpr int kLeastBlockRows = kMostRows + 1;

// (sum · s) · scale for up to BlockProducts::kMostRows rows, tile by tile. The rows lie evenly, as make_rows places
// them.
template <int NV, typename Use>
[[gnu::always_inline]] inline void for_each_block(const BlockProducts& blocks, const Matrix& matrix, const Row* rows,
                                                  int count, bool backwards, const Use& use) {
  constexpr size_t width = NV * kLanes;
  alignas(64) int32_t sums[BlockProducts::kMostRows * width];
  alignas(64) float product[BlockProducts::kMostRows * width];
  const size_t stride = rows[1].rounded.q - rows[0].rounded.q;
  for (int row = 0, done; row < count; row += done) {
    done = count - row < BlockProducts::kMostRows ? count - row : BlockProducts::kMostRows;
    blocks.begin(done, matrix.groups);
    for (int i = 0; i < matrix.tiles; ++i) {
      const int tile = backwards ? matrix.tiles - 1 - i : i;
      blocks.product(NV, rows[row].rounded.q, stride, matrix.bytes.get() + width * 4 * matrix.groups * tile,
                     matrix.groups, sums);
      V scales[NV];
      for (int v = 0; v < NV; ++v) scales[v] = load(matrix.scales.get() + width * tile + v * W);
      for (int m = 0; m < done; ++m) {
        const Rounded& rounded = rows[row + m].rounded;
        const uint32_t start = 0u - uint32_t(Isa::kWeightOffset) * uint32_t(rounded.sum);  // may wrap, and back
        for (int v = 0; v < NV; ++v) {
          const size_t at = m * width + v * W;
          const VI sum = reinterpret_cast<VI>(reinterpret_cast<VU>(load(sums + at)) + start);
          store(product + at, (to_float(sum) * rounded.scale) * scales[v]);
        }
      }
      use(tile, row, done, product);
    }
    blocks.end();
  }
}

// rows × matrix, tile by tile: calls use(tile, row, done, product [done][NV][16]) when a tile's product of the `done`
// rows from `row` on is there, at most kMostTogether. NV: the vectors of the matrix' tiles.
template <Precision P, int NV, typename Use>
[[gnu::always_inline]] inline void for_each_tile(const Matrix& matrix, const Row* rows, int count, bool backwards,
                                                 const Use& use) {
  if constexpr (P == Precision::kInt8 && Isa::kBlocks) {
    const BlockProducts* blocks = count < kLeastBlockRows ? nullptr : instruction_set().blocks;
    if (blocks != nullptr) return for_each_block<NV>(*blocks, matrix, rows, count, backwards, use);
  }
  alignas(64) float product[kMostRows * NV * kLanes];
  for (int i = 0; i < matrix.tiles; ++i) {
    const int tile = backwards ? matrix.tiles - 1 - i : i;
    for (int row = 0, done; row < count; row += done) {
      done = tile_product<P, NV>(matrix, tile, rows + row, count - row, product);
      use(tile, row, done, product);
    }
  }
}

// The same row by row: calls use(tile, row, product [NV][16]).
template <Precision P, int NV, typename Use>
[[gnu::always_inline]] inline void for_each_row(const Matrix& matrix, const Row* rows, int count, bool backwards,
                                                const Use& use) {
  for_each_tile<P, NV>(matrix, rows, count, backwards, [&](int tile, int row, int done, const float* product) {
    for (int m = 0; m < done; ++m) use(tile, row + m, product + m * NV * kLanes);
  });
}

// rows × matrix + bias to out [rows][width of the matrix].
template <Precision P, int NV>
void affine(const Matrix& matrix, const float* bias, const Row* rows, int count, float* out) {
  const size_t width = matrix.width();
  for_each_row<P, NV>(matrix, rows, count, false, [=](int tile, int row, const float* product) {
    const size_t at = size_t(tile) * NV * kLanes;
    float* target = out + row * width + at;
    for (int i = 0; i < NV * kLanes; i += W) store(target + i, load(product + i) + load(bias + at + i));
  });
}

// Calls work(std::integral_constant<Precision, P>) with the storage of a matrix: an input's matrix may be stored
// otherwise than the recurrent one, which the cells are compiled for.
template <typename Work>
void with_precision(Precision precision, const Work& work) {
  switch (precision) {
    case Precision::kFloat: return work(std::integral_constant<Precision, Precision::kFloat>());
    case Precision::kInt8: return work(std::integral_constant<Precision, Precision::kInt8>());
    case Precision::kInt4: return work(std::integral_constant<Precision, Precision::kInt4>());
    case Precision::kSparse: return work(std::integral_constant<Precision, Precision::kSparse>());
  }
}

// The storage of an LSTM's p, po and v beside a recurrent matrix in P.
template <Precision P>
constexpr Precision kFurther = P == Precision::kSparse ? Precision::kInt8 : P;
