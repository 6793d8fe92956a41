// The stream of a model whose every input step gives one output step at once.
//
// A plan holds the buffers and bindings for one input shape, made once, so that a push only copies, runs and checks.
// The states lie in two blocks; a run reads one and writes the other, and the new one counts when it is finite.
#include <algorithm>
#include <cstring>

#include "checks.h"
#include "error.h"
#include "finite.h"
#include "moment.h"
#include "states.h"
#include "stream.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

// Most streams see one or two shapes (the chunk and a shorter last one). Eight plans leave room, and limit the memory
// of a stream whose input length keeps changing.
constexpr size_t kMostPlans = 8;

struct FixedShape {
  int32_t rank = -1;
  int64_t sizes[LSTM_EDGE_MOST_AXES] = {};

  // More axes than a caller can give fit no array.
  void set(const Shape& shape) {
    if (shape.size() > LSTM_EDGE_MOST_AXES) return;
    rank = int32_t(shape.size());
    std::copy(shape.begin(), shape.end(), sizes);
  }
  bool agrees(const lstm_edge_array& array) const {
    return array.rank == rank && std::memcmp(array.shape, sizes, size_t(rank) * sizeof(sizes[0])) == 0;
  }
};

// An array that a push may give without further checks, and where it goes.
struct Expected {
  lstm_edge_dtype dtype = LSTM_EDGE_FLOAT32;
  FixedShape shape, row;  // a condition of one row may lack the batch axis
  size_t bytes = 0;
  void* target = nullptr;
  bool moves = true;

  bool agrees(const lstm_edge_array& array) const {
    return array.dtype == dtype && array.data != nullptr && (shape.agrees(array) || row.agrees(array));
  }
};

struct Plan {
  explicit Plan(const std::vector<TensorSpec>& outputs) : answer(outputs) {}

  int64_t steps = 1;
  Form form = kChunk;
  std::vector<Expected> expected;  // for each input of the contract
  std::vector<Array> inputs;       // those that move; then the lengths, if any
  std::vector<Array> outputs;
  Answer answer;
  std::vector<Span> finite;  // the float32 inputs that move
  bool others = false;       // whether inputs of other floats move
  std::unique_ptr<Binding> bindings[2];
};

class DirectStream : public Stream {
 public:
  DirectStream(std::shared_ptr<const Session> session, int64_t batch_size);

  const lstm_edge_array* push(const lstm_edge_array* inputs, size_t count) override;
  const lstm_edge_array* flush() override;
  void reset() override;
  int64_t steps() const override { return steps_; }

 protected:
  Arrays snapshot() const override;
  void restore_arrays(Arrays arrays) override;

 private:
  Plan* find(const lstm_edge_array* inputs, size_t count);
  bool agrees(const Plan& plan, const lstm_edge_array* inputs, size_t count);
  size_t slot_of(const lstm_edge_array& array, size_t position, size_t count) const;
  Plan& load(const lstm_edge_array* inputs, size_t count);
  std::unique_ptr<Plan> make_plan(const std::vector<View>& views);
  std::unique_ptr<Binding> bind(Plan& plan, int phase);
  void fill(const Plan& plan, const lstm_edge_array* inputs, size_t count);
  void check_inputs(const Plan& plan, const lstm_edge_array* inputs, size_t count) const;
  void keep_conditions(size_t count, bool accepted);
  void run(Plan& plan);
  void go_to(const std::vector<Array>& states, int64_t steps, bool ended);

  const StateLayout layout_;
  Array blocks_[2];
  std::vector<Span> finite_[2];  // the float32 states of each block
  int phase_ = 0;                // the block that holds the state
  int64_t steps_ = 0;
  bool ended_ = false;
  std::vector<std::unique_ptr<Plan>> plans_;  // the last used one first
  bool last_lacks_batch_ = false;             // whether the last piece lacked the batch axis
  // The conditions that were accepted, and the memory that the graph reads; for each condition of the reader.
  std::vector<Array> held_, live_;
  bool holds_ = false;
  std::vector<size_t> slots_;  // the input that each array of the last push was
  Answer left_;
  std::vector<Array> left_arrays_;
};

