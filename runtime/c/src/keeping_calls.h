// The calls of the graph of a stream that keeps steps: the usual ones through plans, which allocate nothing after their
// first run, and the one that ends a sequence.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conditions.h"
#include "state_blocks.h"
#include "stream.h"

namespace lstm_edge::device {

// What a call of the graph with a number of steps reads and writes, lent to onnxruntime after its first run.
struct KeepingPlan {
  KeepingPlan(const Contract& contract, const PieceReader& reader, int64_t steps, int64_t gives);

  const int64_t steps, gives;
  std::vector<Array> inputs;        // those that move
  std::vector<const void*> memory;  // of the inputs
  std::optional<Array> lengths;
  std::vector<Array> outputs;
  Answer answer, row_answer;                       // the outputs with the batch axis, and without that of one row
  std::vector<std::unique_ptr<Binding>> bindings;  // from each block of states to the next
};

// The arrays of a call, in the orders of Moment.
struct KeepingCall {
  const std::vector<Array>& state;
  const std::vector<Array>& inputs;
  const std::vector<Array>& conditions;
  int64_t steps;
  bool end;
  int64_t at;  // steps before, for messages
};

class KeepingCalls {
 public:
  // All of them must outlive the calls.
  KeepingCalls(const Session& session, const PieceReader& reader, StateBlocks& blocks, Conditions& conditions);

  // The plan for a call with so many input and output steps; the least recently used one makes room.
  KeepingPlan& plan(int64_t steps, int64_t gives);
  // Runs a plan from the current block of states to the next; `at` counts the steps before it, for messages. Throws
  // Error as Python's Keeper.take, and then the next block and the outputs hold anything.
  void run(KeepingPlan& plan, int64_t at);
  // Runs the graph with other arrays: the outputs, then the states.
  std::vector<Array> run(const KeepingCall& call) const;
  // Refuses answers of a call with so many input and output steps whose states are not finite, or whose shapes the card
  // does not say.
  void check_answers(const std::vector<Array>& answers, int64_t steps, int64_t gives, int64_t at) const;
  // Refuses shapes that the card does not say: a graph need not declare those of its outputs.
  void check_shapes(const std::vector<Array>& answers) const;
  // The output steps of a call, or none if no output has a time axis.
  std::optional<int64_t> count_steps(const std::vector<Array>& answers) const;

 private:
  void run_unbound(KeepingPlan& plan, int64_t at);
  void bind(KeepingPlan& plan);
  void check_finite_states(const std::vector<Array>& answers, int64_t at) const;
  bool shapes_agree(const std::vector<Array>& answers, int64_t gives) const;

  const Session& session_;
  const Contract& contract_;
  const PieceReader& reader_;
  StateBlocks& blocks_;
  Conditions& conditions_;
  std::vector<std::string> names_;  // of outputs, then of states
  Array not_ended_;
  std::vector<std::unique_ptr<KeepingPlan>> plans_;  // the last used one first
};

}  // namespace lstm_edge::device
