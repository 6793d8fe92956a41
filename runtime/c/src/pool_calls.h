// Calls of the graph that rows of a pool share: cut among threads, run, and taken over row by row: pool_calls.py.
#pragma once

#include <vector>

#include "pool_plans.h"
#include "pool_streams.h"

namespace lstm_edge::device {

// A stream of a call: its piece, the memory of each of its inputs, and where its answer goes.
struct Member {
  const Pushed* pushed = nullptr;
  const void* const* sources = nullptr;
  char* answer = nullptr;
};

// Told once for each stream whose new state counts; by several threads at once, each for other streams.
class Acceptance {
 public:
  virtual ~Acceptance() = default;
  virtual void accepted(const PoolForm& form, const Member& member) = 0;
};

class SharedCalls {
 public:
  SharedCalls(const Session& session, PoolStore& store, Crew& crew, Acceptance& acceptance);

  // A call of the graph and what became of it.
  struct Call {
    Member* members = nullptr;
    size_t count = 0;
    std::shared_ptr<PoolPlan> plan;
    bool place = false;  // of the states that it reads, of rows side by side
    enum { kDone, kNotFinite, kRefused } outcome = kDone;
    lstm_edge_status status = LSTM_EDGE_OK;
    std::string reason;  // what onnxruntime said
  };

  // Runs streams whose pieces share a form, in one call for each thread that gets work. Each stream is accepted or
  // refused then, but for those of the calls that are returned. `members` may be put into another order.
  const std::vector<Call>& run(const SharedForm& form, Member* members, size_t count);

 private:
  // Rows side by side that were pushed together of late, and how often.
  struct Range {
    size_t first = 0, rows = 0, times = 0;
    uint64_t used = 0;
  };

  bool sort_by_row(Member* members, size_t count);
  size_t times_seen(size_t first, size_t rows);
  void execute(Call& call);
  void fill(const Call& call);
  bool inputs_finite(const PoolPlan& plan) const;
  bool state_finite(const Call& call, size_t index) const;
  void finish(const Call& call);
  void copy_answer(const PoolPlan& plan, const Member& member, size_t index) const;

  const Session& session_;
  PoolStore& store_;
  Crew& crew_;
  Acceptance& acceptance_;
  PoolPlans plans_;
  std::vector<Call> calls_, failed_;
  std::vector<Member> sorted_;
  std::vector<Range> ranges_;
  uint64_t clock_ = 0;
};

}  // namespace lstm_edge::device
