// The stream of a model whose every input step gives one output step at once.
//
// A plan holds the buffers and bindings for one input shape, made once, so that a push only copies, runs and checks.
// The states lie in two blocks; a run reads one and writes the other, and the new one counts when it is finite.
#include <algorithm>
#include <cstring>

#include "checks.h"
#include "conditions.h"
#include "error.h"
#include "finite.h"
#include "moment.h"
#include "piece_shapes.h"
#include "state_blocks.h"
#include "stream.h"

namespace lstm_edge::device {
namespace {

// Most streams see one or two shapes (the chunk and a shorter last one). Eight plans leave room, and limit the memory
// of a stream whose input length keeps changing.
constexpr size_t kMostPlans = 8;

struct Plan {
  Plan(PieceShape piece, const std::vector<TensorSpec>& outputs) : piece(std::move(piece)), answer(outputs) {}

  PieceShape piece;
  std::vector<void*> targets;  // where each input of the contract goes
  std::vector<Array> inputs;   // those that move; then the lengths, if any
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
  Plan& load(const lstm_edge_array* inputs, size_t count);
  std::unique_ptr<Plan> make_plan(const std::vector<View>& views);
  std::unique_ptr<Binding> bind(Plan& plan, size_t block);
  void fill(const Plan& plan, const lstm_edge_array* inputs, size_t count);
  void check_inputs(const Plan& plan, const lstm_edge_array* inputs, size_t count) const;
  void run(Plan& plan);

  StateBlocks blocks_;
  Conditions conditions_;
  PieceSlots slots_;  // of the last push
  int64_t steps_ = 0;
  bool ended_ = false;
  std::vector<std::unique_ptr<Plan>> plans_;  // the last used one first
  bool last_lacks_batch_ = false;             // whether the last piece lacked the batch axis
  Answer left_;
  std::vector<Array> left_arrays_;
};

DirectStream::DirectStream(std::shared_ptr<const Session> session, int64_t batch_size)
    : Stream(std::move(session), batch_size),
      blocks_(contract_.states, batch_size, 2),
      conditions_(reader_),
      slots_(reader_),
      left_(contract_.outputs) {
  plans_.reserve(kMostPlans + 1);
}

const lstm_edge_array* DirectStream::push(const lstm_edge_array* inputs, size_t count) {
  if (ended_) fail(LSTM_EDGE_STREAMING, kEnded);
  Plan* plan = find(inputs, count);
  if (plan == nullptr) plan = &load(inputs, count);
  fill(*plan, inputs, count);
  const bool replaces = count > reader_.moving.size();  // conditions
  try {
    check_inputs(*plan, inputs, count);
    run(*plan);
  } catch (...) {
    if (replaces) conditions_.refuse();
    throw;
  }
  if (replaces) conditions_.accept();
  blocks_.advance();
  steps_ += plan->piece.steps;
  last_lacks_batch_ = (plan->piece.form & kLacksBatch) != 0;
  return plan->answer.shown();
}

// The plan for these arrays, moved to the front; null where none was made yet or something is wrong.
Plan* DirectStream::find(const lstm_edge_array* inputs, size_t count) {
  for (size_t i = 0; i < plans_.size(); ++i) {
    if (!slots_.agrees(plans_[i]->piece, inputs, count, conditions_.holds())) continue;
    if (i > 0) std::rotate(plans_.begin(), plans_.begin() + std::ptrdiff_t(i), plans_.begin() + std::ptrdiff_t(i) + 1);
    return plans_[0].get();
  }
  return nullptr;
}

// Checks arrays for which there is no plan, and makes it.
Plan& DirectStream::load(const lstm_edge_array* inputs, size_t count) {
  std::vector<View> given;
  for (size_t i = 0; i < count; ++i) given.push_back(view_of(inputs[i]));
  static const std::vector<Array> none;
  std::unique_ptr<Plan> made =
      make_plan(reader_.read(std::move(given), conditions_.holds() ? conditions_.held() : none, steps_));
  slots_.agrees(made->piece, inputs, count, true);  // finds the slots
  if (plans_.size() == kMostPlans) plans_.pop_back();
  plans_.insert(plans_.begin(), std::move(made));
  return *plans_[0];
}

std::unique_ptr<Plan> DirectStream::make_plan(const std::vector<View>& views) {
  auto plan = std::make_unique<Plan>(PieceShape(reader_, views), contract_.outputs);
  const int64_t steps = plan->piece.steps;
  plan->inputs.reserve(views.size() + 1);
  size_t condition = 0;
  for (size_t i = 0; i < views.size(); ++i) {
    const TensorSpec& spec = contract_.inputs[i];
    if (!plan->piece.expected[i].moves) {
      plan->targets.push_back(conditions_.live[condition++].data<void>());
      continue;
    }
    plan->inputs.emplace_back(dtype_of(spec.dtype), shape_of(spec.axes, reader_.batch_size, steps));
    Array& target = plan->inputs.back();
    if (target.dtype == LSTM_EDGE_FLOAT32) plan->finite.push_back({target.data<float>(), target.bytes() / 4});
    else if (is_float(target.dtype)) plan->others = true;
    plan->targets.push_back(target.data<void>());
  }
  plan->finite.push_back({});
  if (contract_.lengths) {
    plan->inputs.emplace_back(LSTM_EDGE_INT64, Shape{reader_.batch_size});
    int64_t* lengths = plan->inputs.back().data<int64_t>();
    std::fill(lengths, lengths + reader_.batch_size, steps);
  }
  std::vector<Shape> shapes;
  for (const TensorSpec& spec : contract_.outputs) {
    plan->outputs.emplace_back(dtype_of(spec.dtype), shape_of(spec.axes, reader_.batch_size, steps));
    shapes.push_back(shape_of(spec.axes, reader_.batch_size, steps, plan->piece.form));
  }
  plan->answer.show(plan->outputs, shapes);
  for (size_t block : {0, 1}) plan->bindings[block] = bind(*plan, block);
  return plan;
}

// Binds the buffers so that the state goes from a block to the other one.
std::unique_ptr<Binding> DirectStream::bind(Plan& plan, size_t block) {
  std::vector<Lent> given, taken;
  for (size_t k = 0; k < reader_.moving.size(); ++k) {
    given.push_back(lent_of(contract_.inputs[reader_.moving[k]].name, plan.inputs[k]));
  }
  if (contract_.lengths) given.push_back(lent_of(*contract_.lengths, plan.inputs.back()));
  for (size_t k = 0; k < reader_.conditions.size(); ++k) {
    given.push_back(lent_of(contract_.inputs[reader_.conditions[k]].name, conditions_.live[k]));
  }
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    taken.push_back(lent_of(contract_.outputs[i].name, plan.outputs[i]));
  }
  blocks_.lend(block, given, taken);
  return session_->graph->bind(given, taken);
}

void DirectStream::fill(const Plan& plan, const lstm_edge_array* inputs, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const size_t slot = slots_[i];
    std::memcpy(plan.targets[slot], inputs[i].data, plan.piece.expected[slot].bytes);
  }
}

