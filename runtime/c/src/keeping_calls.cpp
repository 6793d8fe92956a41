#include "keeping_calls.h"

#include <algorithm>
#include <cstring>

#include "checks.h"
#include "error.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

// The pieces of one shape lead to two numbers of steps, and another for the first outputs. Eight plans leave room for
// pieces of other shapes, and limit the memory of a stream whose input length keeps changing.
constexpr size_t kMostPlans = 8;

std::string number(int64_t value) { return std::to_string(value); }

}  // namespace

KeepingPlan::KeepingPlan(const Contract& contract, const PieceReader& reader, int64_t steps, int64_t gives)
    : steps(steps), gives(gives), answer(contract.outputs), row_answer(contract.outputs) {
  for (size_t i : reader.moving) {
    const TensorSpec& spec = contract.inputs[i];
    inputs.emplace_back(dtype_of(spec.dtype), shape_of(spec.axes, reader.batch_size, steps));
    memory.push_back(inputs.back().data<void>());
  }
  if (contract.lengths) {
    lengths.emplace(LSTM_EDGE_INT64, Shape{reader.batch_size});
    std::fill(lengths->data<int64_t>(), lengths->data<int64_t>() + reader.batch_size, steps);
  }
}

KeepingCalls::KeepingCalls(const Session& session, const PieceReader& reader, StateBlocks& blocks,
                           Conditions& conditions)
    : session_(session),
      contract_(session.contract),
      reader_(reader),
      blocks_(blocks),
      conditions_(conditions),
      not_ended_(LSTM_EDGE_INT64, {1}) {
  for (const TensorSpec& spec : contract_.outputs) names_.push_back(spec.name);
  for (const StateSpec& spec : contract_.states) names_.push_back(spec.output);
  plans_.reserve(kMostPlans + 1);
}

KeepingPlan& KeepingCalls::plan(int64_t steps, int64_t gives) {
  const auto same = [&](const auto& plan) { return plan->steps == steps && plan->gives == gives; };
  const auto found = std::find_if(plans_.begin(), plans_.end(), same);
  if (found != plans_.end()) {
    std::rotate(plans_.begin(), found, found + 1);
    return *plans_[0];
  }
  auto made = std::make_unique<KeepingPlan>(contract_, reader_, steps, gives);
  if (plans_.size() == kMostPlans) plans_.pop_back();
  plans_.insert(plans_.begin(), std::move(made));
  return *plans_[0];
}

void KeepingCalls::run(KeepingPlan& plan, int64_t at) {
  if (plan.bindings.empty()) {
    run_unbound(plan, at);
    bind(plan);
    return;
  }
  try {
    plan.bindings[blocks_.now()]->run();
  } catch (const Error&) {
    run_unbound(plan, at);  // refuses with Python's sentence, which is that of a run without bindings
  }
  if (!blocks_.next_is_finite()) {
    fail(LSTM_EDGE_INPUT,
         "step " + number(at) + ": the new state is not finite: it was discarded, and the old state was kept");
  }
}

void KeepingCalls::run_unbound(KeepingPlan& plan, int64_t at) {
  const std::vector<Array> state = blocks_.copy(blocks_.now());
  std::vector<Array> answers = run({state, plan.inputs, conditions_.live, plan.steps, false, at});
  check_answers(answers, plan.steps, plan.gives, at);
  std::vector<Array> states;
  for (size_t i = contract_.outputs.size(); i < answers.size(); ++i) states.push_back(std::move(answers[i]));
  answers.resize(contract_.outputs.size());
  blocks_.set(blocks_.next(), states);
  if (plan.outputs.empty()) {
    plan.outputs = std::move(answers);
    return;
  }
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    std::memcpy(plan.outputs[i].data<void>(), answers[i].data<void>(), plan.outputs[i].bytes());
  }
}

// Lends the buffers of a plan, whose outputs are those of its first call, so that the graph says how large they are.
void KeepingCalls::bind(KeepingPlan& plan) {
  const int64_t rows = reader_.batch_size;
  std::vector<Shape> shapes, row_shapes;
  for (const TensorSpec& spec : contract_.outputs) {
    shapes.push_back(answer_shape(spec.axes, plan.gives, rows, false, true));
    row_shapes.push_back(answer_shape(spec.axes, plan.gives, rows, rows == 1, true));
  }
  plan.answer.show(plan.outputs, shapes);
  plan.row_answer.show(plan.outputs, row_shapes);
  std::vector<std::unique_ptr<Binding>> bindings;
  for (size_t block = 0; block < blocks_.count(); ++block) {
    std::vector<Lent> given, taken;
    for (size_t k = 0; k < reader_.moving.size(); ++k) {
      given.push_back(lent_of(contract_.inputs[reader_.moving[k]].name, plan.inputs[k]));
    }
    for (size_t k = 0; k < reader_.conditions.size(); ++k) {
      given.push_back(lent_of(contract_.inputs[reader_.conditions[k]].name, conditions_.live[k]));
    }
    if (contract_.lengths) given.push_back(lent_of(*contract_.lengths, *plan.lengths));
    if (contract_.end) given.push_back(lent_of(*contract_.end, not_ended_));
    for (size_t i = 0; i < plan.outputs.size(); ++i) {
      taken.push_back(lent_of(contract_.outputs[i].name, plan.outputs[i]));
    }
    blocks_.lend(block, given, taken);
    bindings.push_back(session_.graph->bind(given, taken));
  }
  plan.bindings = std::move(bindings);
}