DirectStream::DirectStream(std::shared_ptr<const Session> session, int64_t batch_size)
    : Stream(std::move(session), batch_size), layout_(contract_.states, batch_size), left_(contract_.outputs) {
  for (int phase : {0, 1}) {
    blocks_[phase] = Array(LSTM_EDGE_UINT8, {int64_t(layout_.bytes)});
    if (layout_.floats > 0) finite_[phase].push_back({blocks_[phase].data<float>(), layout_.floats});
    finite_[phase].push_back({});
  }
  for (size_t k = 0; k < reader_.conditions.size(); ++k) {
    const lstm_edge_dtype dtype = dtype_of(contract_.inputs[reader_.conditions[k]].dtype);
    held_.emplace_back(dtype, reader_.condition_shapes[k]);
    live_.emplace_back(dtype, reader_.condition_shapes[k]);
  }
  slots_.resize(contract_.inputs.size());
  for (size_t i = 0; i < slots_.size(); ++i) slots_[i] = i;
  plans_.reserve(kMostPlans + 1);
}

const lstm_edge_array* DirectStream::push(const lstm_edge_array* inputs, size_t count) {
  if (ended_) fail(LSTM_EDGE_STREAMING, kEnded);
  Plan* plan = find(inputs, count);
  if (plan == nullptr) plan = &load(inputs, count);
  fill(*plan, inputs, count);
  try {
    check_inputs(*plan, inputs, count);
    run(*plan);
  } catch (...) {
    keep_conditions(count, false);
    throw;
  }
  keep_conditions(count, true);
  phase_ = 1 - phase_;
  steps_ += plan->steps;
  last_lacks_batch_ = (plan->form & kLacksBatch) != 0;
  return plan->answer.shown();
}

// The plan for these arrays, moved to the front; null where none was made yet or something is wrong.
Plan* DirectStream::find(const lstm_edge_array* inputs, size_t count) {
  for (size_t i = 0; i < plans_.size(); ++i) {
    if (!agrees(*plans_[i], inputs, count)) continue;
    if (i > 0) std::rotate(plans_.begin(), plans_.begin() + std::ptrdiff_t(i), plans_.begin() + std::ptrdiff_t(i) + 1);
    return plans_[0].get();
  }
  return nullptr;
}

// Whether the arrays are right and of the plan's shapes; their slots are then known.
bool DirectStream::agrees(const Plan& plan, const lstm_edge_array* inputs, size_t count) {
  if (count < reader_.moving.size() || count > slots_.size()) return false;
  size_t moving = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t slot = slot_of(inputs[i], i, count);
    if (slot >= slots_.size()) return false;
    // A slot that came before is swapped forward, so a second array of one name finds no place.
    const auto place = std::find(slots_.begin() + std::ptrdiff_t(i), slots_.end(), slot);
    if (place == slots_.end() || !plan.expected[slot].agrees(inputs[i])) return false;
    std::swap(slots_[i], *place);
    moving += plan.expected[slot].moves;
  }
  // What is not given is a condition that is held.
  return moving == reader_.moving.size() && (holds_ || count == slots_.size());
}

// The index of the input that an array of a push is; too large if there is none.
size_t DirectStream::slot_of(const lstm_edge_array& array, size_t position, size_t count) const {
  const size_t none = slots_.size();
  if (array.name == nullptr || *array.name == 0) {
    return count == 1 && reader_.moving.size() == 1 ? reader_.moving[0] : none;
  }
  const size_t likely = slots_[position];
  if (contract_.inputs[likely].name == array.name) return likely;
  for (size_t i = 0; i < none; ++i) {
    if (contract_.inputs[i].name == array.name) return i;
  }
  return none;
}

// Checks arrays for which there is no plan, and makes it.
Plan& DirectStream::load(const lstm_edge_array* inputs, size_t count) {
  std::vector<View> given;
  for (size_t i = 0; i < count; ++i) given.push_back(view_of(inputs[i]));
  static const std::vector<Array> none;
  std::unique_ptr<Plan> made = make_plan(reader_.read(std::move(given), holds_ ? held_ : none, steps_));
  agrees(*made, inputs, count);  // finds the slots
  if (plans_.size() == kMostPlans) plans_.pop_back();
  plans_.insert(plans_.begin(), std::move(made));
  return *plans_[0];
}