void DirectStream::check_inputs(const Plan& plan, const lstm_edge_array* inputs, size_t count) const {
  const bool conditions = count > reader_.moving.size();
  if (LstmEdgeAllFinite(plan.finite.data()) != 0 && !plan.others && !conditions) return;
  slots_.check_finite(inputs, count, steps_);
}

void DirectStream::run(Plan& plan) {
  try {
    plan.bindings[blocks_.now()]->run();
  } catch (const Error& error) {
    fail(error.status, "step " + std::to_string(steps_) +
                           ": onnxruntime refused this input, the state is unchanged: " + error.message);
  }
  if (!blocks_.next_is_finite()) {
    fail(LSTM_EDGE_INPUT, "step " + std::to_string(steps_) +
                              ": the new state is not finite: it was discarded, and the old state was kept");
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
  blocks_.clear(blocks_.next());
  blocks_.advance();
  steps_ = 0;
  ended_ = false;
  if (!reader_.conditions.empty()) last_lacks_batch_ = false;
  conditions_.forget();
}

Arrays DirectStream::snapshot() const {
  Moment moment;
  moment.state = blocks_.copy(blocks_.now());
  moment.steps = steps_;
  moment.begun = steps_ > 0;
  moment.ended = ended_;
  if (conditions_.holds()) moment.conditions = clone(conditions_.held());
  return moment_to_arrays(moment, reader_);
}

void DirectStream::restore_arrays(Arrays arrays) {
  const Streaming every_step;
  const Moment moment = moment_from_arrays(std::move(arrays), reader_, every_step);
  last_lacks_batch_ = false;
  conditions_.set(moment.conditions);
  blocks_.set(blocks_.next(), moment.state);
  blocks_.advance();
  steps_ = moment.steps;
  ended_ = moment.ended;
}

}  // namespace

std::unique_ptr<Stream> open_direct_stream(std::shared_ptr<const Session> session, int64_t batch_size) {
  return std::make_unique<DirectStream>(std::move(session), batch_size);
}

}  // namespace lstm_edge::device