std::vector<Array> KeepingCalls::run(const KeepingCall& call) const {
  std::vector<Lent> feeds;
  const auto feed = [&](const std::string& name, const Array& array) {
    feeds.push_back(lent_of(name, view_of(name, array)));
  };
  for (size_t i = 0; i < call.state.size(); ++i) feed(contract_.states[i].input, call.state[i]);
  for (size_t k = 0; k < call.inputs.size(); ++k) feed(contract_.inputs[reader_.moving[k]].name, call.inputs[k]);
  for (size_t k = 0; k < call.conditions.size(); ++k)
    feed(contract_.inputs[reader_.conditions[k]].name, call.conditions[k]);
  Array lengths, ends(LSTM_EDGE_INT64, {1});
  if (contract_.lengths) {
    lengths = Array(LSTM_EDGE_INT64, {reader_.batch_size});
    std::fill(lengths.data<int64_t>(), lengths.data<int64_t>() + reader_.batch_size, call.steps);
    feed(*contract_.lengths, lengths);
  }
  if (contract_.end) {
    *ends.data<int64_t>() = call.end ? 1 : 0;
    feed(*contract_.end, ends);
  }
  std::vector<Array> answers;
  const std::string at = "step " + number(call.at) + ": ";
  try {
    answers = session_.graph->run(feeds, names_);
  } catch (const Error& error) {
    fail(error.status, at + "onnxruntime refused this input, the state is unchanged: " + error.message);
  }
  check_finite_states(answers, call.at);
  return answers;
}

void KeepingCalls::check_answers(const std::vector<Array>& answers, int64_t steps, int64_t gives, int64_t at) const {
  check_finite_states(answers, at);
  if (shapes_agree(answers, gives)) return;
  check_shapes(answers);
  const std::optional<int64_t> counted = count_steps(answers);
  fail(LSTM_EDGE_CARD, "model card: by card.streaming " + number(steps) + " input steps give " + number(gives) +
                           " output steps, the graph gave " + (counted ? number(*counted) : "None"));
}

void KeepingCalls::check_finite_states(const std::vector<Array>& answers, int64_t at) const {
  for (size_t i = contract_.outputs.size(); i < answers.size(); ++i) {
    if (all_finite(view_of("", answers[i]))) continue;
    fail(LSTM_EDGE_INPUT,
         "step " + number(at) + ": the new state is not finite: it was discarded, and the old state was kept");
  }
}

bool KeepingCalls::shapes_agree(const std::vector<Array>& answers, int64_t gives) const {
  const size_t outputs = contract_.outputs.size();
  for (size_t i = 0; i < answers.size(); ++i) {
    const Shape expected = i < outputs ? shape_of(contract_.outputs[i].axes, reader_.batch_size, gives)
                                       : state_shape(contract_.states[i - outputs], reader_.batch_size);
    if (answers[i].shape != expected) return false;
  }
  return true;
}

void KeepingCalls::check_shapes(const std::vector<Array>& answers) const {
  const size_t outputs = contract_.outputs.size();
  const auto check = [&](const std::string& name, const Shape& got, const Axes& axes) {
    bool right = got.size() == axes.size();
    for (size_t k = 0; right && k < axes.size(); ++k) {
      right = axes[k] == Axis(got[k]) || axes[k] == Axis(std::string(kTime));
    }
    if (right) return;
    fail(LSTM_EDGE_CARD, "model card: the graph gave " + repr(name) + " with shape " + shape_text(got) + ", expected " +
                             axes_text(axes));
  };
  for (size_t i = 0; i < contract_.states.size(); ++i) {
    const Shape shape = state_shape(contract_.states[i], reader_.batch_size);
    check(contract_.states[i].output, answers[outputs + i].shape, Axes(shape.begin(), shape.end()));
  }
  for (size_t i = 0; i < outputs; ++i) {
    Axes axes = contract_.outputs[i].axes;
    for (Axis& axis : axes) {
      if (axis == Axis(std::string(kBatch))) axis = reader_.batch_size;
    }
    check(contract_.outputs[i].name, answers[i].shape, axes);
  }
}

std::optional<int64_t> KeepingCalls::count_steps(const std::vector<Array>& answers) const {
  std::optional<int64_t> count;
  std::vector<std::string> found;
  bool agree = true;
  for (size_t i = 0; i < contract_.outputs.size(); ++i) {
    const TensorSpec& spec = contract_.outputs[i];
    if (!has_axis(spec.axes, kTime)) continue;
    const int64_t steps = answers[i].shape[time_axis(spec.axes)];
    agree = agree && (!count || *count == steps);
    if (!count) count = steps;
    found.push_back(number(steps) + " in " + repr(spec.name));
  }
  if (!agree) {
    fail(LSTM_EDGE_CARD,
         "model card: by card.streaming all outputs have the same steps, the graph gave " + joined(found));
  }
  return count;
}

}  // namespace lstm_edge::device