std::unique_ptr<Plan> DirectStream::make_plan(const std::vector<View>& views) {
  auto plan = std::make_unique<Plan>(contract_.outputs);
  plan->form = reader_.find_form(views, plan->steps);
  plan->expected.resize(views.size());
  plan->inputs.reserve(views.size() + 1);
  size_t condition = 0;
  for (size_t i = 0; i < views.size(); ++i) {
    const TensorSpec& spec = contract_.inputs[i];
    Expected& expected = plan->expected[i];
    expected.moves = std::find(reader_.moving.begin(), reader_.moving.end(), i) != reader_.moving.end();
    Array* target = expected.moves ? nullptr : &live_[condition++];
    if (expected.moves) {
      plan->inputs.emplace_back(dtype_of(spec.dtype), shape_of(spec.axes, reader_.batch_size, plan->steps));
      target = &plan->inputs.back();
      if (target->dtype == LSTM_EDGE_FLOAT32) plan->finite.push_back({target->data<float>(), target->bytes() / 4});
      else if (is_float(target->dtype)) plan->others = true;
    }
    expected.dtype = target->dtype;
    expected.shape.set(views[i].sizes());
    if (!expected.moves && reader_.batch_size == 1) expected.row.set(shape_of(spec.axes, 1, 1, kRow));
    expected.bytes = target->bytes();
    expected.target = target->data<void>();
  }
  plan->finite.push_back({});
  if (contract_.lengths) {
    plan->inputs.emplace_back(LSTM_EDGE_INT64, Shape{reader_.batch_size});
    int64_t* lengths = plan->inputs.back().data<int64_t>();
    std::fill(lengths, lengths + reader_.batch_size, plan->steps);
  }
  std::vector<Shape> shapes;
  for (const TensorSpec& spec : contract_.outputs) {
    plan->outputs.emplace_back(dtype_of(spec.dtype), shape_of(spec.axes, reader_.batch_size, plan->steps));
    shapes.push_back(shape_of(spec.axes, reader_.batch_size, plan->steps, plan->form));
  }
  plan->answer.show(plan->outputs, shapes);
  for (int phase : {0, 1}) plan->bindings[phase] = bind(*plan, phase);
  return plan;
}

// Binds the buffers so that the state goes from block `phase` to the other one.
std::unique_ptr<Binding> DirectStream::bind(Plan& plan, int phase) {
  std::vector<Lent> given, taken;
  for (size_t k = 0; k < reader_.moving.size(); ++k) {
    given.push_back(lent_of(contract_.inputs[reader_.moving[k]].name, plan.inputs[k]));
  }
  if (contract_.lengths) given.push_back(lent_of(*contract_.lengths, plan.inputs.back()));
  for (size_t k = 0; k < reader_.conditions.size(); ++k) {
    given.push_back(lent_of(contract_.inputs[reader_.conditions[k]].name, live_[k]));
  }
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    taken.push_back(lent_of(contract_.outputs[i].name, plan.outputs[i]));
  }
  for (size_t i = 0; i < layout_.places.size(); ++i) {
    const StateLayout::Place& place = layout_.places[i];
    const StateSpec& spec = contract_.states[i];
    const auto at = [&](int block) { return blocks_[block].data<char>() + place.offset; };
    given.push_back({spec.input, place.dtype, place.shape, at(phase)});
    taken.push_back({spec.output, place.dtype, place.shape, at(1 - phase)});
  }
  return session_->graph->bind(given, taken);
}

void DirectStream::fill(const Plan& plan, const lstm_edge_array* inputs, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const Expected& expected = plan.expected[slots_[i]];
    std::memcpy(expected.target, inputs[i].data, expected.bytes);
  }
}

void DirectStream::check_inputs(const Plan& plan, const lstm_edge_array* inputs, size_t count) const {
  const bool conditions = count > reader_.moving.size();
  if (LstmEdgeAllFinite(plan.finite.data()) != 0 && !plan.others && !conditions) return;
  // Conditions first, as Python reads them first.
  for (const bool moves : {false, true}) {
    for (size_t slot = 0; slot < plan.expected.size(); ++slot) {
      if (plan.expected[slot].moves != moves) continue;
      const auto given = std::find(slots_.begin(), slots_.begin() + std::ptrdiff_t(count), slot);
      if (given == slots_.begin() + std::ptrdiff_t(count)) continue;
      check_step_finite(contract_.inputs[slot].name, view_of(inputs[given - slots_.begin()]), steps_);
    }
  }
}

