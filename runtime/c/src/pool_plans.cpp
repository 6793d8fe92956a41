#include "pool_plans.h"

#include <algorithm>

#include "stream.h"

namespace lstm_edge::device {
namespace {

// As in pool_plans.py, which has the reasons; a test compares both.
constexpr size_t kMostPlans = 96;
constexpr size_t kExact = 16, kRound = 8;

size_t rounded(size_t rows) { return rows > kExact ? (rows + kRound - 1) / kRound * kRound : rows; }

}  // namespace

void PoolPlan::clear() {
  for (Array& array : inputs) std::memset(array.data<void>(), 0, array.bytes());
}

std::shared_ptr<PoolPlan> PoolPlans::find(const SharedForm& form, size_t rows, size_t first, size_t thread) {
  if (first == kGathered) rows = rounded(rows);
  ++clock_;
  for (Entry& entry : entries_) {
    if (entry.form != form.get() || entry.rows != rows || entry.first != first || entry.thread != thread) continue;
    entry.used = clock_;
    return entry.plan;
  }
  std::shared_ptr<PoolPlan> plan = make(form, rows, first, thread);
  entries_.reserve(kMostPlans);
  const Entry entry{form.get(), rows, first, thread, clock_, std::move(plan)};
  if (entries_.size() < kMostPlans) {
    entries_.push_back(entry);
  } else {
    const auto older = [](const Entry& a, const Entry& b) { return a.used < b.used; };
    *std::min_element(entries_.begin(), entries_.end(), older) = entry;
  }
  return entry.plan;
}

std::shared_ptr<PoolPlan> PoolPlans::make(const SharedForm& form, size_t rows, size_t first, size_t thread) {
  auto plan = std::make_shared<PoolPlan>();
  plan->form = form;
  plan->rows = rows;
  plan->first = first;
  const auto made = [&](const TensorSpec& spec) {
    return Array(dtype_of(spec.dtype), shape_of(spec.axes, int64_t(rows), form->piece.steps));
  };
  for (const TensorSpec& spec : session_.contract.inputs) {
    plan->inputs.push_back(made(spec));
    Array& array = plan->inputs.back();
    if (array.dtype == LSTM_EDGE_FLOAT32) plan->finite.push_back({array.data<float>(), array.bytes() / sizeof(float)});
    else if (is_float(array.dtype)) plan->others = true;
  }
  plan->finite.push_back({});
  for (const TensorSpec& spec : session_.contract.outputs) plan->outputs.push_back(made(spec));
  if (session_.contract.lengths) {
    plan->lengths = Array(LSTM_EDGE_INT64, {int64_t(rows)});
    std::fill(plan->lengths.data<int64_t>(), plan->lengths.data<int64_t>() + rows, form->piece.steps);
  }
  if (first == kGathered) bind_to_blocks(*plan, thread);
  else bind_to_store(*plan);
  return plan;
}

void PoolPlans::bind_to_store(PoolPlan& plan) const {
  std::vector<Shape> shapes;
  std::vector<char*> places[2];
  for (size_t i = 0; i < store_.tables.size(); ++i) {
    const PoolStore::Table& table = store_.tables[i];
    shapes.push_back(state_shape(session_.contract.states[i], int64_t(plan.rows)));
    for (const bool place : {false, true}) {
      places[place].push_back(store_.at(table, plan.first, place));
      if (table.dtype != LSTM_EDGE_FLOAT32) continue;
      const auto* floats = reinterpret_cast<const float*>(places[place].back());
      plan.finite_after[!place].push_back({floats, plan.rows * table.slices.bytes / sizeof(float)});
    }
  }
  for (const bool place : {false, true}) {
    plan.finite_after[place].push_back({});
    plan.bindings[place] = bind(plan, shapes, places[place], places[!place]);
  }
}

std::shared_ptr<StateBlocks> PoolPlans::blocks_for(size_t rows, size_t thread) {
  if (blocks_.size() <= thread) blocks_.resize(thread + 1);
  std::shared_ptr<StateBlocks>& blocks = blocks_[thread];
  if (blocks == nullptr || blocks->rows < rows) {
    auto made = std::make_shared<StateBlocks>();
    made->rows = std::max(rows, std::min(rounded(store_.capacity), blocks == nullptr ? kExact : 2 * blocks->rows));
    const StateLayout layout(session_.contract.states, int64_t(made->rows));
    for (Array* block : {&made->before, &made->after}) *block = Array(LSTM_EDGE_UINT8, {int64_t(layout.bytes)});
    blocks = std::move(made);
  }
  return blocks;
}

void PoolPlans::bind_to_blocks(PoolPlan& plan, size_t thread) {
  plan.blocks = blocks_for(plan.rows, thread);
  char *before = plan.blocks->before.data<char>(), *after = plan.blocks->after.data<char>();
  const StateLayout layout(session_.contract.states, int64_t(plan.rows));
  std::vector<Shape> shapes;
  for (const StateLayout::Place& place : layout.places) {
    shapes.push_back(place.shape);
    plan.before.push_back(before + place.offset);
    plan.after.push_back(after + place.offset);
  }
  if (layout.floats > 0) plan.finite_after[0].push_back({plan.blocks->after.data<float>(), layout.floats});
  plan.finite_after[0].push_back({});
  plan.bindings[0] = bind(plan, shapes, plan.before, plan.after);
}

std::unique_ptr<Binding> PoolPlans::bind(PoolPlan& plan, const std::vector<Shape>& shapes,
                                         const std::vector<char*>& before, const std::vector<char*>& after) const {
  const Contract& contract = session_.contract;
  std::vector<Lent> given, taken;
  for (size_t i = 0; i < plan.inputs.size(); ++i) given.push_back(lent_of(contract.inputs[i].name, plan.inputs[i]));
  if (contract.lengths) given.push_back(lent_of(*contract.lengths, plan.lengths));
  for (size_t i = 0; i < plan.outputs.size(); ++i) taken.push_back(lent_of(contract.outputs[i].name, plan.outputs[i]));
  for (size_t i = 0; i < shapes.size(); ++i) {
    const StateSpec& spec = contract.states[i];
    given.push_back({spec.input, store_.tables[i].dtype, shapes[i], before[i]});
    taken.push_back({spec.output, store_.tables[i].dtype, shapes[i], after[i]});
  }
  return session_.graph->bind(given, taken);
}

}  // namespace lstm_edge::device
