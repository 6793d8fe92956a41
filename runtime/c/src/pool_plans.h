// The buffers and bindings of the calls of a pool: one plan for a form of piece and a number of rows: pool_plans.py.
//
// A plan reads and writes the states in one of two ways. If the rows of a call lie side by side in the store, it is
// bound to the store itself, and no state is copied. Otherwise states are gathered into buffers that all such plans of
// one thread share, and the new ones are scattered back.
#pragma once

#include <memory>
#include <vector>

#include "finite.h"
#include "pool_forms.h"
#include "pool_store.h"
#include "session.h"
#include "states.h"

namespace lstm_edge::device {

constexpr size_t kGathered = size_t(-1);  // in place of the first row

// The states of calls that gather them, before and after.
struct StateBlocks {
  size_t rows = 0;
  Array before, after;
};

struct PoolPlan {
  SharedForm form;
  size_t rows = 0;           // of the bound buffers
  size_t first = kGathered;  // the first row of the store that the plan is bound to
  std::vector<Array> inputs, outputs;
  Array lengths;
  std::shared_ptr<StateBlocks> blocks;
  std::vector<Span> finite;              // the float32 inputs
  bool others = false;                   // whether there are inputs of other floats
  std::vector<char*> before, after;      // the states that are gathered, and the new ones to scatter
  std::vector<Span> finite_after[2];     // the new states, for each place of the old ones
  std::unique_ptr<Binding> bindings[2];  // from the first to the second places, and back; gathered: the first only

  // Fills the inputs with zeros, so that a refused piece leaves nothing for the rows that a call does not need.
  void clear();
};

// The plans of one pool: those that were used last.
class PoolPlans {
 public:
  PoolPlans(const Session& session, const PoolStore& store) : session_(session), store_(store) {}

  // A plan that one thread uses at a time. `first`: the row of the store that rows side by side begin with, or
  // kGathered. Throws Error if onnxruntime refuses the buffers.
  std::shared_ptr<PoolPlan> find(const SharedForm& form, size_t rows, size_t first, size_t thread);

 private:
  struct Entry {
    const PoolForm* form;
    size_t rows, first, thread;
    uint64_t used;
    std::shared_ptr<PoolPlan> plan;
  };
  std::shared_ptr<PoolPlan> make(const SharedForm& form, size_t rows, size_t first, size_t thread);
  void bind_to_store(PoolPlan& plan) const;
  void bind_to_blocks(PoolPlan& plan, size_t thread);
  std::shared_ptr<StateBlocks> blocks_for(size_t rows, size_t thread);
  std::unique_ptr<Binding> bind(PoolPlan& plan, const std::vector<Shape>& shapes, const std::vector<char*>& before,
                                const std::vector<char*>& after) const;

  const Session& session_;
  const PoolStore& store_;
  std::vector<Entry> entries_;
  uint64_t clock_ = 0;
  std::vector<std::shared_ptr<StateBlocks>> blocks_;  // by thread; plans for less rows may have smaller ones
};

}  // namespace lstm_edge::device