void DirectStream::run(Plan& plan) {
  try {
    plan.bindings[phase_]->run();
  } catch (const Error& error) {
    fail(error.status, "step " + std::to_string(steps_) +
                           ": onnxruntime refused this input, the state is unchanged: " + error.message);
  }
  if (LstmEdgeAllFinite(finite_[1 - phase_].data()) == 0) {
    fail(LSTM_EDGE_INPUT, "step " + std::to_string(steps_) +
                              ": the new state is not finite: it was discarded, and the old state was kept");
  }
}

// After a push that gave conditions: they are held from now on, or those from before are again what the graph reads.
void DirectStream::keep_conditions(size_t count, bool accepted) {
  if (count == reader_.moving.size()) return;
  if (accepted) holds_ = true;
  for (size_t k = 0; k < live_.size(); ++k) {
    Array& from = accepted ? live_[k] : held_[k];
    Array& to = accepted ? held_[k] : live_[k];
    std::memcpy(to.data<void>(), from.data<void>(), from.bytes());
  }
}

const lstm_edge_array* DirectStream::flush() {
  const Axes& axes = contract_.inputs[reader_.moving[0]].axes;
  const bool lacks_batch = last_lacks_batch_ && has_axis(axes, kBatch);
  std::vector<Array> arrays;
  std::vector<Shape> shapes;
  for (const TensorSpec& spec : contract_.outputs) {
    shapes.push_back(answer_shape(spec.axes, 0, reader_.batch_size, lacks_batch, false));
    arrays.emplace_back(dtype_of(spec.dtype), shapes.back());
  }
  left_arrays_ = std::move(arrays);
  left_.show(left_arrays_, shapes);
  last_lacks_batch_ = false;
  ended_ = true;
  return left_.shown();
}

void DirectStream::reset() {
  std::memset(blocks_[1 - phase_].data<void>(), 0, blocks_[1 - phase_].bytes());
  phase_ = 1 - phase_;
  steps_ = 0;
  ended_ = false;
  if (!reader_.conditions.empty()) holds_ = last_lacks_batch_ = false;
}

void DirectStream::go_to(const std::vector<Array>& states, int64_t steps, bool ended) {
  const int other = 1 - phase_;
  for (size_t i = 0; i < states.size(); ++i) {
    std::memcpy(blocks_[other].data<char>() + layout_.places[i].offset, states[i].data<void>(),
                layout_.places[i].bytes);
  }
  phase_ = other;
  steps_ = steps;
  ended_ = ended;
}

Arrays DirectStream::snapshot() const {
  Moment moment;
  for (const StateLayout::Place& place : layout_.places) {
    Array array(place.dtype, place.shape);
    std::memcpy(array.data<void>(), blocks_[phase_].data<char>() + place.offset, place.bytes);
    moment.state.push_back(std::move(array));
  }
  moment.steps = steps_;
  moment.begun = steps_ > 0;
  moment.ended = ended_;
  if (holds_) moment.conditions = clone(held_);
  return moment_to_arrays(moment, reader_);
}

void DirectStream::restore_arrays(Arrays arrays) {
  const Streaming every_step;
  const Moment moment = moment_from_arrays(std::move(arrays), reader_, every_step);
  last_lacks_batch_ = false;
  holds_ = !moment.conditions.empty();
  for (size_t k = 0; k < moment.conditions.size(); ++k) {
    for (std::vector<Array>* to : {&held_, &live_}) {
      std::memcpy((*to)[k].data<void>(), moment.conditions[k].data<void>(), moment.conditions[k].bytes());
    }
  }
  go_to(moment.state, moment.steps, moment.ended);
}

}  // namespace

std::unique_ptr<Stream> open_direct_stream(std::shared_ptr<const Session> session, int64_t batch_size) {
  return std::make_unique<DirectStream>(std::move(session), batch_size);
}

}  // namespace lstm_edge::device
