// The GRU operators' interface: a node's constants, and one call. The cell is in gru_cell.h.
#pragma once

#include <tuple>

#include "kernel.h"

namespace lstm_edge {

inline std::string gru_name(Precision precision, bool reset_after, bool ragged) {
  std::string name = "Gru";
  if (reset_after) name += "ResetAfter";
  if (ragged) name += "Ragged";
  return name + (precision == Precision::kInt8 ? "Int8V1" : "Int4V1");
}

inline void read_gru(Kernel& kernel, const OrtKernelInfo* info) {
  const Operator& op = kernel.op;
  Constants constants(kernel.runtime, info, op, op.ragged ? 3 : 2);
  Gru& gru = kernel.gru;
  gru.precision = op.precision;
  gru.reset_after = op.reset_after;
  gru.ragged = op.ragged;
  gru.w = constants.matrix(-1, -1, 3);
  gru.inputs = gru.w.k;
  gru.hidden = gru.w.n / 3;
  if (op.reset_after) {
    gru.r = constants.matrix(gru.hidden, gru.w.n, 3);
  } else {
    std::tie(gru.r, gru.rn) = constants.split_matrix(gru.hidden, gru.w.n, 2 * gru.hidden, 2);
  }
  Shape shape;
  gru.bias = pack_bias(constants.take<float>({gru.w.n}, shape), gru.w, Columns{3, gru.hidden});
  if (op.reset_after) {
    gru.recurrent_bias = allocate<float>(padded(sizeof(float) * gru.hidden) / sizeof(float));
    std::memcpy(gru.recurrent_bias.get(), constants.take<float>({gru.hidden}, shape), sizeof(float) * gru.hidden);
  }
}

inline void compute_gru(const Kernel& kernel, OrtKernelContext* context) {
  const Runtime& runtime = kernel.runtime;
  const Gru& gru = kernel.gru;
  const OrtValue* x = runtime.input(context, 0);
  const auto [steps, batch] = read_sizes(kernel, x, gru.inputs);
  GruCall call{int(steps), int(batch), runtime.data<float>(x), nullptr, nullptr, nullptr, nullptr};
  call.h = read_state(kernel, runtime.input(context, 1), "h", batch, gru.hidden);
  if (gru.ragged) call.lengths = read_lengths(kernel, runtime.input(context, 2), batch);
  const int64_t y_dims[3] = {steps, batch, gru.hidden}, h_dims[3] = {1, batch, gru.hidden};
  call.y = runtime.output(context, 0, y_dims, 3);
  call.h_out = runtime.output(context, 1, h_dims, 3);
  require(call.y && call.h_out, [&] { return kernel.op.name + ": an output is missing"; });
  const double work = double(steps) * double(batch) * (double(gru.inputs) + gru.hidden) * 3 * gru.hidden;
  run_groups(runtime, context, kernel.set.gru, gru, call, work);
}

}  // namespace lstm_edge
