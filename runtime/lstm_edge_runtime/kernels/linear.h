// The linear operators of docs/operators.md on one instruction set.

template <Precision P>
void run_linear(const Linear& linear, const float* x, float* y, int64_t rows) {
  const size_t width = linear.w.width();
  const int chunk = int(std::min<int64_t>(rows, kChunkRows));
  Row* prepared;
  float* out;
  Scratch::lay_out([&](Scratch& scratch) {
    prepared = make_rows<P>(scratch, chunk, linear.w.k);
    out = scratch.take<float>(chunk * width);
  });
  for (int64_t start = 0; start < rows; start += chunk) {
    const int count = int(std::min<int64_t>(rows - start, chunk));
    prepare<P>(prepared, x + start * linear.w.k, linear.w.k, count, linear.w);
    affine<P, 4>(linear.w, linear.bias.get(), prepared, count, out);
    for (int row = 0; row < count; ++row) {
      std::memcpy(y + (start + row) * linear.w.n, out + row * width, sizeof(float) * linear.w.n);
    }
  }
}
