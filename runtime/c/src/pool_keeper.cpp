#include "pool_keeper.h"

#include <algorithm>

#include "checks.h"
#include "stepping.h"
#include "steps.h"

namespace lstm_edge::device {
namespace {

Moment start_of(const Contract& contract) {
  Moment start;
  for (const StateSpec& spec : contract.states) start.state.emplace_back(dtype_of(spec.dtype), state_shape(spec, 1));
  return start;
}

}  // namespace

PoolKeeper::PoolKeeper(const Session& session, const PieceReader& reader, const KeepingCalls& calls)
    : contract_(session.contract),
      streaming_(session.card.streaming),
      reader_(reader),
      calls_(calls),
      keeps_call_(streaming_.end.has_value() || streaming_.every > 1),
      now_(start_of(contract_)),
      answer_(contract_.outputs) {}

PlannedPush PoolKeeper::plan(const lstm_edge_array* inputs, size_t count) const {
  if (now_.ended) fail(LSTM_EDGE_STREAMING, kEnded);
  std::vector<View> given;
  for (size_t i = 0; i < count; ++i) given.push_back(view_of(inputs[i]));
  const std::vector<View> views = reader_.read(std::move(given), now_.conditions, now_.steps);
  PlannedPush push;
  push.lacks_batch = (reader_.find_form(views, push.steps) & kLacksBatch) != 0;
  for (size_t i : reader_.moving) check_step_finite(contract_.inputs[i].name, views[i], now_.steps);
  for (size_t i : reader_.conditions) push.conditions.push_back(copy_of(views[i]));
  std::vector<Shape> shapes;
  std::vector<View> moving;
  for (size_t i : reader_.moving) shapes.push_back(shape_of(contract_.inputs[i].axes, 1, push.steps));
  for (size_t k = 0; k < shapes.size(); ++k) {
    View view = views[reader_.moving[k]];
    view.shape = shapes[k].data();
    view.rank = shapes[k].size();
    moving.push_back(view);
  }
  push.inputs = joined(now_.kept, moving);
  push.available = now_.kept_steps + push.steps;
  push.count = ready_steps(streaming_, push.available, now_.begun);
  if (push.count == 0) return push;
  push.gives = given_steps(streaming_, push.count, now_.begun);
  if (push.available > push.count) {
    push.kept = cut(push.inputs, push.count, push.available);
    push.inputs = cut(push.inputs, 0, push.count);
  }
  return push;
}

const lstm_edge_array* PoolKeeper::keep(PlannedPush push) {
  std::vector<Array> arrays;
  for (const TensorSpec& spec : contract_.outputs) {
    arrays.emplace_back(dtype_of(spec.dtype), answer_shape(spec.axes, 0, 1, push.lacks_batch, false));
  }
  const lstm_edge_array* answer = deliver(std::move(arrays), 0, push.lacks_batch, false);
  now_.steps += push.steps;
  now_.lacks_batch = push.lacks_batch;
  now_.kept = std::move(push.inputs);
  now_.kept_steps = push.available;
  now_.conditions = std::move(push.conditions);
  return answer;
}

const lstm_edge_array* PoolKeeper::take(PlannedPush push, std::vector<Array> answers) {
  calls_.check_answers(answers, push.count, push.gives, now_.steps);
  std::vector<Array> state;
  for (size_t i = contract_.outputs.size(); i < answers.size(); ++i) state.push_back(std::move(answers[i]));
  answers.resize(contract_.outputs.size());
  std::optional<LastCall> last;
  if (keeps_call_) {
    last.emplace();
    last->conditions = clone(push.conditions);
  }
  const lstm_edge_array* answer = deliver(std::move(answers), push.gives, push.lacks_batch, true);
  // From here on nothing fails.
  if (last) {
    last->begun = now_.begun;
    last->before = std::move(now_.state);
    last->inputs = std::move(push.inputs);
    last->gave = push.gives;
  }
  now_.state = std::move(state);
  now_.steps += push.steps;
  now_.begun = true;
  now_.lacks_batch = push.lacks_batch;
  now_.kept = std::move(push.kept);
  now_.kept_steps = push.available - push.count;
  now_.call = std::move(last);
  now_.conditions = std::move(push.conditions);
  return answer;
}

void PoolKeeper::refuse(const Error& error) const {
  fail(error.status, "step " + std::to_string(now_.steps) +
                         ": onnxruntime refused this input, the state is unchanged: " + error.message);
}

void PoolKeeper::reset() { now_ = start_of(contract_); }

// New arrays: the later steps after the earlier ones, of which there may be none.
std::vector<Array> PoolKeeper::joined(const std::vector<Array>& early, const std::vector<View>& late) const {
  std::vector<Array> arrays;
  for (size_t k = 0; k < late.size(); ++k) {
    const size_t axis = time_axis(contract_.inputs[reader_.moving[k]].axes);
    arrays.push_back(early.empty() ? copy_of(late[k]) : joined_steps(view_of("", early[k]), late[k], axis));
  }
  return arrays;
}

std::vector<Array> PoolKeeper::cut(const std::vector<Array>& arrays, int64_t start, int64_t stop) const {
  std::vector<Array> parts;
  for (size_t k = 0; k < arrays.size(); ++k) {
    const size_t axis = time_axis(contract_.inputs[reader_.moving[k]].axes);
    parts.push_back(steps_of(view_of("", arrays[k]), axis, start, stop));
  }
  return parts;
}

const lstm_edge_array* PoolKeeper::deliver(std::vector<Array> outputs, int64_t steps, bool lacks_batch, bool called) {
  std::vector<Shape> shapes;
  for (const TensorSpec& spec : contract_.outputs) {
    shapes.push_back(answer_shape(spec.axes, steps, 1, lacks_batch, called));
  }
  answer_.show(outputs, shapes);
  delivered_ = std::move(outputs);
  return answer_.shown();
}

}  // namespace lstm_edge::device
