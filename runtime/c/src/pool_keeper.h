// A stream of a pool whose model's input steps do not give one output step each: Keeper of keeping.py. A push is
// planned, called and taken over, so that several streams can share the call (pool_kept.cpp).
#pragma once

#include <string>
#include <vector>

#include "error.h"
#include "keeping_calls.h"
#include "moment.h"

namespace lstm_edge::device {

// What a push calls, and what becomes of the stream then.
struct PlannedPush {
  int64_t steps = 0;      // of the piece
  int64_t available = 0;  // steps with those that were kept
  int64_t count = 0;      // steps of the call; 0: nothing is called
  int64_t gives = 0;      // output steps of the call
  bool lacks_batch = false;
  std::vector<Array> conditions;
  std::vector<Array> inputs;  // of the call, for each input that moves; what is kept if nothing is called
  std::vector<Array> kept;    // steps behind those of the call
};

class PoolKeeper {
 public:
  // All of them must outlive the stream; `reader` is for one row.
  PoolKeeper(const Session& session, const PieceReader& reader, const KeepingCalls& calls);

  // The phases of a push. `keep` takes one that calls nothing, `take` the outputs and new states of the call. Each
  // returns the answer, valid until the next one, or throws and changes nothing.
  PlannedPush plan(const lstm_edge_array* inputs, size_t count) const;
  const lstm_edge_array* keep(PlannedPush push);
  const lstm_edge_array* take(PlannedPush push, std::vector<Array> answers);
  // The error for a call that onnxruntime refused.
  [[noreturn]] void refuse(const Error& error) const;

  void reset();
  int64_t steps() const { return now_.steps; }
  const std::vector<Array>& state() const { return now_.state; }
  Arrays snapshot() const { return moment_to_arrays(now_, reader_); }
  void restore(Arrays arrays) { now_ = moment_from_arrays(std::move(arrays), reader_, streaming_); }

 private:
  std::vector<Array> joined(const std::vector<Array>& early, const std::vector<View>& late) const;
  std::vector<Array> cut(const std::vector<Array>& arrays, int64_t start, int64_t stop) const;
  const lstm_edge_array* deliver(std::vector<Array> outputs, int64_t steps, bool lacks_batch, bool called);

  const Contract& contract_;
  const Streaming& streaming_;
  const PieceReader& reader_;
  const KeepingCalls& calls_;
  const bool keeps_call_;  // as of a stream (keeping_stream.cpp)
  Moment now_;
  Answer answer_;
  std::vector<Array> delivered_;
};

}  // namespace lstm_edge::device
