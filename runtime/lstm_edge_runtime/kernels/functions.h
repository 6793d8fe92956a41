// All functions of one instruction set. Included once by its file, in its namespace, after arithmetic.h and a struct
// Isa (see product.h).
#include "product.h"
#include "sequence.h"
// Cells and layers need the two above.
#include "gru_cell.h"
#include "linear.h"
#include "lstm_cell.h"
#include "rnn_cell.h"

constexpr InstructionSet functions(const char* name) {
  using P = Precision;
  using K = Peephole;
  return {name,
          Isa::kWeightOffset,
          {{run_lstm<P::kFloat, K::kNone>, run_lstm<P::kFloat, K::kDiagonal>, run_lstm<P::kFloat, K::kFull>},
           {run_lstm<P::kInt8, K::kNone>, run_lstm<P::kInt8, K::kDiagonal>, run_lstm<P::kInt8, K::kFull>},
           {run_lstm<P::kInt4, K::kNone>, run_lstm<P::kInt4, K::kDiagonal>, run_lstm<P::kInt4, K::kFull>},
           {run_lstm<P::kSparse, K::kNone>, run_lstm<P::kSparse, K::kDiagonal>, run_lstm<P::kSparse, K::kFull>}},
          {{run_gru<P::kFloat, false>, run_gru<P::kFloat, true>},
           {run_gru<P::kInt8, false>, run_gru<P::kInt8, true>},
           {run_gru<P::kInt4, false>, run_gru<P::kInt4, true>},
           {run_gru<P::kSparse, false>, run_gru<P::kSparse, true>}},
          {{},
           {run_rnn<P::kInt8, false>, run_rnn<P::kInt8, true>},
           {run_rnn<P::kInt4, false>, run_rnn<P::kInt4, true>},
           {run_rnn<P::kSparse, false>, run_rnn<P::kSparse, true>}},
          {nullptr, run_linear<P::kInt8>, run_linear<P::kInt4>, nullptr}};
}
